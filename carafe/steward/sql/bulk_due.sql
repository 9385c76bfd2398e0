-- Of the running bulk actions that may do a batch now, the one that has waited longest. No row if there is none.
select id, action from carafe.bulk_actions
where state = 'running' and next_at <= clock_timestamp()
order by next_at limit 1
