"""Two million finished jobs for carafe, of the kind that the drain runs and in the partition that it writes to.

The worst place for them to be: every index of that partition is as deep as it gets. They are made once a run, as a
template database that is copied for each repeat.
"""

from benchmarks.servers import Servers

TEMPLATE = "template carafe history"

# Ends are spread evenly over today (UTC) so far, and the ids carry the time at which each job was made.
_FILL = """
insert into carafe.jobs_ended (id, kind, queue, state, args, version, attempt, max_attempts, fence, snoozes, releases,
    timeout, created_at, due_at, started_at, ended_at, result)
select uuidv7(at - interval '2 seconds' - now()), 'bench.noop', 'default', 'succeeded', '{"x": 1}', 1, 1, 4, 1, 0, 0,
    300, at - interval '2 seconds', at - interval '2 seconds', at - interval '1 millisecond', at, '{"ok": true}'
from generate_series(1, %(jobs)s) number,
    lateral (select date_trunc('day', now(), 'UTC') as midnight) today,
    lateral (select midnight + (now() - midnight) * (number::float8 / %(jobs)s) as at) ended
"""


def template(servers: Servers, plain: str, jobs: int) -> str:
    """The name of a database like `plain` with `jobs` finished jobs in it; made at the first call."""
    if not servers.exists(TEMPLATE):
        servers.create(TEMPLATE, plain)
        with servers.connect(TEMPLATE) as connection:
            connection.execute(_FILL, {"jobs": jobs})
            # That table alone: the live one stays as unanalyzed as in the drain that this is compared with.
            connection.execute("vacuum analyze carafe.jobs_ended")
    return TEMPLATE
