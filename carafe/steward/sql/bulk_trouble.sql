-- Records why a batch failed as a whole, and lets other bulk actions go first.
update carafe.bulk_actions
set last_error = cast(:error as text), updated_at = now(), next_at = clock_timestamp() + interval '5 seconds'
where id = :id and state = 'running'
