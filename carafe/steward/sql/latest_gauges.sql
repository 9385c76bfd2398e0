-- The newest sample of every queue, if it is at most a minute and a half old. (While the backlog is large, samples are taken
-- less often.)
select distinct on (queue) at, queue, queued, held, running, scheduled, retrying, dead, oldest_wait, paused, workers, slots
from carafe.gauges where at > now() - interval '90 seconds' order by queue, at desc
