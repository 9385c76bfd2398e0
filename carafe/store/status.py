"""The facts that decide whether jobs run now: one row of Postgres, and whether Redis can be used."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from carafe.jobs.queue_name import QUEUE
from carafe.jobs.records import MAX_HELD, Count, KindRecord
from carafe.queue import redis_away
from carafe.queue.hints import moment_of, read
from carafe.queue.queue import Queue
from carafe.store.database import Connection
from carafe.store.paused_kinds import paused_kinds
from carafe.store.statements import FACTS

REDIS_WITHIN = 0.5
"""The maximum number of seconds that Redis may take to reply."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The numbers of live jobs by state at one moment, as the steward's sampler has stored them."""

    at: datetime
    queued: int
    running: int
    scheduled: int
    retrying: int

    @property
    def live(self) -> int:
        """The number of all live jobs."""
        return self.queued + self.running + self.scheduled + self.retrying


@dataclass(frozen=True, slots=True)
class Trouble:
    """A pod that should run a worker but does not. `text` says why it does not, and `since` is when that began."""

    pod: str
    phase: str
    text: str
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts in Postgres that decide whether jobs run now.

    `kinds`: the kinds for which a worker that takes jobs has a handler. Each kind is mapped to the newest version of its
    arguments that such a worker knows. `paused_kinds`: the kinds that are paused. `held`: the number of queued jobs of such
    kinds at the last sample. `wanted`: the number of replicas that the autoscaler's formula gives (None: there is
    no autoscaler). `before`: the sample that was taken a minute before `sample`.
    """

    now: datetime
    paused_at: datetime | None
    paused_by: str | None
    paused_reason: str | None
    leader: str | None
    workers: int
    draining: int
    slots: int
    slots_used: int
    kinds: Mapping[str, int]
    paused_kinds: Mapping[str, KindRecord]
    held: int
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
    def held_back(self) -> Count:
        """The number of queued jobs whose kind is paused. If more than `MAX_HELD` jobs of a kind are held back, their number
        is that of the last sample."""
        paused = self.paused_kinds.values()
        counted = sum(kind.held for kind in paused)
        if all(kind.held < MAX_HELD for kind in paused):
            return Count(counted)
        return Count(max(counted, self.held), estimated=True)

    @property
    def scales(self) -> bool:
        """Whether there is an autoscaler."""
        return self.wanted is not None or self.pods > 0

    @property
    def at_maximum(self) -> bool:
        """Whether the maximum number of replicas is reached, while the formula gives that number or a greater one."""
        return self.max_replicas is not None and self.pods >= self.max_replicas and (self.wanted or 0) >= self.max_replicas

    @property
    def replicas_wanted(self) -> int | None:
        """The number of replicas that the autoscaler aims at: what its formula gives, but at most the maximum. None if it is
        not known."""
        return self.wanted if self.wanted is None or self.max_replicas is None else min(self.wanted, self.max_replicas)


async def facts(connection: Connection, *, max_replicas: int | None, queue: str = QUEUE) -> Facts:
    """The facts as they are in Postgres now. Raises the database's errors."""
    row = await FACTS.fetchrow(connection, queue=queue)
    if row is None and queue != QUEUE:
        # An unknown queue is never paused; the workers are the same for all queues.
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
        kinds=dict(zip(row["kinds"] or (), row["versions"] or (), strict=True)),
        paused_kinds={record.kind: record for record in await paused_kinds(connection)},
        held=row["sampled_held"] or 0,
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
    """A text that says why Redis cannot be used. None if it can be used, or if `queue` is None."""
    if queue is None:
        return None
    return await queue.trouble(within=REDIS_WITHIN)


@dataclass(frozen=True, slots=True)
class NextHint:
    """The message at the end of the list in Redis from which hints are popped. `stamp` is the stamp of the hint that is
    popped next; None if the list is empty, or the message there is not a hint."""

    empty: bool
    stamp: datetime | None


async def next_hint(queue: Queue) -> NextHint | None:
    """The hint that a worker takes next, or None when Redis does not answer."""
    try:
        message = await queue.following()
    except redis_away.errors():
        return None
    if message is None:
        return NextHint(True, None)
    hint = read(message)
    return NextHint(False, None if hint is None else moment_of(hint.stamp))
