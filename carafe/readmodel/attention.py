"""Finds and describes the conditions of the system that a person should look at, the worst first.

Each condition has a function, and all of these functions get the same facts. So their list reads like the checks of a person
on call.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import quote

from carafe.durations import in_words
from carafe.jobs.records import MAX_HELD, Count
from carafe.jobs.states import State
from carafe.readmodel.records import Attention, Rates
from carafe.store.held_back import HeldBack
from carafe.store.humanize import counted, number
from carafe.store.status import Facts

DEATHS_WITHIN = 900.0
"""Seconds during which a death counts as recent."""

GROWING = 3
"""The overview lists a kind and an error when at least this many jobs of the kind have died of the error in the last
`DEATHS_WITHIN` seconds."""

LONG_WAIT = 60.0
"""The overview lists a growing backlog when its oldest job has waited at least this many seconds."""

LISTED = 10
"""The maximum number of kinds that one text names."""

_ORDER = {"critical": 0, "warning": 1, "info": 2}


@dataclass(frozen=True, slots=True)
class Situation:
    """The facts that all conditions are computed from."""

    facts: Facts
    redis: str | None
    postgres: str | None
    counts: Mapping[State, Count]
    oldest_wait: float
    growing: float
    rates: Rates
    deaths: Sequence[Mapping[str, Any]]
    left_kinds: Sequence[Mapping[str, Any]]
    lost: Mapping[str, Any] | None
    held: HeldBack

    @property
    def now(self) -> datetime:
        """The time of Postgres's clock when the facts were read."""
        return self.facts.now

    @property
    def queued(self) -> Count:
        """The number of queued jobs: the backlog."""
        return self.counts[State.QUEUED]

    @property
    def startable(self) -> Count:
        """The number of queued jobs whose kind is not paused."""
        return replace(self.queued, number=max(0, self.queued.number - self.facts.held_back.number))


def attention(situation: Situation) -> tuple[Attention, ...]:
    """Returns what a person should look at in this situation, the worst first."""
    found = [item for condition in _CONDITIONS for item in condition(situation)]
    causes = {item.key for item in found}
    found = [item for item in found if not causes & _FOLLOWS_FROM.get(item.key, frozenset())]
    return tuple(sorted(found, key=lambda item: _ORDER[item.severity]))


def _postgres(s: Situation) -> Iterable[Attention]:
    if s.postgres is not None:
        text = f"jobs can be neither accepted nor finished: Postgres {s.postgres}"
        yield Attention("postgres", "critical", text, "/")


def _redis(s: Situation) -> Iterable[Attention]:
    if s.redis is not None:
        text = f"Redis cannot be used ({s.redis}): jobs are accepted and kept, and start once it works again"
        yield Attention("redis", "critical", text, "/")


def _leader(s: Situation) -> Iterable[Attention]:
    if s.facts.leader is None:
        text = (
            "no steward leads, so upkeep has stopped: due jobs are not queued, lost workers not detected, gauges not sampled"
        )
        yield Attention("leader", "critical", text, "/workers")


def _paused(s: Situation) -> Iterable[Attention]:
    if s.facts.paused_at is not None:
        by = f" by {s.facts.paused_by}" if s.facts.paused_by else ""
        why = f" ({s.facts.paused_reason})" if s.facts.paused_reason else ""
        text = f"the queue is paused{by}{why}; {_wait(s.queued)}"
        yield Attention("paused", "warning", text, "/jobs?state=queued", s.facts.paused_at)


def _paused_kinds(s: Situation) -> Iterable[Attention]:
    paused = list(s.facts.paused_kinds.values())
    if len(paused) > 1:
        text = f"{len(paused)} kinds are paused: {_listed(kind.kind for kind in paused)}; {_wait(s.facts.held_back)}"
        since = min((kind.paused_at for kind in paused if kind.paused_at is not None), default=None)
        yield Attention("paused-kinds", "warning", text, "/kinds", since)
    for kind in paused if len(paused) == 1 else ():
        by = f" by {kind.paused_by}" if kind.paused_by else ""
        why = f" ({kind.paused_reason})" if kind.paused_reason else ""
        wait = f"{kind.held:,} jobs or more wait" if kind.held == MAX_HELD else _wait(Count(kind.held))
        text, path = f"the kind `{kind.kind}` is paused{by}{why}; {wait}", f"/kinds/{quote(kind.kind, safe='')}"
        yield Attention(f"paused-kind:{kind.kind}", "warning", text, path, kind.paused_at)
    if ignored := [kind.kind for kind in paused if kind.note]:
        text = f"live workers of an older release still start jobs of paused kinds: {_listed(ignored)}"
        yield Attention("pauses-ignored", "critical", text, "/workers")


