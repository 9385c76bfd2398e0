"""The kinds in numbers: what ended of each in the last hour, and which are paused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from carafe.jobs.records import Count, KindRecord
from carafe.jobs.states import State
from carafe.readmodel.histograms import merge, percentile
from carafe.readmodel.statements import KIND_ENDED, KINDS_ENDED, LIVE_BY_KIND
from carafe.store.database import Connection
from carafe.store.paused_kinds import pause_of, paused_kinds
from carafe.store.statements import KNOWN_KINDS

COUNTED = 10_000
"""The maximum number of queued jobs, and of running jobs, that are counted by kind."""


@dataclass(frozen=True, slots=True)
class KindFigures:
    """A kind in numbers: its queued and running jobs now, and what ended in the last hour (to ten minutes). `queued` and
    `running` are estimated, as lower bounds, if more than `COUNTED` jobs of that state are live. `handled` says whether a
    live worker has a handler for it; None if no worker is alive. `retried` and `dead` count failed attempts: those after
    which the job waits for its next attempt, and those after which it is dead. `run_mean` is in seconds; None if nothing
    ended. `paused` is None if the kind is not paused."""

    kind: str
    queued: Count
    running: Count
    succeeded: int
    retried: int
    dead: int
    run_mean: float | None
    paused: KindRecord | None
    handled: bool | None


@dataclass(frozen=True, slots=True)
class KindView:
    """One kind. The numbers are as in `KindFigures`; the percentiles, in seconds, are of the wait until an attempt that
    succeeded started, and of the run time of all attempts. `handled` says whether a live worker has a handler for it."""

    kind: str
    succeeded: int
    retried: int
    dead: int
    cancelled: int
    wait_p50: float | None
    wait_p95: float | None
    run_p50: float | None
    run_p95: float | None
    paused: KindRecord | None
    handled: bool

    @property
    def failed_share(self) -> float | None:
        """The share of attempts that failed, from 0 to 1; None if no attempt ended."""
        attempts = self.succeeded + self.retried + self.dead
        return (self.retried + self.dead) / attempts if attempts else None


async def all_figures(connection: Connection, known: Sequence[str]) -> tuple[KindFigures, ...]:
    """Returns the figures of the kinds in `known`, and of all others that are paused, of which jobs are live or of which
    something ended. Paused ones come first, otherwise the order is alphabetical. Raises what the database raises."""
    ended: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in await KINDS_ENDED.fetch(connection):
        ended.setdefault(row["kind"], {})[row["outcome"]] = row
    paused = {record.kind: record for record in await paused_kinds(connection)}
    handled = {row["kind"] for row in await KNOWN_KINDS.fetch(connection)}
    rows = await LIVE_BY_KIND.fetch(connection, limit=COUNTED)
    live = {(row["state"], row["kind"]): row["number"] for row in rows}
    cut = {row["state"] for row in rows if row["seen"] >= COUNTED}

    def now(state: State, kind: str) -> Count:
        return Count(live.get((state, kind), 0), state in cut)

    found = {*known, *ended, *paused, *(kind for _, kind in live)}
    return tuple(
        _figures(
            kind,
            ended.get(kind, {}),
            queued=now(State.QUEUED, kind),
            running=now(State.RUNNING, kind),
            paused=paused.get(kind),
            handled=kind in handled if handled else None,
        )
        for kind in sorted(found, key=lambda kind: (kind not in paused, kind))
    )


async def kind_view(connection: Connection, kind: str) -> KindView:
    """Returns one kind, whether anybody knows it or not. Raises what the database raises."""
    rows = await KIND_ENDED.fetch(connection, kind=kind)
    waits = merge(row["waits"] for row in rows if row["outcome"] == "succeeded")
    runs = merge(row["runs"] for row in rows if row["outcome"] in _RAN)

    def number(outcome: str) -> int:
        return sum(row["count"] for row in rows if row["outcome"] == outcome)

    return KindView(
        kind=kind,
        succeeded=number("succeeded"),
        retried=number("retrying"),
        dead=number("dead"),
        cancelled=number("cancelled"),
        wait_p50=percentile(waits, 0.5),
        wait_p95=percentile(waits, 0.95),
        run_p50=percentile(runs, 0.5),
        run_p95=percentile(runs, 0.95),
        paused=await pause_of(connection, kind),
        handled=any(row["kind"] == kind for row in await KNOWN_KINDS.fetch(connection)),
    )


_RAN = ("succeeded", "retrying", "dead")
"""The outcomes of attempts that ran to an end of their own."""


def _figures(
    kind: str,
    ended: Mapping[str, Mapping[str, Any]],
    *,
    queued: Count,
    running: Count,
    paused: KindRecord | None,
    handled: bool | None,
) -> KindFigures:
    def number(outcome: str) -> int:
        return int(ended[outcome]["count"]) if outcome in ended else 0

    ran = sum(number(outcome) for outcome in _RAN)
    seconds = sum(ended[outcome]["run_seconds"] for outcome in _RAN if outcome in ended)
    mean = seconds / ran if ran else None
    return KindFigures(kind, queued, running, number("succeeded"), number("retrying"), number("dead"), mean, paused, handled)
