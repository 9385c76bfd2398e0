-- Writes audit rows, which say who did what: one for each of `rows` (a JSON array of id, target, details), within the
-- transaction of the action itself.
insert into carafe.audit (id, actor, via, action, target, reason, details, bulk)
select g.id, cast(:actor as text), cast(:via as text), cast(:action as text), g.target, cast(:reason as text),
    coalesce(g.details, '{}'), cast(:bulk as uuid)
from json_to_recordset(cast(:rows as json)) as g(id uuid, target text, details jsonb)
