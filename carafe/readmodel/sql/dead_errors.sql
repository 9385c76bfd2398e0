-- The errors of some dead jobs. The times of their ends lead to the partitions of those days.
select d.id, d.error_class, left(d.error, 1000) as error
from unnest(:ids::uuid[], :ends::timestamptz[]) as g(id, ended_at)
join carafe.jobs_dead d on d.ended_at = g.ended_at and d.id = g.id
