-- Bulk actions: first those under way, then the newest. If more than a hundred jobs were selected, the filter has their
-- number and not their ids.
select id, action, cutoff, rate, actor, via, reason, state, matched, matched_estimated, done, skipped, failed, last_error,
    created_at, ended_at,
    case when length(filter::text) <= 5000 then filter
        else (filter - 'ids') || jsonb_build_object('ids', matched || ' jobs') end as filter
from (
    (select * from carafe.bulk_actions where ended_at is null order by created_at desc, id desc limit :limit)
    union
    (select * from carafe.bulk_actions order by created_at desc, id desc limit :limit)
) as found
order by ended_at is not null, created_at desc, id desc limit :limit
