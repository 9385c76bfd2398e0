-- For each of these jobs, a value that changes whenever the job's page may have changed. It is made from the job's row, its
-- last log line, the last action on it and the last question where it is. For a waiting job it also changes every five
-- seconds, since the reason for the wait may have changed.
select j.id, md5(row(j.state, j.attempt, j.fence, j.progress, j.progress_note, j.cancel_requested_at, j.due_at, j.suspect,
        j.max_attempts, case when j.state <> 'running' then floor(extract(epoch from now()) / 5) end, l.last, a.at,
        (select row(s.requested_at, s.answered_at) from carafe.stacks s where s.job_id = j.id))::text
    ) as version
from carafe.jobs j
left join lateral (
    select g.fence, g.last from carafe.job_logs g where g.job_id = j.id order by g.fence desc, g.first desc limit 1
) as l on true
left join lateral (
    select b.at from carafe.audit b where b.target = j.id::text order by b.at desc limit 1
) as a on true
where j.id = any(:ids::uuid[])
union all
select j.id, md5(row(j.state, j.ended_at, j.resolved_at, l.last, a.at)::text)
from carafe.jobs_ended j
left join lateral (
    select g.fence, g.last from carafe.job_logs g where g.job_id = j.id order by g.fence desc, g.first desc limit 1
) as l on true
left join lateral (
    select b.at from carafe.audit b where b.target = j.id::text order by b.at desc limit 1
) as a on true
where j.id = any(:ids::uuid[])
