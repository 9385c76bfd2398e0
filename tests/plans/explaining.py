"""What Postgres does for a statement: EXPLAIN (ANALYZE, BUFFERS) of the statement with its values, rolled back afterwards.

A custom plan knows the values, a generic one does not; asyncpg prepares every statement, so that Postgres chooses between
the two after five executions. `Prepared` keeps a generic plan from one moment for another: what a connection does that has
been open since then.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import orjson

from carafe.store.statement import Statement

Kind = Literal["custom", "generic"]

_NUMBERS = itertools.count()


@dataclass(frozen=True, slots=True)
class Cost:
    """What one execution read: rows over all nodes of the plan (those thrown away too, and once for every loop), and
    buffers."""

    rows: float
    buffers: int
    plan: Mapping[str, Any]


class Prepared:
    """A statement prepared on one connection, under a name of its own."""

    def __init__(self, connection: Any, statement: Statement, kind: Kind) -> None:
        self._connection, self._statement, self._kind = connection, statement, kind
        self._name = f"prepared_{next(_NUMBERS)}"

    async def prepare(self) -> "Prepared":
        await self._connection.execute(f"prepare {self._name} as {self._statement.numbered}")
        return self

    async def forget(self) -> None:
        await self._connection.execute(f"deallocate {self._name}")

    async def cost(self, values: Mapping[str, Any]) -> Cost:
        """Execute it within a transaction that is rolled back, and see."""
        given = ", ".join(_literal(value) for value in self._statement.arguments(values))
        await self._connection.execute(f"set plan_cache_mode = force_{self._kind}_plan")
        execute = f"execute {self._name}({given})" if given else f"execute {self._name}"
        transaction = self._connection.transaction()
        await transaction.start()
        try:
            answer = await self._connection.fetchval(f"explain (analyze, buffers, timing off, format json) {execute}")
        finally:
            await transaction.rollback()
        plan = orjson.loads(answer)[0]["Plan"]
        return Cost(_rows(plan), _buffers(plan), plan)


async def cost(connection: Any, statement: Statement, values: Mapping[str, Any], kind: Kind) -> Cost:
    """What the statement costs with a plan that is made now."""
    prepared = await Prepared(connection, statement, kind).prepare()
    try:
        return await prepared.cost(values)
    finally:
        await prepared.forget()


def _rows(plan: Mapping[str, Any]) -> float:
    removed = sum(
        plan.get(name, 0)
        for name in ("Rows Removed by Filter", "Rows Removed by Join Filter", "Rows Removed by Index Recheck")
    )
    below = sum(_rows(child) for child in plan.get("Plans", ()))
    # `Actual Rows` and what was removed are per loop.
    return float((plan["Actual Rows"] + removed) * plan["Actual Loops"] + below)


def _buffers(plan: Mapping[str, Any]) -> int:
    """Of the node and all below. A node's own number has its children's in it, but for CTEs that are run to their end after
    everything else."""
    below = sum(_buffers(child) for child in plan.get("Plans", ()))
    return max(below, int(plan.get("Shared Hit Blocks", 0) + plan.get("Shared Read Blocks", 0)))


def _literal(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str | UUID | datetime):
        return "'" + str(value).replace("'", "''") + "'"
    if isinstance(value, Sequence):
        return "'{" + ",".join(_element(item) for item in value) + "}'"
    raise TypeError(f"no literal for {value!r}")


def _element(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "t" if value else "f"
    return '"' + str(value).replace("'", "''") + '"'
