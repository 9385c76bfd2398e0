-- Jobs that have run under a worker since before `since`, according to their rows, although the worker neither holds them
-- (`ids`) nor is claiming them (`claiming`): the replies to their claims were lost. The statement reads the index entries of
-- all jobs that this worker has claimed since the last vacuum. So it runs less often when these are many
-- (carafe.engine.heartbeat).
select id, fence from carafe.jobs
where worker = :id and state = 'running' and started_at < :since::timestamptz
    and (id in (select unnest(:ids::uuid[]))) is not true and (id in (select unnest(:claiming::uuid[]))) is not true
