"""What decides whether jobs run, as it stands now: one row of Postgres, and whether Redis can be used."""

from dataclasses import dataclass, replace
from datetime import datetime

import orjson

from carafe.jobs import redis_away
from carafe.jobs.hints import QUEUE, decode, moment_of
from carafe.jobs.moves import Connection
from carafe.jobs.queue import Queue
from carafe.readmodel.statements import FACTS

REDIS_WITHIN = 0.5
"""Seconds that Redis has for an answer."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The live jobs of one sample of the gauges."""

    at: datetime
    queued: int
    running: int
    scheduled: int
    retrying: int

    @property
    def live(self) -> int:
        """All of them."""
        return self.queued + self.running + self.scheduled + self.retrying


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a pod that should be a worker is none."""

    pod: str
    phase: str
    text: str
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Facts:
    """See the module. `kinds`: those that a worker which takes jobs has a handler for. `wanted`: replicas, by the formula,
    where there is an autoscaler. `before`: a sample of a minute before `sample`."""

    now: datetime
    paused_at: datetime | None
    paused_by: str | None
    paused_reason: str | None
    leader: str | None
    workers: int
    draining: int
    slots: int
    slots_used: int
    kinds: frozenset[str]
    pods: int
    pods_ready: int
    pods_troubled: int
    trouble: Trouble | None
    wanted: int | None
    sample: Sample | None
    before: Sample | None
    sampled_dead: int | None
    sampled_wait: float | None
    max_replicas: int | None

    @property
    def scales(self) -> bool:
        """Whether there is an autoscaler."""
        return self.wanted is not None or self.pods > 0

    @property
    def at_maximum(self) -> bool:
        """Whether there are as many replicas as there may be, and more are wanted."""
        return self.max_replicas is not None and self.pods >= self.max_replicas and (self.wanted or 0) >= self.max_replicas

    @property
    def replicas_wanted(self) -> int | None:
        """What the autoscaler will aim at."""
        return self.wanted if self.wanted is None or self.max_replicas is None else min(self.wanted, self.max_replicas)


async def facts(connection: Connection, *, max_replicas: int | None, queue: str = QUEUE) -> Facts:
    """As they are in Postgres. Raises what the database raises."""
    row = await connection.fetchrow(FACTS.positional, *FACTS.arguments(queue=queue))
    if row is None and queue != QUEUE:
        # A queue that nobody has made is never paused; what works is the same for all.
        of_all = await facts(connection, max_replicas=max_replicas)
        return replace(of_all, paused_at=None, paused_by=None, paused_reason=None, sample=None, before=None)
    assert row is not None, "the migration makes this queue"

    def sample(prefix: str) -> Sample | None:
        if row[f"{prefix}_at"] is None:
            return None
        return Sample(*(row[f"{prefix}_{name}"] for name in ("at", "queued", "running", "scheduled", "retrying")))

    trouble = None
    if row["trouble_pod"] is not None:
        trouble = Trouble(row["trouble_pod"], row["trouble_phase"], row["trouble"], row["trouble_since"])
    return Facts(
        now=row["now"],
        paused_at=row["paused_at"],
        paused_by=row["paused_by"],
        paused_reason=row["paused_reason"],
        leader=row["leader"],
        workers=row["workers"],
        draining=row["draining"],
        slots=row["slots"],
        slots_used=row["slots_used"],
        kinds=frozenset(kind for kind in row["kinds"] if kind is not None),
        pods=row["pods"],
        pods_ready=row["pods_ready"],
        pods_troubled=row["pods_troubled"],
        trouble=trouble,
        wanted=row["wanted"],
        sample=sample("sampled"),
        before=sample("before"),
        sampled_dead=row["sampled_dead"],
        sampled_wait=row["sampled_wait"],
        max_replicas=max_replicas,
    )


async def redis_trouble(queue: Queue | None) -> str | None:
    """Why Redis cannot be used, in words; None: it can, or nobody looks."""
    if queue is None:
        return None
    return await queue.trouble(within=REDIS_WITHIN)


@dataclass(frozen=True, slots=True)
class NextHint:
    """The end of the list in Redis: `stamp` of the hint to be popped next (None: it is empty, or holds something else)."""

    empty: bool
    stamp: datetime | None


async def next_hint(queue: Queue) -> NextHint | None:
    """What a worker takes next; None when Redis does not say."""
    try:
        message = await queue.redis.lindex(QUEUE, -1)
    except redis_away.AWAY:
        return None
    if message is None:
        return NextHint(True, None)
    try:
        hint = decode(orjson.loads(message))
    except orjson.JSONDecodeError:
        hint = None
    return NextHint(False, None if hint is None else moment_of(hint.stamp))
