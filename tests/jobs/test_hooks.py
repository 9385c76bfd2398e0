"""An application's hooks for a job's changes of state run in the transaction of the change."""

import asyncio
import traceback
from contextlib import nullcontext, suppress
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr, field_validator
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from structlog.testing import capture_logs

from carafe import Cancel, Change, Client, Context, Job, State, handler, hook, testing
from carafe.engine.completions import Succeeded
from carafe.errors import TransactionEnded
from carafe.jobs.errors import InvalidOption
from carafe.jobs.hooks import seal
from carafe.jobs.secret_fields import REDACTED
from carafe.steward import Steward
from carafe.store.transitions import HookFailed
from tests.jobs.by_hand import ByHand
from tests.steward.conftest import announce


class Watched(Job, kind="tests.watched", max_retries=0):
    """Writes down each state it enters; `refuses` makes the hook of that state fail after its row."""

    refuses: str = ""
    freezes: str = ""
    fails: bool = False
    cancels: bool = False


@handler(Watched)
async def watch(job: Watched, ctx: Context) -> dict[str, int]:
    """Succeeds or fails."""
    if job.fails:
        raise ValueError("the handler's own words")
    if job.cancels:
        raise Cancel("not wanted any more")
    return {"answer": 42}


@hook(Watched, *State)
async def note(session: AsyncSession, change: Change) -> None:
    """One row a change."""
    await session.execute(
        text("insert into watched (job_id, state, said) values (:id, :state, :said)"),
        {"id": change.job_id, "state": change.state, "said": change.error or str(change.result)},
    )
    if change.arguments["freezes"] == change.state:
        frozen(60)
        await session.execute(text("select 1"))
    if change.arguments["refuses"] == change.state:
        raise RuntimeError("the hook's own words")


class WatchedAgain(Watched, kind="tests.watched_again", max_retries=1):
    """Watched, with a second attempt."""


handler(WatchedAgain)(watch)
hook(WatchedAgain, State.RETRYING)(note)


def frozen(seconds: float) -> None:
    """As if this process had stood still: the loop's clock has gone on."""
    loop = asyncio.get_running_loop()
    now = loop.time
    loop.time = lambda: now() + seconds  # type: ignore[method-assign]


@pytest.fixture
def carafe_client(carafe_client: Client, carafe_database_url: str) -> Client:
    """The client, with the application's table in its database."""
    with psycopg.connect(carafe_database_url) as connection:
        connection.execute("create table watched (n bigserial, job_id uuid, state text, said text)")
    return carafe_client


async def seen(client: Client) -> list[tuple[Any, ...]]:
    async with client.database.connection() as connection:
        return [tuple(row) for row in await connection.fetch("select state, said from watched order by n")]


async def test_a_success_and_its_claim_are_seen(carafe_client: Client) -> None:
    async with testing.inline(carafe_client):
        await carafe_client.enqueue(Watched())

    assert await seen(carafe_client) == [("running", "None"), ("succeeded", "{'answer': 42}")]


async def test_a_failure_is_seen_with_its_error(carafe_client: Client) -> None:
    async with testing.inline(carafe_client):
        await carafe_client.enqueue(Watched(fails=True))

    assert await seen(carafe_client) == [("running", "None"), ("dead", "the handler's own words")]


async def test_a_hook_does_not_pay_for_a_process_that_stood_still(carafe_client: Client) -> None:
    async with testing.inline(carafe_client):
        accepted = await carafe_client.enqueue(Watched(freezes="succeeded"))

    assert (await carafe_client.get(accepted.id)).state is State.SUCCEEDED
    assert [state for state, _ in await seen(carafe_client)] == ["running", "succeeded"]


async def test_a_hook_that_refuses_a_success_fails_the_attempt(carafe_client: Client) -> None:
    async with testing.inline(carafe_client):
        accepted = await carafe_client.enqueue(Watched(refuses="succeeded"))

    record = await carafe_client.get(accepted.id)
    assert (record.state, record.attempts[0].cause) == (State.DEAD, "hook")
    assert "note" in str(record.error)
    assert [state for state, _ in await seen(carafe_client)] == ["running", "dead"]


async def test_a_hook_that_refuses_the_claim_fails_the_attempt(carafe_client: Client) -> None:
    async with testing.inline(carafe_client):
        accepted = await carafe_client.enqueue(Watched(refuses="running"))

    record = await carafe_client.get(accepted.id)
    assert (record.state, record.attempts[0].cause, record.result) == (State.DEAD, "hook", None)
    assert [state for state, _ in await seen(carafe_client)] == ["dead"]


