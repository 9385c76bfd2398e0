-- Deletes the failed attempts of a page of ended jobs, before the partition of these jobs is dropped. The jobs come in the
-- order of their ends, after a cursor. Returns the next cursor, or no row if there are no more jobs.
with page as (
    (
        select id, ended_at, attempt, state from carafe.jobs_dead
        where cast(:dead as boolean) and ended_at >= cast(:after as timestamptz)
            and ended_at < cast(:ends as timestamptz) and (ended_at, id) > (cast(:after as timestamptz), cast(:after_id as uuid))
        order by ended_at, id limit cast(:limit as integer)
    )
    union all
    (
        select id, ended_at, attempt, state from carafe.jobs_done
        where not cast(:dead as boolean) and ended_at >= cast(:after as timestamptz)
            and ended_at < cast(:ends as timestamptz) and (ended_at, id) > (cast(:after as timestamptz), cast(:after_id as uuid))
        order by ended_at, id limit cast(:limit as integer)
    )
),
forgotten as (
    delete from carafe.attempts
    where job_id in (select id from page where attempt > case when state = 'succeeded' then 1 else 0 end)
    returning job_id
)
select ended_at, id, (select count(*) from forgotten) as forgotten from page order by ended_at desc, id desc limit 1
