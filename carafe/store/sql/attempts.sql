-- The newest 200 failed attempts of one job, oldest first. Of their texts, it returns half a million characters, those of
-- the newest attempts. Where `cut` is true, the error is shortened and the traceback is left out.
with newest as (
    select attempt, cause, error_class, worker, worker_name, started_at, ended_at,
        case when length(error) > 10000 then left(error, 9999) || '…' else error end as error,
        case when length(traceback) > 20000 then '…' || right(traceback, 19999) else traceback end as traceback
    from carafe.attempts where job_id = :job_id
    order by attempt desc, ended_at desc limit 201
),
summed as (
    select *, sum(length(error) + coalesce(length(traceback), 0)) over (
        order by attempt desc, ended_at desc rows unbounded preceding) > 500000 as cut,
        row_number() over (order by attempt desc, ended_at desc) as place, count(*) over () as number
    from newest
)
select attempt, cause, error_class, case when cut then left(error, 200) else error end as error,
    case when not cut then traceback end as traceback, worker, worker_name, started_at, ended_at,
    cut or number > 200 as cut
from summed where place <= 200 order by attempt, ended_at
