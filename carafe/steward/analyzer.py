"""Analyzes the live jobs when the planner's idea of their number is a factor apart from the last sample.

A queue is empty in one minute and full in the next, and autovacuum looks once a minute at best. Carafe's own statements need
no statistics (docs/plans.md), but behind a transaction pooler: it lets every connection forget the plans that it has kept.
It serves also the statements of pages and of applications.

Guarantees: at most one ANALYZE in `REST` seconds by Postgres's own clock, whoever leads; it waits for nobody's lock.
"""

from typing import ClassVar

from carafe.database import Database
from carafe.jobs.statements import STALE_STATISTICS
from carafe.steward.service import Service, log

FACTOR = 10.0
"""How far apart the two numbers are."""

LEAST = 1_000.0
"""Numbers below are taken for this: small tables need no statistics."""

REST = 30.0
"""Seconds after an ANALYZE, ours or autovacuum's, in which there is none."""


class Analyzer(Service):
    """See the module."""

    name = "analyzer"
    interval: ClassVar[float] = 5.0

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database
        self.analyzed = 0
        self._complained = False

    async def work(self) -> bool:
        arguments = STALE_STATISTICS.arguments(factor=FACTOR, least=LEAST, seconds=REST)
        async with self._database.connection() as connection:
            stale = await connection.fetchrow(STALE_STATISTICS.positional, *arguments)
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
                    " on PostgreSQL 17 and later `grant maintain on carafe.jobs`; until then autovacuum sees to it",
                    jobs=int(stale["jobs"]),
                    believed=int(stale["believed"]),
                )
        return False
