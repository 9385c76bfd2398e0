"""Whatever happens in whatever order, the store keeps the rules of its transition table: a stateful property test.

Hypothesis plays several clients, workers and a steward against a real Postgres; a model in Python computes the expected
results. After every step the whole store is compared with the model. Further tests show that this finds faults: they run
short sequences against statements that are broken on purpose, one by one.
"""

import asyncio
import dataclasses
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import pytest
import structlog
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from redis import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from carafe import Change, Client, Job, NewJob, NotAllowedInState, State, hook
from carafe.engine.claim import Claim
from carafe.engine.completions import Cancelled, End, Failed, Released, Snoozed, Succeeded
from carafe.engine.ledger import Hinted, Ledger
from carafe.jobs.identifiers import uuid7
from carafe.jobs.queue_name import QUEUE
from carafe.jobs.states import ENDED, legal
from carafe.steward.promoter import Promoter
from carafe.steward.repairer import Repairer
from carafe.steward.rescuer import Rescuer
from carafe.steward.statements import RESCUE
from carafe.store.actions import STATEMENTS
from carafe.store.database import plain_dsn
from carafe.store.statement import Statement
from carafe.store.statements import CLAIM, ENQUEUE, FINISH, SETTLE
from carafe.testing.clients import client_on
from carafe.testing.databases import Databases

T = TypeVar("T")


class Plain(Job, kind="property.plain", max_retries=2):
    """Without hooks."""


class Hooked(Job, kind="property.hooked", max_retries=1):
    """Every state it enters is written down, in the transaction that changes it."""


@hook(Hooked, *State)
async def write_down(session: AsyncSession, change: Change) -> None:
    """One row a change."""
    await session.execute(
        text("insert into property_hooks (job_id, state) values (:job, :state)"),
        {"job": change.job_id, "state": change.state.value},
    )


KINDS: tuple[type[Job], ...] = (Plain, Hooked)
ATTEMPTS = {"property.plain": 3, "property.hooked": 2}
HOUR = 3600.0
FEW = 4
SLOTS = (1, 2)
"""How many slots each of the two workers has: fewer than there are jobs, so that some are claimed and not begun."""
FREE_RELEASES = 2
"""Few enough to be used up in a story."""
STORIES = 100
PARTS = 4
"""Of the stories, so that processes which test side by side can share them."""
NUMBER = st.integers(0, 7)
WHAT = st.sampled_from(["succeed", "fail now", "fail later", "die", "cancel", "snooze", "release", "give back"])


@dataclasses.dataclass
class Model:
    """What must be true of one job."""

    id: UUID
    kind: str
    state: State
    unique_key: str | None = None
    max_attempts: int = 0
    attempt: int = 0
    fence: int = 0
    worker: UUID | None = None
    cancel_requested: bool = False
    failures: int = 0
    interruptions: int = 0
    snoozes: int = 0
    releases: int = 0
    suspect: bool = False
    started_at: datetime | None = None
    seen: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.max_attempts = ATTEMPTS[self.kind]

    def enter(self, state: State) -> None:
        assert legal(self.state, state), f"the model itself moved from {self.state} to {state}"
        self.state = state
        self.seen.append(state.value)
        if state is not State.RUNNING and state not in ENDED:
            self.worker = None


class World:
    """The real thing: a client, two workers and a steward on one database, driven from outside its loop."""

    def __init__(self, client: Client, redis: "Redis", loop: asyncio.AbstractEventLoop) -> None:
        self.client, self.redis, self._loop = client, redis, loop
        self.database = client.database
        self._connection = self.run(asyncpg.connect(plain_dsn(client.database.url)))
        self.promoter = Promoter(client.database, client.queue)
        self.repairer = Repairer(client.database, client.queue)
        self.rescuer = Rescuer(client.database, client.queue)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(coroutine)

    def fetch(self, *statements: str) -> list[list[Any]]:
        """The rows of each, on a connection of the tests' own: thousands of looks need not go by the pool."""

        async def run() -> list[list[Any]]:
            return [await self._connection.fetch(statement) for statement in statements]

        return self.run(run())

    def execute(self, statement: str, *values: Any) -> None:
        self.run(self._connection.execute(statement, *values))

    def close(self) -> None:
        self.run(self._connection.close())


