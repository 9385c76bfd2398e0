-- The workers that should be alive, with their last beat, and those gone with rows still running under them; those that
-- ended a day ago are forgotten.
with forgotten as (
    delete from carafe.workers where stopped_at < now() - interval '1 day'
        and not exists (select from carafe.jobs j where j.worker = workers.id and j.state = 'running')
)
select id, name, incarnation, beat_at, state from carafe.workers
where state in ('running', 'draining')
    or exists (select from carafe.jobs j where j.worker = workers.id and j.state = 'running')