async def test_an_end_that_has_nowhere_else_to_go_is_written_without_its_hook(carafe_client: Client) -> None:
    async with testing.inline(carafe_client):
        accepted = await carafe_client.enqueue(Watched(fails=True, refuses="dead"))

    record = await carafe_client.get(accepted.id)
    assert record.state is State.DEAD
    assert "the handler's own words" in str(record.error)
    assert "its hook failed" in str(record.error)
    assert [state for state, _ in await seen(carafe_client)] == ["running"]


async def test_a_cancellation_whose_hook_fails_says_so(carafe_client: Client, worker: ByHand) -> None:
    async with testing.inline(carafe_client):
        own = await carafe_client.enqueue(Watched(cancels=True, refuses="cancelled"))
    by_operator = await carafe_client.enqueue_many([Watched(refuses="cancelled")] * 3)
    cancelled, released, snoozed = await worker.claim(*(job.id for job in by_operator))
    for job in by_operator:
        await carafe_client.cancel(job.id)
    # However the attempt of a job ends that is to be cancelled.
    await worker.cancel(cancelled)
    await worker.release(released)
    await worker.snooze(snoozed)

    words = ["not wanted any more", *["cancelled by an operator"] * 3]
    for job, begin in zip([own, *by_operator], words, strict=True):
        record = await carafe_client.get(job.id)
        assert record.state is State.CANCELLED
        assert str(record.error).startswith(f"{begin}\n(and its hook failed: ")
        assert "the hook's own words" in str(record.error)
    assert {state for state, _ in await seen(carafe_client)} == {"running"}


async def test_the_end_of_a_lost_workers_job_whose_hook_fails_says_so(carafe_client: Client, worker: ByHand) -> None:
    steward = Steward(carafe_client.database, carafe_client.queue, name="by hand")
    await announce(worker)
    jobs = [
        await carafe_client.enqueue(Watched(refuses="dead")),
        await carafe_client.enqueue(Watched(refuses="cancelled")),
        await carafe_client.enqueue(Watched()),
    ]
    for job in jobs:
        await worker.claim(job.id)
        if job is not jobs[0]:
            await carafe_client.cancel(job.id)
        async with carafe_client.database.connection() as connection:
            await connection.execute("update carafe.workers set state = 'lost', stopped_at = now() where id = $1", worker.id)
        await steward.rescuer.round()

    dead, cancelled, watched = [await carafe_client.get(job.id) for job in jobs]
    assert [dead.state, cancelled.state, watched.state] == [State.DEAD, State.CANCELLED, State.CANCELLED]
    for record in (dead, cancelled):
        assert str(record.error).startswith("worker lost: by hand: ")
        assert "\n(and its hook failed: " in str(record.error)
        assert "the hook's own words" in str(record.error)
    assert "hook" not in str(watched.error)


async def test_a_snooze_whose_hook_fails_is_written_and_the_log_says_so(carafe_client: Client, worker: ByHand) -> None:
    job = await carafe_client.enqueue(Watched(refuses="scheduled"))
    [claim] = await worker.claim(job.id)
    with capture_logs() as lines:
        await worker.snooze(claim)

    record = await carafe_client.get(job.id)
    assert (record.state, record.error, record.attempts) == (State.SCHEDULED, None, ())
    [line] = [line for line in lines if line["event"] == "hook failed, the end is written without it"]
    assert "the hook's own words" in line["error"]


async def test_a_retry_whose_hook_fails_says_so_in_its_attempt(carafe_client: Client) -> None:
    async with testing.inline(carafe_client):
        job = await carafe_client.enqueue(WatchedAgain(fails=True, refuses="retrying"))

    record = await carafe_client.get(job.id)
    assert record.state is State.RETRYING
    assert record.attempts[0].error.startswith("the handler's own words\n(and its hook failed: ")


async def test_one_bad_hook_does_not_hold_up_the_batch(carafe_client: Client, worker: ByHand) -> None:
    jobs = await carafe_client.enqueue_many([Watched(refuses="succeeded" if n == 2 else "") for n in range(5)])
    claims = await worker.claim(*(job.id for job in jobs))
    await worker.ledger.write([Succeeded(claim, 0.1, "1") for claim in claims])

    states = [(await carafe_client.get(job.id)).state for job in jobs]
    assert states == ["succeeded", "succeeded", "dead", "succeeded", "succeeded"]