class Store(RuleBasedStateMachine):
    """The rules that Hypothesis combines."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[UUID, Model] = {}
        self.claims: list[Claim] = []
        self.ends: Counter[str] = Counter()
        self.workers = [uuid7(), uuid7()]
        self.ledgers = [
            Ledger(self.world.database, worker, "worker", [kind.job_options.kind for kind in KINDS])
            for worker in self.workers
        ]
        self.world.execute(";".join(f"delete from {table}" for table in TABLES))
        for worker, slots in zip(self.workers, SLOTS, strict=True):
            self.world.execute(ANNOUNCED, worker, slots)
        self.world.redis.delete(QUEUE)

    def pick(self, number: int) -> Model:
        """One of the jobs; small numbers are the newest."""
        return list(self.jobs.values())[-1 - number % len(self.jobs)]

    def few(self) -> bool:
        """Whether there is room for another job: few jobs, with a long story each, find more than many."""
        return sum(not job.state.ended for job in self.jobs.values()) < FEW

    def any_in(self, *states: State) -> bool:
        return any(job.state in states for job in self.jobs.values())

    # -- clients

    @precondition(few)
    @rule(
        kind=st.sampled_from(KINDS), delay=st.sampled_from([None, None, HOUR]), key=st.sampled_from([None, None, "a", "b"])
    )
    def enqueue(self, kind: type[Job], delay: float | None, key: str | None) -> None:
        holders = [job for job in self.jobs.values() if job.unique_key == key is not None and not job.state.ended]
        [answer] = self.world.run(self.world.client.enqueue_many([NewJob(kind(), delay=delay, unique_key=key)]))
        if holders:
            assert (answer.id, answer.existing, answer.state) == (holders[0].id, True, holders[0].state)
            return
        assert not answer.existing
        assert answer.state is (State.SCHEDULED if delay else State.QUEUED)
        self.jobs[answer.id] = Model(answer.id, answer.kind, answer.state, unique_key=key)

    @precondition(lambda self: self.jobs)
    @rule(
        what=st.sampled_from(
            ["cancel", "cancel a running one", "retry", "promote", "repair", "repair after a wipe", "rescue"]
        ),
        number=NUMBER,
    )
    def operate(self, what: str, number: int) -> None:
        """An operator or the steward. One rule, since each rule gets the same share and these end many stories."""
        match what:
            case "cancel":
                self.cancel(number)
            case "cancel a running one" if claims := self.current():
                self.cancel_running(self.jobs[claims[number % len(claims)].id])
            case "retry":
                self.retry(number)
            case "promote":
                self.promote()
            case "repair" | "repair after a wipe":
                self.repair(wiped=what != "repair")
            case "rescue":
                self.rescue(number % 2)

    def cancel_running(self, job: Model) -> None:
        assert self.world.run(self.world.client.cancel(job.id)).state is State.RUNNING
        job.cancel_requested = True

    def cancel(self, number: int) -> None:
        job = self.pick(number)
        if job.state in ENDED:
            with pytest.raises(NotAllowedInState):
                self.world.run(self.world.client.cancel(job.id))
            return
        if job.state is State.RUNNING:
            self.cancel_running(job)
            return
        assert self.world.run(self.world.client.cancel(job.id)).state is State.CANCELLED
        self.end(job, State.CANCELLED, spends=False)
        job.cancel_requested = True

    def retry(self, number: int) -> None:
        job = self.pick(number)
        taken = job.state is State.DEAD and any(
            other.unique_key == job.unique_key is not None and other.state not in ENDED for other in self.jobs.values()
        )
        waits = job.state in (State.SCHEDULED, State.RETRYING)
        if job.state is not State.DEAD or taken:
            with pytest.raises(NotAllowedInState):
                self.world.run(self.world.client.retry(job.id))
            if not waits:
                return
        self.world.run((self.world.client.run_now if waits else self.world.client.retry)(job.id))
        if job.state is State.DEAD:
            job.max_attempts = max(job.max_attempts, job.attempt + ATTEMPTS[job.kind])
            job.cancel_requested = job.suspect = False
            job.releases = 0
        job.enter(State.QUEUED)

    # -- workers

    @precondition(lambda self: self.any_in(State.QUEUED))
    @rule(worker=st.integers(0, 1), numbers=st.lists(NUMBER, min_size=1, max_size=4))
    def claim(self, worker: int, numbers: list[int]) -> None:
        wanted = {job.id: job for job in map(self.pick, numbers)}
        hints = [Hinted(job.id, job.kind, b"") for job in wanted.values()] + [
            Hinted(uuid7(), KINDS[0].job_options.kind, b"")
        ]
        rows, bad = self.world.run(self.ledgers[worker].claim(hints))
        assert not bad
        assert {row["id"] for row in rows} == {job.id for job in wanted.values() if job.state is State.QUEUED}
        for row in rows:
            job = self.jobs[row["id"]]
            job.enter(State.RUNNING)
            job.fence += 1
            job.worker = self.workers[worker]
            job.started_at = row["started_at"]
            assert (row["fence"], row["attempt"], row["suspect"]) == (job.fence, job.attempt, job.suspect)
            self.claims.append(Claim(row, b"", 0.0))

    # Several rules for what is one thing, since Hypothesis gives each rule the same share.

    @precondition(lambda self: self.current())
    @rule(worker=st.integers(0, 1), number=NUMBER, what=st.sampled_from(["succeed", "succeed", "cancel"]))
    def finish(self, worker: int, number: int, what: str) -> None:
        self.write(worker, self.current(), [(number, what)])

    @precondition(lambda self: self.current())
    @rule(worker=st.integers(0, 1), number=NUMBER, what=st.sampled_from(["fail now", "fail later", "die"]))
    def fail(self, worker: int, number: int, what: str) -> None:
        self.write(worker, self.current(), [(number, what)])

    @precondition(lambda self: self.current())
    @rule(worker=st.integers(0, 1), number=NUMBER, what=st.sampled_from(["snooze", "release", "give back"]))
    def put_back(self, worker: int, number: int, what: str) -> None:
        self.write(worker, self.current(), [(number, what)])

    @precondition(lambda self: len(self.current()) > 1)
    @rule(worker=st.integers(0, 1), ends=st.lists(st.tuples(NUMBER, WHAT), min_size=2, max_size=4))
    def write_a_batch(self, worker: int, ends: list[tuple[int, str]]) -> None:
        """By whichever worker: its fence is what counts, and handing back alone takes the owner."""
        self.write(worker, self.current(), ends)

    @precondition(lambda self: self.current())
    @rule(worker=st.integers(0, 1), numbers=st.lists(NUMBER, min_size=1, max_size=4))
    def hand_back(self, worker: int, numbers: list[int]) -> None:
        """What a worker finds running under it without having heard of it."""
        wanted = {job.id: job for job in map(self.pick, numbers)}
        rows = self.world.run(self.ledgers[worker].hand_back(list(wanted)))
        own = [job for job in wanted.values() if self.owns(worker, job)]
        assert {row["id"] for row in rows} == {job.id for job in own}
        for job in own:
            self.follow(job, "give back")

    @precondition(lambda self: self.stale())
    @rule(worker=st.integers(0, 1), ends=st.lists(st.tuples(NUMBER, WHAT), min_size=1, max_size=2))
    def write_stale_ends(self, worker: int, ends: list[tuple[int, str]]) -> None:
        """Ends under a fence that has been left behind, which change nothing."""
        self.write(worker, self.stale(), ends)

    def current(self) -> list[Claim]:
        """The claims under which jobs run."""
        return [claim for claim in self.claims if self.holds(claim)]

    def stale(self) -> list[Claim]:
        """All others; of jobs that run again, where a mistake would show, if there are any."""
        lost = [claim for claim in self.claims if not self.holds(claim)]
        return [claim for claim in lost if self.jobs[claim.id].state is State.RUNNING] or lost

    def owns(self, worker: int, job: Model) -> bool:
        return job.state is State.RUNNING and job.worker == self.workers[worker]

    def holds(self, claim: Claim) -> bool:
        job = self.jobs[claim.id]
        return job.state is State.RUNNING and job.fence == claim.fence

    def write(self, worker: int, candidates: list[Claim], ends: list[tuple[int, str]]) -> None:
        """Write one batch, each claim in it once."""
        chosen: dict[int, str] = {}
        for number, what in ends:
            chosen.setdefault(number % len(candidates), what)
        batch = [(candidates[at], what) for at, what in chosen.items()]
        self.world.run(self.ledgers[worker].write([_end(claim, what) for claim, what in batch]))
        for claim, what in batch:
            job = self.jobs[claim.id]
            # Whatever is not a success is for the worker itself.
            if self.holds(claim) and (what == "succeed" or self.owns(worker, job)):
                self.follow(job, what)

    def follow(self, job: Model, what: str) -> None:
        match what:
            case "succeed":
                self.end(job, State.SUCCEEDED)
            case "cancel":
                self.end(job, State.CANCELLED)
            case "die":
                job.failures += 1
                self.end(job, State.DEAD)
            case "fail now" | "fail later":
                job.failures += 1
                if job.cancel_requested:
                    self.end(job, State.CANCELLED)
                elif job.attempt + 1 >= job.max_attempts:
                    self.end(job, State.DEAD)
                else:
                    job.attempt += 1
                    self.ends["retrying"] += 1
                    job.enter(State.RETRYING)
            case "snooze" | "release" | "give back" if job.cancel_requested:
                self.end(job, State.CANCELLED, spends=False)
            case "snooze":
                job.snoozes += 1
                job.enter(State.SCHEDULED)
            case "release" | "give back":
                job.releases += what == "release"
                job.enter(State.QUEUED)

    def end(self, job: Model, state: State, *, spends: bool = True) -> None:
        job.attempt += spends
        self.ends[state.value] += 1
        job.enter(state)

    # -- the steward

    def rescue(self, worker: int) -> None:
        self.world.run(
            self.world.rescuer._rescue(
                {"id": self.workers[worker], "name": "worker", "pid": 1, "death_reason": None}, "it is a test"
            )
        )
        held = [job for job in self.jobs.values() if self.owns(worker, job)]
        # The slots take claims in order: what lies behind them had not begun, and suspects run apart.
        begun = [job for job in sorted(held, key=_begun)[: SLOTS[worker]] if not job.suspect]
        for job in held:
            # Which of several was to blame nobody knows.
            charged = begun == [job] or job.releases >= FREE_RELEASES
            job.failures += charged
            job.interruptions += not charged and (job.suspect or job in begun)
            if job.cancel_requested:
                self.end(job, State.CANCELLED, spends=charged)
            elif charged and job.attempt + 1 >= job.max_attempts:
                self.end(job, State.DEAD)
            else:
                job.attempt += charged
                job.releases += not charged
                job.suspect = job.suspect or job in begun or charged
                job.enter(State.QUEUED)

    def promote(self) -> None:
        """Time passes: whatever waits is due."""
        self.world.execute("update carafe.jobs set due_at = now() where state in ('scheduled', 'retrying')")
        self.world.run(self.world.promoter.round())
        for job in self.jobs.values():
            if job.state in (State.SCHEDULED, State.RETRYING):
                job.enter(State.QUEUED)

    def repair(self, wiped: bool) -> None:
        """A while later, perhaps after a wipe, the steward looks: behind an empty list every queued job is hinted again."""
        if wiped:
            self.world.redis.delete(QUEUE)
        empty = not self.world.redis.exists(QUEUE)
        self.world.execute("update carafe.jobs set hinted_at = hinted_at - interval '1 minute' where state = 'queued'")
        self.world.run(self.world.repairer.round())
        if empty:
            assert self.world.redis.llen(QUEUE) == sum(job.state is State.QUEUED for job in self.jobs.values())

    # -- what always holds

    @invariant()
    def the_store_is_as_the_model_says(self) -> None:
        rows, counts = self.world.fetch(EVERYTHING, COUNTED)
        assert len(rows) == len(self.jobs)  # every accepted job in exactly one table, once
        live_keys: Counter[str] = Counter()
        for row in rows:
            job = self.jobs[row["id"]]
            state = State(row["state"])
            assert (row["source"] == "ended") == state.ended
            assert state is job.state
            assert row["fence"] == job.fence
            assert row["attempt"] == job.attempt <= row["max_attempts"] == job.max_attempts
            assert (row["snoozes"], row["releases"]) == (job.snoozes, job.releases)
            assert row["cancel_requested"] is job.cancel_requested
            assert row["unique_key"] == job.unique_key
            if not state.ended:
                assert row["suspect"] is job.suspect
                assert row["worker"] == job.worker
                assert (row["worker"] is not None) == (state is State.RUNNING)
                live_keys.update([job.unique_key] if job.unique_key else [])
            assert (row["failures"], row["interruptions"]) == (job.failures, job.interruptions)
            if job.kind == Hooked.job_options.kind:
                assert (row["seen"] or []) == job.seen
        assert all(count == 1 for count in live_keys.values())
        assert {row["outcome"]: row["count"] for row in counts} == self.ends


TABLES = (
    "carafe.jobs",
    "carafe.jobs_ended",
    "carafe.attempts",
    "carafe.statistics_deltas",
    "carafe.workers",
    "property_hooks",
)

ANNOUNCED = """
    insert into carafe.workers (id, name, host, pid, incarnation, version, kinds, concurrency, state)
    values ($1, 'worker', 'here', 1, 'x', '0', '{}', $2, 'running')
