"""The broken builds. Each takes away one thing that a promise rests on, in the process that calls it.

A statement is changed in place, and only if it holds what is to be taken away: when the SQL changes, the broken build says
so instead of passing for the real one.
"""

import itertools
import re
from collections.abc import Callable, Sequence
from typing import Any

from carafe.store.statement import Statement
from carafe.store.statements import CLAIM, FINISH, SETTLE


def _change(statement: Statement, pattern: str, replacement: str) -> None:
    for field in ("text", "numbered"):
        changed, count = re.subn(pattern, replacement, getattr(statement, field))
        if not count:
            raise RuntimeError(f"{statement.name}.sql has nothing like {pattern!r} any more: mend this broken build")
        object.__setattr__(statement, field, changed)


def no_fence() -> None:
    """An end is written no matter who owns the job by now."""
    _change(FINISH, r"and \(\(j\.id, j\.fence\) in \(select id, fence from given\)\) is true", "")
    _change(FINISH, r"and g\.fence = e\.fence", "")


def no_repair() -> None:
    """A hint that Redis has lost stays lost."""
    from carafe.steward.repairer import Repairer

    async def nothing(self: Repairer) -> None:
        self.rounds += 1
        self.round_done.set()

    Repairer.round = nothing  # type: ignore[method-assign]


def two_transactions() -> None:
    """A job's change of state and its hooks are committed one after the other."""
    from carafe import State
    from carafe.store import transitions

    async def apart(database: Any, items: Sequence[Any], run: Any, states: Sequence[Any]) -> list[Any]:
        async with database.hooked() as transaction:
            rows = list(await run(transaction.connection, items))
        async with database.hooked() as transaction:
            for row in rows:
                if row.get("state", State.RUNNING) in states:
                    await transitions.run_hooks(transaction, row)
        return rows

    transitions._with_hooks = apart


def forgetful_release() -> None:
    """A job that is handed back is queued, and nobody is ever told."""
    from carafe.engine.hint_returns import HintReturns

    _change(SETTLE, r"then clock_timestamp\(\)", "then null")

    async def push_back(self: HintReturns, messages: Sequence[bytes]) -> None:
        return None

    HintReturns._push_back = push_back  # type: ignore[method-assign]


def greedy_claim() -> None:
    """A claim takes a job in whatever state it is."""
    _change(CLAIM, r"and state || '' = 'queued'", "")


def dropped_ends() -> None:
    """An end that an unexpected error keeps from being written is forgotten, and its job is found unheld."""
    from carafe.engine.ledger import Ledger
    from carafe.engine.writer import Writer

    write = Ledger._write_succeeded
    turns = itertools.count(1)

    async def stumbles(self: Ledger, ends: Sequence[Any]) -> None:
        # The error is the fault that is injected; what is broken is what becomes of the ends.
        if next(turns) % 4 == 0:
            raise KeyError("an unexpected fault")
        await write(self, ends)

    def forget(self: Writer, left: Sequence[Any]) -> None:
        self._holdings.drop([end.claim for end, _ in left])
        self._intake.settle(len(left))

    Ledger._write_succeeded = stumbles  # type: ignore[method-assign]
    Writer._keep = forget  # type: ignore[method-assign]


BUILDS: dict[str, Callable[[], None]] = {
    build.__name__: build for build in (no_fence, no_repair, two_transactions, forgetful_release, greedy_claim, dropped_ends)
}
