"""Runs ANALYZE on the table of live jobs when Postgres's planner is wrong about their number by `FACTOR` or more.

A queue may be empty in one minute and full in the next, and autovacuum looks once a minute at best. So the steward compares
the planner's number with the last number that it counted itself (`carafe.steward.gauges`). The ANALYZE helps the statements
of pages and of applications. Carafe's own statements need it only behind a transaction pooler (docs/plans.md): there the
ANALYZE makes every connection forget its cached plans.

Guarantees: there is at most one ANALYZE in `REST` seconds by Postgres's own clock, even if the leader changes; the ANALYZE
waits for no lock.
"""

from typing import ClassVar

from carafe.steward.service import Service, log
from carafe.steward.statements import STALE_STATISTICS
from carafe.store.database import Database

FACTOR = 10.0
"""The table is analyzed when the planner's number of live jobs and the sampled number differ by this factor or more."""

LEAST = 1_000.0
"""In this comparison a number of jobs below 1,000 counts as 1,000, since small tables need no exact statistics."""

REST = 30.0
"""For this many seconds after an ANALYZE (by the steward or by autovacuum) the steward makes no other."""


class Analyzer(Service):
    """The service that runs ANALYZE on the table of live jobs when the planner is far wrong about their number."""

    name = "analyzer"
    interval: ClassVar[float] = 5.0

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database
        self.analyzed = 0
        self._complained = False

    async def work(self) -> bool:
        async with self._database.connection() as connection:
            stale = await STALE_STATISTICS.fetchrow(connection, factor=FACTOR, least=LEAST, seconds=REST)
            if stale is None:
                return False
            if stale["allowed"]:
                await connection.execute("analyze (skip_locked) carafe.jobs")
                self.analyzed += 1
                log.debug("live jobs analyzed", jobs=int(stale["jobs"]), believed=int(stale["believed"]))
            elif not self._complained:
                self._complained = True
                log.warning(
                    "statistics of carafe.jobs are old, and this user may not ANALYZE it: make it the owner of the table, or"
                    " on PostgreSQL 17 and later `grant maintain on carafe.jobs`; until then only autovacuum does this",
                    jobs=int(stale["jobs"]),
                    believed=int(stale["believed"]),
                )
        return False
