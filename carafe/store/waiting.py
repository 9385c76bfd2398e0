"""Says in one sentence, with numbers, why a job that is not running waits. If there are several reasons, the sentence has
the first of them.

The reasons are in the order in which they must be removed: while the queue or the kind is paused, it does not matter how
many slots are busy. `sentence` collects the facts for the pages, the HTTP API and the command line; `why`, a pure function,
makes the sentence from them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from carafe.durations import in_words
from carafe.jobs.records import Count, as_uuid
from carafe.jobs.states import State
from carafe.queue.queue import Queue
from carafe.store.database import Connection
from carafe.store.humanize import WORKER_LOST, clock, counted
from carafe.store.keyset import FEW
from carafe.store.statements import BEFORE_IT, KEY_HOLDER
from carafe.store.status import Facts, NextHint, facts, next_hint, redis_trouble

GRACE = timedelta(seconds=2)
"""How long a hint may be on its way to Redis before it counts as lost (as in carafe.steward.repairer)."""

LATE = timedelta(seconds=3)
"""How long after a job has become due a leading steward has certainly queued it."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that is not running, and the facts about its wait.

    `redis`: why Redis cannot be used, or None if it can be used. `hint`: the hint that a worker takes next, or None if it is
    not known. `before`: the number of jobs whose hints come earlier. `holder`, only for a job that has ended: the live job
    that holds its unique key.
    """

    state: State
    kind: str
    version: int
    attempt: int
    max_attempts: int
    due_at: datetime
    hinted_at: datetime | None
    deferrals: int
    snoozes: int
    suspect: bool
    unique_key: str | None
    redis: str | None
    hint: NextHint | None
    before: Count
    holder: UUID | None


SUSPECT = f"{WORKER_LOST[0].upper()}{WORKER_LOST[1:]}, so this job now waits to run in a process of its own"
"""How the sentence about a suspect begins (a job that may have been running when its worker was lost)."""


def why(job: Waiting, facts: Facts) -> str | None:
    """The sentence that says why the job waits, or None for a job that waits for nothing."""
    match job.state:
        case State.SCHEDULED | State.RETRYING:
            return _for_its_time(job, facts)
        case State.QUEUED:
            return _for_a_worker(job, facts)
        case State.DEAD if job.holder is not None:
            return f"It cannot be retried now: its unique key {job.unique_key!r} is held by job {job.holder}."
        case _:
            return None


class Hints(NamedTuple):
    """What Redis says about the queue. `trouble`: why Redis cannot be used, or None if it can be used. `following`: the hint
    that a worker takes next, or None if it is not known."""

    trouble: str | None = None
    following: NextHint | None = None


def may_wait(row: Mapping[str, Any]) -> bool:
    """Whether there may be a sentence about why a job waits (`row` is from the statement `GET`). There may be one if the job
    is live and not running, or is dead and has a unique key."""
    state = State.stored(row["state"])
    return (state is State.DEAD and row["unique_key"] is not None) or not (state is State.RUNNING or state.ended)


async def hints_for(row: Mapping[str, Any], queue: Queue | None) -> Hints:
    """What `sentence` needs to know from Redis. Redis is only asked if the job is queued. Each question takes at most half a
    second."""
    if queue is None or State.stored(row["state"]) is not State.QUEUED:
        return Hints()
    trouble = await redis_trouble(queue)
    return Hints(trouble, None if trouble is not None else await next_hint(queue))


async def sentence(connection: Connection, row: Mapping[str, Any], hints: Hints, *, max_replicas: int | None) -> str | None:
    """The sentence that says why a job waits, or None if the job waits for nothing. `row` is the job's row of the statement
    `GET`. Raises the database's errors."""
    if not may_wait(row):
        return None
    state = State.stored(row["state"])
    holder = None
    before = Count(0)
    if state is State.DEAD:
        found = await KEY_HOLDER.fetchrow(connection, key=row["unique_key"])
        if found is None:
            return None
        holder = as_uuid(found["id"])
    if state is State.QUEUED and row["hinted_at"] is not None:
        number = await BEFORE_IT.fetchval(connection, queue=row["queue"], hinted_at=row["hinted_at"], limit=FEW + 1)
        before = Count(number, number > FEW)
    job = Waiting(
        state=state,
        kind=row["kind"],
        version=row["version"],
        attempt=row["attempt"],
        max_attempts=row["max_attempts"],
        due_at=row["due_at"],
        hinted_at=row["hinted_at"],
        deferrals=row["deferrals"],
        snoozes=row["snoozes"],
        suspect=row["suspect"],
        unique_key=row["unique_key"],
        redis=hints.trouble,
        hint=hints.following,
        before=before,
        holder=holder,
    )
    return why(job, await facts(connection, max_replicas=max_replicas, queue=row["queue"]))


def _for_its_time(job: Waiting, facts: Facts) -> str:
    left = (job.due_at - facts.now).total_seconds()
    if left > 0:
        when = f"{clock(job.due_at, facts.now)} UTC, in {in_words(left)}"
        if job.state is State.RETRYING:
            return f"Retry {job.attempt} of {job.max_attempts - 1} at {when}." + _no_steward(facts)
        snoozed = "Snoozed until" if job.snoozes else "Scheduled for"
        return f"{snoozed} {when}." + _no_steward(facts)
    since = f"Due since {clock(job.due_at, facts.now)} UTC"
    if facts.leader is None:
        return f"{since}, but no steward leads, so it is not queued: start a web process or `carafe steward`."
    return f"{since}: the steward ({facts.leader}) queues it in a moment."