async def test_what_a_client_does_is_seen_and_can_be_refused(carafe_client: Client, worker: ByHand) -> None:
    refused = await carafe_client.enqueue(Watched(refuses="cancelled"))
    with capture_logs() as lines, pytest.raises(HookFailed, match="the hook's own words"):
        await carafe_client.cancel(refused.id)
    [line] = [line for line in lines if line["event"].startswith("hook failed")]
    assert line["event"] == "hook failed, the action is refused"
    assert (line["kind"], line["job_id"], line["hook"]) == (
        refused.kind,
        str(refused.id),
        "tests.jobs.test_hooks.note",
    )
    assert line["exception"].endswith("RuntimeError: the hook's own words")
    assert (await carafe_client.get(refused.id)).state is State.QUEUED
    assert await seen(carafe_client) == []

    cancelled = await carafe_client.enqueue(Watched())
    await carafe_client.cancel(cancelled.id, reason="enough")
    assert await seen(carafe_client) == [("cancelled", "enough")]


async def test_asking_a_running_job_to_stop_is_no_change_of_state(carafe_client: Client, worker: ByHand) -> None:
    accepted = await carafe_client.enqueue(Watched())
    await worker.claim(accepted.id)
    await carafe_client.cancel(accepted.id)

    assert [state for state, _ in await seen(carafe_client)] == ["running"]


class Renamed(Job, kind="tests.renamed", version=2, max_retries=0):
    """Its hook reads its arguments as an object; `count` had another name once."""

    count: int
    word: SecretStr = SecretStr("")

    @classmethod
    def upgrade(cls, arguments: dict[str, Any], version: int) -> dict[str, Any]:
        return {"count": arguments["number"]} if version < 2 else arguments


@hook(Renamed, "succeeded", "dead", "cancelled", "queued", "retrying")
async def note_arguments(session: AsyncSession, change: Change[Renamed]) -> None:
    """What it reads, as text."""
    job = change.job
    said = f"{type(job).__name__} {job.count + 1} {job.word.get_secret_value()}"
    assert change.job is job  # made once
    await session.execute(
        text("insert into watched (job_id, state, said) values (:id, :state, :said)"),
        {"id": change.job_id, "state": change.state, "said": said},
    )


@handler(Renamed)
async def renamed(job: Renamed, ctx: Context) -> None:
    """Fails for 13."""
    if job.count == 13:
        raise ValueError("13")


async def test_a_change_has_the_job_as_its_handler_gets_it(carafe_client: Client, worker: ByHand) -> None:
    async with testing.inline(carafe_client):
        await carafe_client.enqueue(Renamed(count=1, word=SecretStr("open sesame")))
        dead = await carafe_client.enqueue(Renamed(count=13))
    await carafe_client.retry(dead.id)
    await carafe_client.cancel(dead.id)
    assert await seen(carafe_client) == [
        ("succeeded", "Renamed 2 open sesame"),
        ("dead", "Renamed 14 "),
        ("queued", "Renamed 14 "),
        ("cancelled", "Renamed 14 "),
    ]


async def test_a_change_upgrades_older_arguments_and_says_in_words_what_it_cannot_read(carafe_client: Client) -> None:
    async with testing.manual(carafe_client) as jobs:
        older, wrong = [await carafe_client.enqueue(Renamed(count=1)) for _ in range(2)]
        async with carafe_client.database.connection() as connection:
            for job, args, version in ((older, '{"number": 4}', 1), (wrong, '{"count": "many"}', 2)):
                await connection.execute(
                    "update carafe.jobs set args = $2, version = $3 where id = $1", job.id, args, version
                )
        await jobs.drain()

    assert await seen(carafe_client) == [("succeeded", "Renamed 5 ")]
    record = await carafe_client.get(wrong.id)
    assert record.state is State.DEAD
    assert "(and its hook failed: the hook tests.jobs.test_hooks.note_arguments of job" in str(record.error)
    assert "InvalidArguments: " in str(record.error)
    assert "count: " in str(record.error).partition("its hook failed")[2]