"""

EVERYTHING = """
    with everything as (
        select id, 'live' as source, state, fence, attempt, max_attempts, snoozes, releases, unique_key, worker, suspect,
            cancel_requested_at is not null as cancel_requested from carafe.jobs
        union all
        select id, 'ended', state, fence, attempt, max_attempts, snoozes, releases, unique_key, worker, null,
            cancel_requested_at is not null from carafe.jobs_ended
    )
    select *,
        (select count(*) filter (where a.cause <> 'interrupted') from carafe.attempts a where a.job_id = everything.id)
            as failures,
        (select count(*) filter (where a.cause = 'interrupted') from carafe.attempts a where a.job_id = everything.id)
            as interruptions,
        (select array_agg(h.state order by h.id) from property_hooks h where h.job_id = everything.id) as seen
    from everything
"""

COUNTED = "select outcome, sum(count)::int as count from carafe.statistics_deltas group by outcome"


def _begun(job: Model) -> tuple[datetime, UUID]:
    assert job.started_at is not None
    return job.started_at, job.id


def _end(claim: Claim, what: str) -> End:
    match what:
        case "succeed":
            return Succeeded(claim, 0.1, "1")
        case "cancel":
            return Cancelled(claim, 0.1, "cancelled by an operator")
        case "snooze":
            return Snoozed(claim, 0.1, HOUR)
        case "release" | "give back":
            return Released(claim, 0.1, started=what == "release")
    delay = 0.0 if what == "fail now" else HOUR
    return Failed(claim, 0.1, "error", "ValueError", "it failed", "trace", delay, final=what == "die")


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """Thousands of rescues would fill the report of a failure."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    yield
    structlog.configure(**before)