def _workers(s: Situation) -> Iterable[Attention]:
    if s.facts.paused_at is not None or s.facts.workers > s.facts.draining:
        return
    queued = s.startable
    if queued.number == 0:
        return
    if s.facts.trouble is not None:
        text = f"{_wait(queued)} and no worker runs: pod {s.facts.trouble.pod} is {_trouble(s.facts)}"
        yield Attention("no-workers", "critical", text, "/workers", s.facts.trouble.since)
    elif s.facts.scales:
        severity = "critical" if s.oldest_wait > LONG_WAIT else "info"
        text = f"{_wait(queued)}; the workers are scaled to zero, and the autoscaler should start some"
        yield Attention("scaled-to-zero", severity, text, "/workers")  # type: ignore[arg-type]
    else:
        yield Attention("no-workers", "critical", f"{_wait(queued)} and no worker is alive", "/workers")


def _pods(s: Situation) -> Iterable[Attention]:
    trouble = s.facts.trouble
    if trouble is not None and s.facts.workers > s.facts.draining:
        more = f" ({s.facts.pods_troubled} pods are missing)" if s.facts.pods_troubled > 1 else ""
        yield Attention("pods", "warning", f"pod {trouble.pod} is {_trouble(s.facts)}{more}", "/workers", trouble.since)


def _unknown_kinds(s: Situation) -> Iterable[Attention]:
    for row in s.left_kinds if s.facts.workers > s.facts.draining else ():
        lacks = f"knows version {row['version']} of the arguments of" if row["known"] else "has a handler for"
        text = f"no worker {lacks} `{row['kind']}`: {_wait(Count(row['number']))}"
        yield Attention(f"unknown-kind:{row['kind']}", "critical", text, "/workers", row["since"])


def _deaths(s: Situation) -> Iterable[Attention]:
    for row in s.deaths:
        if row["number"] >= GROWING:
            error = f" with {row['error_class']}" if row["error_class"] else ""
            text = f"dead letters are growing: {counted(row['number'], 'job')} of `{row['kind']}` died recently{error}"
            yield Attention(f"deaths:{row['kind']}:{row['error_class'] or ''}", "warning", text, "/dead", row["since"])


def _dead(s: Situation) -> Iterable[Attention]:
    dead = s.counts[State.DEAD]
    if dead.number:
        verb = "waits" if dead.number == 1 else "wait"
        text = (
            f"{number(dead.number, dead.estimated)} dead {'letter' if dead.number == 1 else 'letters'} {verb} for a decision"
        )
        yield Attention("dead", "info", text, "/dead")


def _lost(s: Situation) -> Iterable[Attention]:
    if s.lost is not None and s.lost["number"]:
        ago = in_words((s.now - s.lost["since"]).total_seconds())
        who = f"worker {s.lost['name']} was" if s.lost["number"] == 1 else f"{s.lost['number']} workers were"
        text = f"{who} lost in the last {ago}; {'its' if s.lost['number'] == 1 else 'their'} jobs went to other workers"
        yield Attention("lost-workers", "warning", text, "/workers", s.lost["since"])


def _backlog(s: Situation) -> Iterable[Attention]:
    if s.growing <= 0 or s.oldest_wait < LONG_WAIT or s.facts.paused_at is not None or not s.facts.slots:
        return
    text = (
        f"the backlog grows by {s.growing:.3g}/s, the oldest job has waited {in_words(s.oldest_wait)}; "
        f"{s.facts.slots_used} of {s.facts.slots} slots are busy"
    )
    if s.facts.at_maximum:
        text += f", and the maximum of {s.facts.max_replicas} replicas is reached"
    yield Attention("backlog", "warning", text, "/jobs?state=queued")


def _held_back(s: Situation) -> Iterable[Attention]:
    holder = s.held.holder
    if holder is None or not s.held.matters:
        return
    age = "" if holder.seconds is None else f" for {in_words(holder.seconds)}"
    text = (
        f"{holder.words} has held back vacuum{age}: {counted(s.held.dead_rows, 'row')} of deleted jobs"
        f" cannot be removed; {holder.advice}"
    )
    yield Attention("vacuum-held-back", "warning", text, "/")


_CONDITIONS: tuple[Callable[[Situation], Iterable[Attention]], ...] = (
    _postgres,
    _redis,
    _leader,
    _workers,
    _unknown_kinds,
    _paused,
    _paused_kinds,
    _deaths,
    _pods,
    _lost,
    _backlog,
    _held_back,
    _dead,
)


_FOLLOWS_FROM: Mapping[str, frozenset[str]] = {
    "leader": frozenset({"postgres"}),
    "no-workers": frozenset({"postgres"}),
    "scaled-to-zero": frozenset({"postgres", "redis"}),
    "lost-workers": frozenset({"postgres"}),
    "backlog": frozenset({"postgres", "redis"}),
}
"""For the key of a condition: the outages that cause it, too. While there is one of these, the condition is not listed."""


def _listed(kinds: Iterable[str]) -> str:
    names = [f"`{kind}`" for kind in kinds]
    more = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {more} more" if more > 0 else "")


def _wait(count: Count) -> str:
    return f"{'about ' if count.estimated else ''}{counted(count.number, 'job')} wait{'s' if count.number == 1 else ''}"


def _trouble(facts: Facts) -> str:
    assert facts.trouble is not None
    return f"{facts.trouble.phase}: {facts.trouble.text}"
