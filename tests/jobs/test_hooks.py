"""What an application hangs on a job's changes of state is part of the same transaction."""

from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from carafe import testing
from carafe.engine.ends import Succeeded
from carafe.jobs import Change, Client, Context, Job, State, handler, hook
from carafe.jobs.hooks import seal
from carafe.jobs.moves import HookFailed
from tests.jobs.by_hand import ByHand


class Watched(Job, kind="tests.watched", max_retries=0):
    """Writes down each state it enters; `refuses` makes the hook of that state fail after its row."""

    refuses: str = ""
    fails: bool = False


@handler(Watched)
async def watch(job: Watched, ctx: Context) -> dict[str, int]:
    """Succeeds or fails."""
    if job.fails:
        raise ValueError("the handler's own words")
    return {"answer": 42}


@hook(Watched, *State)
async def note(session: AsyncSession, change: Change) -> None:
    """One row a change."""
    await session.execute(
        text("insert into watched (job_id, state, said) values (:id, :state, :said)"),
        {"id": change.job_id, "state": change.state, "said": change.error or str(change.result)},
    )
    if change.arguments["refuses"] == change.state:
        raise RuntimeError("the hook's own words")


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


async def test_one_bad_hook_does_not_hold_up_the_batch(carafe_client: Client, worker: ByHand) -> None:
    jobs = await carafe_client.enqueue_many([Watched(refuses="succeeded" if n == 2 else "") for n in range(5)])
    claims = await worker.claim(*(job.id for job in jobs))
    await worker.ledger.write([Succeeded(claim, 0.1, "1") for claim in claims])

    states = [(await carafe_client.get(job.id)).state for job in jobs]
    assert states == ["succeeded", "succeeded", "dead", "succeeded", "succeeded"]


async def test_what_a_client_does_is_seen_and_can_be_refused(carafe_client: Client, worker: ByHand) -> None:
    refused = await carafe_client.enqueue(Watched(refuses="cancelled"))
    with pytest.raises(HookFailed, match="the hook's own words"):
        await carafe_client.cancel(refused.id)
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


def test_a_hook_in_a_module_that_only_workers_import_is_refused() -> None:
    seal("a module of HANDLER_MODULES")
    try:
        with pytest.raises(TypeError, match=r"move it beside the job's definition \(JOB_MODULES\)"):

            @hook(Watched, State.DEAD)
            async def late(session: AsyncSession, change: Change) -> None: ...
    finally:
        seal(None)