class Confiding(Job, kind="tests.confiding", max_retries=0):
    """Its hook tells its secret, as `how` says."""

    how: str
    key: SecretStr

    @field_validator("key", mode="after")
    @classmethod
    def _allowed(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value().endswith("forbidden"):
            raise ValueError(f"{value.get_secret_value()} is not allowed")
        return value


@hook(Confiding, "succeeded", "dead", "cancelled")
async def confides(session: AsyncSession, change: Change[Confiding]) -> None:
    """Fails with the secret in its error."""
    key = change.arguments["key"]
    if change.job.how == "sql":
        await session.execute(text("select cast(:key as text), 1 / 0"), {"key": key})
    if change.job.how == "in a statement's error":
        with suppress(Exception):
            await session.execute(text("select cast(cast(:key as text) as integer)"), {"key": key})
    if change.job.how == "cause":
        try:
            raise LookupError(key)
        except LookupError as error:
            raise ValueError(f"with {key}") from error
    if change.job.how == "own transaction" and change.state is State.SUCCEEDED:
        raise ValueError(f"with {key}")


@handler(Confiding)
async def confide(job: Confiding, ctx: Context) -> None:
    """Does nothing, or that in a transaction."""
    if job.how in ("own transaction", "too late"):
        async with ctx.transaction():
            pass
    if job.how == "too late":
        raise ValueError(f"with {job.key.get_secret_value()}")


KEY = "open-sesame-1"


@pytest.mark.parametrize("how", ["sql", "in a statement's error", "cause", "own transaction"])
async def test_a_secret_in_a_hooks_error_is_shown_nowhere(carafe_client: Client, how: str) -> None:
    async with testing.manual(carafe_client) as jobs:
        with capture_logs() as lines:
            done = await carafe_client.enqueue(Confiding(how=how, key=SecretStr(KEY)))
            await jobs.drain()
            kept = await carafe_client.enqueue(Confiding(how=how, key=SecretStr(KEY)))
            refusal: HookFailed | None = None
            try:
                await carafe_client.cancel(kept.id)
            except HookFailed as error:
                refusal = error
    record = await carafe_client.get(done.id)
    assert record.state is State.DEAD
    assert "confides" in str(record.error)
    told = "".join(traceback.format_exception(refusal)) if refusal is not None else ""
    assert bool(refusal) is (how != "own transaction")
    failed = [line for line in lines if line["event"].startswith("hook failed")]
    assert failed
    everything = f"{record!r} {told} {lines!r}"
    assert REDACTED in everything
    assert KEY not in everything


async def test_an_error_after_the_transaction_is_logged_with_its_message_and_without_secrets(carafe_client: Client) -> None:
    async with testing.inline(carafe_client):
        with capture_logs() as lines:
            job = await carafe_client.enqueue(Confiding(how="too late", key=SecretStr(KEY)))
    assert (await carafe_client.get(job.id)).state is State.SUCCEEDED
    [line] = [line for line in lines if line["event"].startswith("too late")]
    assert line["what"].startswith(f"it failed with ValueError: with {REDACTED}: raise that inside the block")


async def test_a_validators_error_that_a_hook_meets_shows_no_secret(carafe_client: Client) -> None:
    async with testing.manual(carafe_client) as jobs:
        job = await carafe_client.enqueue(Confiding(how="", key=SecretStr(KEY)))
        async with carafe_client.database.connection() as connection:
            args = '{"how": "", "key": "this-is-forbidden"}'
            await connection.execute("update carafe.jobs set args = $2 where id = $1", job.id, args)
        with capture_logs() as lines:
            await jobs.drain()
    record = await carafe_client.get(job.id)
    assert f"its hook failed: the hook tests.jobs.test_hooks.confides of job {job.id} failed: " in str(record.error)
    assert f"{REDACTED} is not allowed" in str(record.error)
    assert "this-is-forbidden" not in f"{record!r} {lines!r}"


class Shared(Job, kind="tests.shared_change"):
    """Two hooks read its arguments."""

    words: list[str]


@hook(Shared, "succeeded")
async def spoils(session: AsyncSession, change: Change[Shared]) -> None:
    """Changes what it was given."""
    change.job.words.append("by a hook")
    change.arguments["words"].append("by a hook")
    change.result.append("by a hook")


@hook(Shared, "succeeded")
async def reads(session: AsyncSession, change: Change[Shared]) -> None:
    """Writes down what it was given."""
    said = f"{change.job.words} {change.arguments['words']} {change.result}"
    await session.execute(
        text("insert into watched (job_id, state, said) values (:id, :state, :said)"),
        {"id": change.job_id, "state": change.state, "said": said},
    )


@handler(Shared)
async def share(job: Shared, ctx: Context) -> list[str]:
    """Returns its words."""
    return job.words


async def test_a_hook_sees_nothing_of_what_another_changed(carafe_client: Client) -> None:
    async with testing.inline(carafe_client):
        await carafe_client.enqueue(Shared(words=["one"]))
    assert await seen(carafe_client) == [("succeeded", "['one'] ['one'] ['one']")]


class Committing(Job, kind="tests.committing", max_retries=0):
    """Commits the lent transaction in the way `how`, in a hook or in a block of its handler, and may swallow the refusal."""

    how: str
    where: str
    swallows: bool = False


async def commit_by(session: AsyncSession, how: str) -> None:
    connection = await session.connection()
    match how:
        case "connection":
            await connection.commit()
        case "connection of the plain session":
            await session.run_sync(lambda plain: plain.connection().commit())
        case "DB-API":
            await session.run_sync(lambda plain: plain.connection().connection.commit())
        case "driver":
            driver: Any = (await connection.get_raw_connection()).driver_connection
            await driver.execute("commit")


async def writes_and_commits(session: AsyncSession, job_id: Any, job: Committing) -> None:
    await session.execute(text("insert into watched (job_id, said) values (:id, 'written')"), {"id": job_id})
    with suppress(TransactionEnded) if job.swallows else nullcontext():
        await commit_by(session, job.how)
    await session.execute(text("insert into watched (job_id, said) values (:id, 'more')"), {"id": job_id})


@hook(Committing, "succeeded")
async def commits(session: AsyncSession, change: Change[Committing]) -> None:
    """Commits, if it is told to."""
    if change.job.where == "hook":
        await writes_and_commits(session, change.job_id, change.job)


@handler(Committing)
async def commit(job: Committing, ctx: Context) -> None:
    """Commits, if it is told to."""
    if job.where == "block":
        async with ctx.transaction() as session:
            await writes_and_commits(session, ctx.job_id, job)


@pytest.mark.parametrize("where", ["hook", "block"])
@pytest.mark.parametrize("how", ["connection", "connection of the plain session", "DB-API", "driver"])
async def test_a_commit_below_the_session_is_refused_before_it_does_harm(
    carafe_client: Client, how: str, where: str
) -> None:
    async with testing.inline(carafe_client):
        refused = await carafe_client.enqueue(Committing(how=how, where=where))
        swallowed = await carafe_client.enqueue(Committing(how=how, where=where, swallows=True))
    record = await carafe_client.get(refused.id)
    assert record.state is State.DEAD
    assert "must not end the job's transaction itself" in str(record.error)
    # A hook that catches the refusal has lost nothing: one commit has it all.
    assert (await carafe_client.get(swallowed.id)).state is State.SUCCEEDED
    assert [said for _, said in await seen(carafe_client)] == ["written", "more"]


class Nesting(Job, kind="tests.nesting", max_retries=0):
    """Opens a transaction inside another, which `how` says."""

    how: str


@handler(Nesting)
async def nest(job: Nesting, ctx: Context) -> None:
    """Writes in each."""

    async def inner() -> None:
        async with ctx.transaction() as session:
            await session.execute(text("insert into watched (said) values ('inner')"))

    if job.how == "side by side":
        await asyncio.gather(inner(), inner())
        return
    async with ctx.transaction() as outer:
        await outer.execute(text("insert into watched (said) values ('outer')"))
        with suppress(InvalidOption) if job.how == "caught" else nullcontext():
            await inner()


async def test_a_transaction_inside_another_loses_nothing_silently(carafe_client: Client) -> None:
    async with testing.inline(carafe_client):
        nested = await carafe_client.enqueue(Nesting(how="nested"))
        caught = await carafe_client.enqueue(Nesting(how="caught"))
    record = await carafe_client.get(nested.id)
    assert (record.state, record.error_class) == (State.DEAD, "carafe.jobs.errors.InvalidOption")
    assert "transaction: is already open in this attempt" in str(record.error)
    assert (await carafe_client.get(caught.id)).state is State.SUCCEEDED
    assert [said for _, said in await seen(carafe_client)] == ["outer"]


async def test_of_two_transactions_side_by_side_the_second_is_refused(carafe_client: Client) -> None:
    async with testing.inline(carafe_client):
        job = await carafe_client.enqueue(Nesting(how="side by side"))
    record = await carafe_client.get(job.id)
    written = [said for _, said in await seen(carafe_client)]
    # The refusal fails the handler; whether the first block was committed by then is for its commit to say.
    assert (record.state, written) in ((State.DEAD, []), (State.SUCCEEDED, ["inner"]))


def test_a_hook_in_a_module_that_only_workers_import_is_refused() -> None:
    seal("a module of HANDLER_MODULES")
    try:
        with pytest.raises(TypeError, match=r"move it beside the job's definition \(JOB_MODULES\)"):

            @hook(Watched, State.DEAD)
            async def late(session: AsyncSession, change: Change) -> None: ...
    finally:
        seal(None)
