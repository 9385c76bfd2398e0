-- What runs under a worker since before `since` and is neither in its hands (`ids`) nor being claimed (`claiming`): claims
-- whose replies were lost. It passes the index entries of all that this worker has claimed since the last vacuum, so it is
-- asked less often when these are many (carafe.engine.heartbeat).
select id, fence from carafe.jobs
where worker = :id and state = 'running' and started_at < :since::timestamptz
    and (id in (select unnest(:ids::uuid[]))) is not true and (id in (select unnest(:claiming::uuid[]))) is not true
