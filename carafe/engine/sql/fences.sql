-- The fences under which these jobs run now, to hand back claims whose replies were lost.
select id, fence, kind from carafe.jobs where id = any(:ids::uuid[]) and state || '' = 'running'
