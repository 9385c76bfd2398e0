-- Drops a day partition of ended jobs. Returns false if another session is using it, so that no session has to wait behind
-- this one for long.
select carafe.drop_partition(cast(:name as text))
