-- The running bulk action that has waited longest for its next batch, if any may have one now.
select id, action from carafe.bulk_actions
where state = 'running' and next_at <= clock_timestamp()
order by next_at limit 1
