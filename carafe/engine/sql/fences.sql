-- The present fences of these running jobs, in order to hand back claims whose replies were lost.
select id, fence, kind from carafe.jobs where id = any(:ids::uuid[]) and state || '' = 'running'