@pytest.fixture(scope="module", autouse=True)
def few_free_releases() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("carafe.steward.rescuer.FREE_RELEASES", FREE_RELEASES)
        yield


@pytest.fixture(scope="module")
def world(carafe_databases: Databases, carafe_redis: str) -> Iterator[World]:
    """One database for all runs; each begins with empty tables."""
    with (
        carafe_databases.fresh() as url,
        asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner,
        client_on(url, carafe_redis) as client,
        Redis.from_url(carafe_redis) as redis,
    ):
        world = World(client, redis, runner.get_loop())
        world.execute("create table property_hooks (id bigserial primary key, job_id uuid, state text)")
        yield world
        world.close()


@pytest.mark.parametrize("part", range(PARTS))
def test_the_store_keeps_its_rules_in_any_order(world: World, part: int) -> None:
    machine = type("Store", (Store,), {"world": world})
    run_state_machine_as_test(
        # Where Hypothesis plays the same stories each time (its profile for CI), they are others in each part.
        seed(part)(machine) if settings().derandomize else machine,
        settings=settings(
            max_examples=STORIES // PARTS,
            stateful_step_count=50,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


@contextmanager
def broken(statement: Statement, change: Callable[[str], str]) -> Iterator[None]:
    """The statement with another text, everywhere."""
    sound = statement.numbered
    assert change(sound) != sound
    object.__setattr__(statement, "numbered", change(sound))
    try:
        yield
    finally:
        object.__setattr__(statement, "numbered", sound)


def changed(*parts: str | tuple[str, str]) -> Callable[[str], str]:
    """Each part replaced, or left out; each has to be there."""

    def change(text: str) -> str:
        for part in parts:
            old, new = part if isinstance(part, tuple) else (part, "")
            assert old in text
            text = text.replace(old, new)
        return text

    return change


def spending(what: str) -> Callable[[str], str]:
    """It costs an attempt too."""
    spends = "j.attempt + case t.spends when 'attempt' then 1"
    return changed((spends, f"j.attempt + case when t.spends in ('attempt', '{what}') then 1"))


# Steps of a story, told by the machine's own rules; the newest job is number 0.

Step = Callable[[Store], None]


def enqueue(store: Store) -> None:
    store.enqueue(Plain, None, None)


def enqueue_for_later(store: Store) -> None:
    store.enqueue(Plain, HOUR, None)


def enqueue_unique(store: Store) -> None:
    store.enqueue(Plain, None, "a")


def claim(store: Store) -> None:
    store.claim(0, [0, 1])


def claim_elsewhere(store: Store) -> None:
    store.claim(1, [0])


def cancel(store: Store) -> None:
    store.operate("cancel", 0)


def cancel_running(store: Store) -> None:
    store.operate("cancel a running one", 0)


def cancel_both(store: Store) -> None:
    for job in store.jobs.values():
        store.cancel_running(job)


def retry(store: Store) -> None:
    store.operate("retry", 0)


def lose_the_worker(store: Store) -> None:
    store.operate("rescue", 0)


def lose_the_other_worker(store: Store) -> None:
    store.operate("rescue", 1)


def hand_back(store: Store) -> None:
    store.hand_back(0, [0])


def current(what: str) -> Step:
    return lambda store: store.write(0, store.current(), [(0, what)])


def stale(what: str) -> Step:
    return lambda store: store.write_stale_ends(0, [(0, what)])


LOST = (enqueue, claim, current("release"), claim_elsewhere)
HELD_AGAIN = (enqueue, claim, current("release"), claim)
UNWANTED = (enqueue, claim, cancel_running)
SUSPECT = (enqueue, claim, lose_the_worker)
DEAD = (enqueue, claim, current("die"))
WHATEVER_FENCE = (
    ("(id || ' ' || fence,", "(cast(id as text),"),
    ("(j.id || ' ' || j.fence)", "cast(j.id as text)"),
    ("(j.id, j.fence) in (select id, fence from given", "j.id in (select id from given"),
    "and g.fence = e.fence",
    "and g.fence = k.fence",
)
WHATEVER_IS_WANTED = ("and j.cancel_requested_at is null", "or j.cancel_requested_at is not null")
UNDER_ITS_FENCE = "and ((j.id, j.fence) in (select id, fence from given)) is true"
AGAIN = ("and j.cancel_requested_at is null", ("j.cancel_requested_at is not null", "false"))
WHOEVER_RUNS_IT = changed(("and j.worker = $12", "and $12::uuid is not null"))
SLOTS_OF_THE_LOST = "coalesce((select concurrency from carafe.workers w where w.id = $1), 5)"
FAULTS: dict[str, tuple[Statement, Callable[[str], str], tuple[Step, ...]]] = {
    "an end without a fence": (FINISH, changed(UNDER_ITS_FENCE), (*LOST, stale("succeed"))),
    "an end of what does not run": (
        FINISH,
        changed("and j.state || '' = 'running'"),
        (enqueue, claim, current("fail later"), stale("succeed")),
    ),
    "a failure without a fence": (SETTLE, changed(*WHATEVER_FENCE), (*HELD_AGAIN, stale("fail later"))),
    "a failure of what another worker runs": (SETTLE, WHOEVER_RUNS_IT, (enqueue, claim_elsewhere, current("fail later"))),
    "a failure that spends nothing": (
        SETTLE,
        changed(("j.attempt + case t.spends when 'attempt' then 1 else 0 end", "j.attempt")),
        (enqueue, claim, current("fail later")),
    ),
    "a failure that is not written down": (
        SETTLE,
        changed(("from settled where cause is not null", "from settled where false")),
        (enqueue, claim, current("fail later")),
    ),
    "a cancelled job that retries": (SETTLE, changed(*WHATEVER_IS_WANTED), (*UNWANTED, current("fail later"))),
    "a claim of any state": (CLAIM, changed("and state || '' = 'queued'"), (enqueue_for_later, enqueue, claim)),
    "a claim that keeps the fence": (CLAIM, changed("fence = fence + 1,"), (enqueue, claim)),
    "a snooze that spends": (SETTLE, spending("snooze"), (enqueue, claim, current("snooze"))),
    "a snooze that lets a cancelled job run again": (SETTLE, changed(*WHATEVER_IS_WANTED), (*UNWANTED, current("snooze"))),
    "a snooze without a fence": (SETTLE, changed(*WHATEVER_FENCE), (*HELD_AGAIN, stale("snooze"))),
    "a release without a fence": (SETTLE, changed(*WHATEVER_FENCE), (*HELD_AGAIN, stale("release"))),
    "a release of what another worker runs": (SETTLE, WHOEVER_RUNS_IT, (enqueue, claim_elsewhere, hand_back)),
    "a release that spends": (SETTLE, spending("release"), (enqueue, claim, current("release"))),
    "a release that lets a cancelled job run again": (SETTLE, changed(*WHATEVER_IS_WANTED), (*UNWANTED, current("release"))),
    "a release whose cancelled job is not counted": (
        SETTLE,
        changed(("from settled where state not in ('queued', 'scheduled')", "from settled where state = 'retrying'")),
        (*UNWANTED, current("give back")),
    ),
    "a cancel without a fence": (SETTLE, changed(*WHATEVER_FENCE), (*HELD_AGAIN, stale("cancel"))),
    "a rescue from every worker": (
        RESCUE,
        changed(("where worker = $1 and", "where"), "and j.worker = $1"),
        (enqueue, claim, lose_the_other_worker),
    ),
    "a rescue that charges what was never begun": (
        RESCUE,
        changed((SLOTS_OF_THE_LOST, "100")),
        (enqueue, enqueue, claim, lose_the_worker),
    ),
    "a rescue that charges nobody": (RESCUE, changed((SLOTS_OF_THE_LOST, "0")), (enqueue, claim, lose_the_worker)),
    "a rescue that charges the last": (
        RESCUE,
        changed(("order by started_at, id", "order by started_at desc, id desc")),
        (enqueue, enqueue, claim, lose_the_worker),
    ),
    "a rescue that charges a suspect": (RESCUE, changed(("not suspect and ", "")), (*SUSPECT, claim, lose_the_worker)),
    "a rescue that suspects nobody": (
        RESCUE,
        changed(("suspect = j.suspect or j.id in (select id from judged where begun or charged)", "suspect = j.suspect")),
        SUSPECT,
    ),
    "a rescue that is free for ever": (
        RESCUE,
        changed(("releases >= $2::integer", "($2::integer < 0)")),
        (*SUSPECT, *(claim, lose_the_worker) * 3),
    ),
    "a rescue that lets a cancelled job run again": (RESCUE, changed(*AGAIN), (*UNWANTED, lose_the_worker)),
    "a rescue that charges what was never begun as it ends cancelled": (
        RESCUE,
        changed(
            (
                "j.attempt + case when j.id in (select id from judged where charged) then 1 else 0 end as spent",
                "j.attempt + 1 as spent",
            )
        ),
        (enqueue, enqueue, claim, cancel_both, lose_the_worker),
    ),
    "a claim that hides a suspect": (CLAIM, changed(("trace, suspect", "trace, false as suspect")), (*SUSPECT, claim)),
    "a cancel that is not counted": (
        STATEMENTS["cancel"],
        changed(("from ended group by kind", "from ended where false group by kind")),
        (enqueue, cancel),
    ),
    "a cancel that leaves the row": (
        STATEMENTS["cancel"],
        changed(
            ("delete from carafe.jobs where", "select * from carafe.jobs where"), ("'retrying') returning *", "'retrying')")
        ),
        (enqueue, cancel),
    ),
    "a retry that lowers the fence": (
        STATEMENTS["retry"],
        changed(
            (
                "select id, kind, queue, args, secrets, version, fence,",
                "select id, kind, queue, args, secrets, version, fence - 1,",
            )
        ),
        (*DEAD, retry),
    ),
    "a retry that forgets attempts": (
        STATEMENTS["retry"],
        changed(("'queued', attempt,\n", "'queued', 0,\n")),
        (*DEAD, retry),
    ),
}


def tell(world: World, story: tuple[Step, ...]) -> None:
    """Play a story and compare the store with the model after each step."""
    store: Store = type("Store", (Store,), {"world": world})()
    for step in story:
        step(store)
        store.the_store_is_as_the_model_says()


@pytest.mark.parametrize("fault", FAULTS)
def test_the_model_notices_a_broken_statement(world: World, fault: str) -> None:
    statement, change, story = FAULTS[fault]
    tell(world, story)

    # Postgres's own constraints are part of the store.
    with broken(statement, change), pytest.raises((AssertionError, asyncpg.IntegrityConstraintViolationError)):
        tell(world, story)


def test_the_model_notices_a_missing_unique_index(world: World) -> None:
    tell(world, (enqueue_unique, enqueue_unique))
    world.execute("drop index carafe.jobs_unique_key")
    try:
        conflict = "on conflict (unique_key) where unique_key is not null do nothing"
        with broken(ENQUEUE, changed(conflict)), pytest.raises(AssertionError):
            tell(world, (enqueue_unique, enqueue_unique))
    finally:
        world.execute("delete from carafe.jobs")
        world.execute("create unique index jobs_unique_key on carafe.jobs (unique_key) where unique_key is not null")
