"""Why does it wait? One sentence for a job that does not run, with numbers: the first reason that holds.

A pure function over facts. Its order is that of what would have to change first: with the queue paused it does not matter
how many slots are busy.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from carafe.jobs.records import Count
from carafe.jobs.states import State
from carafe.readmodel.facts import Facts, NextHint
from carafe.readmodel.words import clock, counted, seconds_in_words

GRACE = timedelta(seconds=2)
"""How long a hint may be under way before it counts as lost (as in carafe.steward.repairer)."""

LATE = timedelta(seconds=3)
"""How long after its time a job is queued by a steward that leads."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that is not running, and what there is to know about its wait.

    `redis`: why Redis cannot be used; `hint`: what a worker takes next (None: not known); `before`: jobs offered before it;
    `holder`: the live job that holds the unique key of this ended one.
    """

    state: State
    kind: str
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


def why(job: Waiting, facts: Facts) -> str | None:
    """The sentence; None for a job that waits for nothing."""
    match job.state:
        case State.SCHEDULED | State.RETRYING:
            return _for_its_time(job, facts)
        case State.QUEUED:
            return _for_a_worker(job, facts)
        case State.DEAD if job.holder is not None:
            return f"It cannot be retried now: its unique key {job.unique_key!r} is held by job {job.holder}."
        case _:
            return None


def _for_its_time(job: Waiting, facts: Facts) -> str:
    left = (job.due_at - facts.now).total_seconds()
    if left > 0:
        when = f"{clock(job.due_at, facts.now)} UTC, in {seconds_in_words(left)}"
        if job.state is State.RETRYING:
            return f"Retry {job.attempt} of {job.max_attempts - 1} at {when}." + _no_steward(facts)
        snoozed = "It put itself off (snoozed) until" if job.snoozes else "Scheduled for"
        return f"{snoozed} {when}." + _no_steward(facts)
    since = f"Due since {clock(job.due_at, facts.now)} UTC"
    if facts.leader is None:
        return f"{since}, but no steward leads, so nobody queues it: start a web process or `carafe steward`."
    return f"{since}: the steward ({facts.leader}) queues it in a moment."


def _no_steward(facts: Facts) -> str:
    return " No steward leads now; it is not queued before one does." if facts.leader is None else ""


def _for_a_worker(job: Waiting, facts: Facts) -> str:
    if facts.paused_at is not None:
        by = f" by {facts.paused_by}" if facts.paused_by else ""
        reason = f": {facts.paused_reason}" if facts.paused_reason else ""
        return f"The queue is paused since {clock(facts.paused_at, facts.now)} UTC{by}{reason}."
    if job.redis is not None:
        return f"Redis cannot be used ({job.redis}): workers hear of no new job until it can. The job is safe in Postgres."
    alive = facts.workers - facts.draining
    if alive == 0:
        return _no_workers(facts)
    if job.kind not in facts.kinds:
        begin = (
            f"None of the {alive} workers that are alive knows"
            if alive > 1
            else "The one worker that is alive does not know"
        )
        return f"{begin} the kind {job.kind!r}: HANDLER_MODULES must name the module with its handler."
    if job.hinted_at is not None and job.hinted_at > facts.now:
        return _put_off(job, facts)
    if _lost(job, facts):
        if facts.leader is None:
            return "Its hint in Redis is lost, and no steward leads to repair it: start a web process or `carafe steward`."
        return "Its hint in Redis is lost; the steward pushes it again within seconds."
    if job.suspect:
        return (
            "A worker died while this job ran, so it is a suspect: it waits for a slot to run alone, in a process of its own"
            f" ({_slots(facts)}; {_before(job)})."
        )
    if facts.slots_used >= facts.slots:
        maximum = f" The maximum of {facts.max_replicas} replicas is reached." if facts.at_maximum else ""
        return f"All slots are busy ({facts.slots_used} of {facts.slots}); {_before(job)}.{maximum}"
    if job.before.number:
        return f"{_before(job, capital=True)}; {_slots(facts)}."
    return f"It is next: a worker takes it in a moment ({_slots(facts)})."


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
    left = seconds_in_words((job.hinted_at - facts.now).total_seconds())
    if job.suspect:
        return (
            "A worker died while this job ran, so it is a suspect and waits to run alone: no worker had a place for it,"
            f" it is offered again in {left}."
        )
    times = f" ({counted(job.deferrals, 'time')})" if job.deferrals else ""
    return f"A worker left it to others{times}; it is offered again in {left}."


def _lost(job: Waiting, facts: Facts) -> bool:
    if job.hinted_at is None:
        return True
    if job.hint is None or job.hinted_at > facts.now - GRACE:
        return False
    return job.hint.empty or (job.hint.stamp is not None and job.hinted_at < job.hint.stamp - GRACE)


def _before(job: Waiting, *, capital: bool = False) -> str:
    if job.before.number == 0:
        return "It is next" if capital else "it is next"
    many = f"more than {job.before.number - 1:,} jobs" if job.before.estimated else counted(job.before.number, "job")
    one = job.before.number == 1 and not job.before.estimated
    text = f"{many} {'is' if one else 'are'} before it"
    return text[0].upper() + text[1:] if capital else text


def _slots(facts: Facts) -> str:
    return f"{facts.slots_used} of {counted(facts.slots, 'slot')} {'is' if facts.slots_used == 1 else 'are'} busy"
