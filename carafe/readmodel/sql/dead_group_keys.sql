-- The groups of unresolved dead jobs. The statement steps in the index from each group to the next, however many jobs a
-- group has.
with recursive groups as (
    (select kind, error_fingerprint from carafe.jobs_dead where resolved_at is null
     order by kind, error_fingerprint limit 1)
    union all
    select following.kind, following.error_fingerprint
    from groups g
    cross join lateral (
        select d.kind, d.error_fingerprint from carafe.jobs_dead d
        where d.resolved_at is null and (d.kind, d.error_fingerprint) > (g.kind, g.error_fingerprint)
        order by d.kind, d.error_fingerprint limit 1
    ) as following
)
select kind, error_fingerprint as fingerprint from groups where error_fingerprint is not null limit :limit