def _no_steward(facts: Facts) -> str:
    return " No steward leads now; it stays unqueued until one does." if facts.leader is None else ""


def _for_a_worker(job: Waiting, facts: Facts) -> str:
    if facts.paused_at is not None:
        return f"The queue is paused {_since(facts.paused_at, facts.paused_by, facts.paused_reason, facts.now)}."
    kind = facts.paused_kinds.get(job.kind)
    if kind is not None and kind.paused_at is not None:
        return f"The kind {job.kind!r} is paused {_since(kind.paused_at, kind.paused_by, kind.paused_reason, facts.now)}."
    if job.redis is not None:
        return f"Redis cannot be used ({job.redis}): until it can, workers get no new jobs. The job is safe in Postgres."
    alive = facts.workers - facts.draining
    if alive == 0:
        return _no_workers(facts)
    if job.kind not in facts.kinds:
        begin = (
            f"None of the {alive} live workers has a handler for" if alive > 1 else "The only live worker has no handler for"
        )
        return f"{begin} the kind {job.kind!r}: HANDLER_MODULES must name the module with its handler."
    if job.version > (newest := facts.kinds[job.kind]):
        begin = f"None of the {alive} live workers knows" if alive > 1 else "The only live worker does not know"
        return (
            f"{begin} version {job.version} of the arguments of {job.kind!r}, only up to {newest}:"
            " it waits for workers of the release that enqueued it."
        )
    if job.hinted_at is not None and job.hinted_at > facts.now:
        return _put_off(job, facts)
    if _lost(job, facts):
        if facts.leader is None:
            return "Its hint in Redis is lost, and no steward leads to repair it: start a web process or `carafe steward`."
        return "Its hint in Redis is lost; the steward pushes it again within seconds."
    if job.suspect:
        return f"{SUSPECT} ({_slots(facts)}; {_before(job)})."
    if facts.slots_used >= facts.slots:
        maximum = f" The maximum of {facts.max_replicas} replicas is reached." if facts.at_maximum else ""
        return f"All slots are busy ({facts.slots_used} of {facts.slots}); {_before(job)}.{maximum}"
    if job.before.number:
        return f"{_before(job, capital=True)}; {_slots(facts)}."
    return f"It is next: a worker takes it in a moment ({_slots(facts)})."


def _since(at: datetime, by: str | None, reason: str | None, now: datetime) -> str:
    return f"since {clock(at, now)} UTC{f' by {by}' if by else ''}{f': {reason}' if reason else ''}"


def _no_workers(facts: Facts) -> str:
    draining = f"{counted(facts.draining, 'worker')} {'is' if facts.draining == 1 else 'are'} draining and take"
    begin = f"No workers: {draining}{'s' if facts.draining == 1 else ''} nothing new" if facts.draining else "No workers"
    if facts.trouble is not None:
        begin += "; " if facts.draining else ": "
        more = f" (and {facts.pods_troubled - 1} more)" if facts.pods_troubled > 1 else ""
        return f"{begin}pod {facts.trouble.pod} is {facts.trouble.phase}: {facts.trouble.text}{more}."
    if facts.draining:
        return f"{begin}."
    if facts.pods:
        return f"{begin}: {counted(facts.pods, 'pod')} {'is' if facts.pods == 1 else 'are'} starting."
    if facts.scales:
        return f"{begin}: they are scaled to zero, and the autoscaler has not started one yet."
    return f"{begin} are alive: start one with `carafe serve --worker`."


def _put_off(job: Waiting, facts: Facts) -> str:
    assert job.hinted_at is not None
    left = in_words((job.hinted_at - facts.now).total_seconds())
    if job.suspect:
        return f"{SUSPECT}: no worker had room for it. It is offered again in {left}."
    times = f" ({counted(job.deferrals, 'time')})" if job.deferrals else ""
    return f"A worker passed it on to other workers{times}; it is offered again in {left}."


def _lost(job: Waiting, facts: Facts) -> bool:
    if job.hinted_at is None:
        return True
    if job.hint is None or job.hinted_at > facts.now - GRACE:
        return False
    if job.hint.empty or job.hint.stamp is None or job.hint.stamp > facts.now + GRACE:
        return job.hint.empty  # otherwise a foreign message, which says nothing about our hints
    return job.hinted_at < job.hint.stamp - GRACE


def _before(job: Waiting, *, capital: bool = False) -> str:
    if job.before.number == 0:
        return "It is next" if capital else "it is next"
    many = f"more than {job.before.number - 1:,} jobs" if job.before.estimated else counted(job.before.number, "job")
    one = job.before.number == 1 and not job.before.estimated
    text = f"{many} {'is' if one else 'are'} before it"
    return text[0].upper() + text[1:] if capital else text


def _slots(facts: Facts) -> str:
    return f"{facts.slots_used} of {counted(facts.slots, 'slot')} {'is' if facts.slots_used == 1 else 'are'} busy"
