"""Run a job later, now, not at all, or again."""

from datetime import UTC, datetime, timedelta

import pytest

from carafe import Client, Context, Discard, Job, NotAllowedInState, State, handler, testing


class Remind(Job, kind="tutorial.remind"):
    who: str


reachable = {"Ada": "ada@example.org"}


@handler(Remind)
async def remind(job: Remind, ctx: Context) -> str:
    if job.who not in reachable:
        raise Discard(f"nobody knows how to reach {job.who}")
    return f"reminded {job.who}"


async def test_a_job_can_be_for_later(carafe_client: Client) -> None:
    in_an_hour = await carafe_client.enqueue(Remind(who="Ada"), delay=timedelta(hours=1))
    at_a_time = await carafe_client.enqueue(Remind(who="Ada"), run_at=datetime.now(UTC) + timedelta(days=365))

    assert in_an_hour.state is at_a_time.state is State.SCHEDULED


async def test_a_job_that_waits_can_be_run_now(carafe_client: Client) -> None:
    accepted = await carafe_client.enqueue(Remind(who="Ada"), delay=3600)

    async with testing.manual(carafe_client) as jobs:
        await carafe_client.run_now(accepted.id)
        (record,) = await jobs.drain()

    assert record.result == "reminded Ada"


async def test_a_job_that_waits_can_be_cancelled(carafe_client: Client) -> None:
    accepted = await carafe_client.enqueue(Remind(who="Ada"), delay=3600)

    record = await carafe_client.cancel(accepted.id, reason="she has come by herself")

    assert record.state is State.CANCELLED
    # There is exactly one end. A job that has ended cannot be cancelled again.
    with pytest.raises(NotAllowedInState):
        await carafe_client.cancel(accepted.id)


async def test_a_dead_job_can_be_retried(carafe_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    async with testing.inline(carafe_client):
        accepted = await carafe_client.enqueue(Remind(who="Grace"))
        assert (await carafe_client.get(accepted.id)).state is State.DEAD

        # Somebody mends what was wrong, and an operator retries the job: here, on the dashboard, or by the command line.
        monkeypatch.setitem(reachable, "Grace", "grace@example.org")
        await carafe_client.retry(accepted.id, reason="her address is known now")

    record = await carafe_client.get(accepted.id)
    assert record.state is State.SUCCEEDED
    # It is the same job: what it went through is on record.
    assert record.attempts[0].error == "nobody knows how to reach Grace"


async def test_jobs_are_found_by_state_and_kind(carafe_client: Client) -> None:
    async with testing.inline(carafe_client):
        await carafe_client.enqueue_many([Remind(who=who) for who in ("Ada", "Grace", "Barbara")])

    page = await carafe_client.find(states=[State.DEAD], kind="tutorial.remind")
    assert {record.args["who"] for record in page.jobs} == {"Grace", "Barbara"}
