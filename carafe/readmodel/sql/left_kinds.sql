-- Kinds of queued jobs that no worker can run, because none knows the kind or such a new version of its arguments; found
-- among `limit` jobs. `version` is the newest version of these jobs; `known` says whether a worker knows the kind.
select kind, count(*) as number, min(due_at) as since, max(version) as version, kind = any (:kinds::text[]) as known
from (
    select kind, version, due_at from carafe.jobs
    where state = 'queued' and queue = :queue and hinted_at > now() order by hinted_at desc limit :limit
) as later
where not exists (
    select from unnest(:kinds::text[], :versions::integer[]) as k(kind, version)
    where k.kind = later.kind and k.version >= later.version
)
group by 1 order by number desc, kind limit 3
