"""Everything about one job: its timeline, and the version that shows a change; also workers, kinds, audit and bulk
actions."""

import pytest

from carafe import Client
from carafe.jobs.errors import InvalidOption
from carafe.jobs.identifiers import uuid7
from carafe.jobs.states import State
from carafe.readmodel.model import WATCHED, ReadModel
from carafe.readmodel.records import JobView
from carafe.store.audit import Actor
from carafe.store.filters import JobFilter
from tests.jobs.by_hand import ByHand
from tests.jobs.kinds import Add, Fail, Greet
from tests.readmodel.test_waiting import KINDS, execute, pod
from tests.steward.conftest import announce

pytestmark = pytest.mark.anyio

ADA = Greet(name="Ada")
ANA = Actor("ana", "dashboard")


async def view(model: ReadModel, job_id: object) -> JobView:
    found = await model.job(job_id)  # type: ignore[arg-type]
    assert found is not None
    return found


async def test_the_life_of_a_job_that_failed_died_was_retried_and_succeeded(
    carafe_client: Client, model: ReadModel, worker: ByHand
) -> None:
    await announce(worker, kinds=["tests.fail"])
    job = await carafe_client.enqueue(Fail(), created_by="api token bob")
    for final in (False, True):
        [claim] = await worker.claim(job.id)
        await worker.fail(claim, final=final, error="no answer")
        if not final:
            await carafe_client.run_now(job.id)
    dead = await view(model, job.id)
    assert (dead.job.state, dead.fingerprint is not None, len(dead.attempts)) == (State.DEAD, True, 2)
    await carafe_client.retry(job.id, by=ANA, reason="the API is back")
    [claim] = await worker.claim(job.id)
    running = await view(model, job.id)
    assert running.timeline[-1].text == "running"
    assert (running.worker_name, running.worker_alive) == ("by hand", True)
    await worker.succeed(claim)

    done = await view(model, job.id)

    assert [moment.what for moment in done.timeline] == [
        "created",
        "started",
        "failed",
        "started",
        "failed",
        "retried",
        "started",
        "ended",
    ]
    texts = [moment.text for moment in done.timeline]
    assert texts[0] == "created by api token bob"
    assert texts[1] == "attempt 1 started on by hand"
    assert texts[2].startswith("attempt 1 failed after 0 s: ValueError")
    assert texts[5] == "retried by ana: the API is back"
    assert texts[6] == "attempt 3 started on by hand"
    assert texts[7] == "succeeded"
    assert [moment.at for moment in done.timeline] == sorted(moment.at for moment in done.timeline)


async def test_a_version_changes_with_what_is_told_and_only_then(
    carafe_client: Client, model: ReadModel, worker: ByHand
) -> None:
    job = await carafe_client.enqueue(Fail())
    [claim] = await worker.claim(job.id)
    seen = []

    async def changed() -> bool:
        [version] = (await model.versions([job.id])).values()
        assert version == (await view(model, job.id)).version
        seen.append(version)
        return len(set(seen)) == len(seen)

    assert await changed()
    assert not await changed()
    seen.pop()
    await execute(carafe_client, "update carafe.jobs set progress = 0.5")
    assert await changed()
    await execute(
        carafe_client,
        "insert into carafe.job_logs (failed, job_id, fence, attempt, first, last, times, levels, texts)"
        " values (false, $1, 1, 1, 1, 1, array[now()], array['info'], array['hello'])",
        job.id,
    )
    assert await changed()
    assert [line.text for line in (await view(model, job.id)).logs] == ["hello"]
    await carafe_client.cancel(job.id, by=ANA)
    assert await changed()
    await worker.fail(claim, final=True)
    assert await changed()
    assert not await changed()
    assert await model.versions([uuid7()]) == {}


async def test_what_there_is_not_is_none(model: ReadModel) -> None:
    assert await model.job(uuid7()) is None


async def test_however_many_jobs_are_watched_each_is_looked_at(carafe_client: Client, model: ReadModel) -> None:
    jobs = await carafe_client.enqueue_many([ADA] * (WATCHED + 1))
    assert set(await model.versions([job.id for job in jobs])) == {job.id for job in jobs}


async def test_workers_and_what_they_run(carafe_client: Client, model: ReadModel, worker: ByHand) -> None:
    await pod(carafe_client, "pod-1", "Running", "")
    await pod(carafe_client, "pod-2", "Pending", "Unschedulable: Insufficient cpu")
    await execute(carafe_client, "update carafe.pods set node = 'node-a'")
    await announce(worker, kinds=KINDS, incarnation="pod pod-1 7 99", concurrency=3)
    gone = ByHand(carafe_client.database)
    await announce(gone, kinds=KINDS)
    await execute(carafe_client, "update carafe.workers set state = 'lost', stopped_at = now() where id = $1", gone.id)
    jobs = [(await carafe_client.enqueue(ADA)).id for _ in range(2)]
    await worker.claim(*jobs)

    found = await model.workers()

    [live] = found.live
    assert (live.id, live.pod, live.node, live.concurrency, live.slots_used) == (worker.id, "pod-1", "node-a", 3, 2)
    assert [running.id for running in live.running] == jobs
    assert (live.kinds, live.drain_requested) == (("tests.greet",), False)
    assert [other.id for other in found.gone] == [gone.id]
    [missing] = found.pods
    assert (missing.name, missing.phase, missing.trouble) == ("pod-2", "Pending", "Unschedulable: Insufficient cpu")


async def test_kinds_are_known_from_workers_statistics_and_jobs(
    carafe_client: Client, model: ReadModel, worker: ByHand, populated: ReadModel
) -> None:
    await announce(worker, kinds=["z.kind"])
    await carafe_client.enqueue(Add(a=1, b=2))
    assert await model.kinds() == ("tests.add", "z.kind")
    many = await populated.kinds()
    assert len(many) == 41
    assert list(many) == sorted(many)
    assert "rare.kind" in many


async def test_audit_pages(carafe_client: Client, model: ReadModel) -> None:
    jobs = [(await carafe_client.enqueue(ADA)).id for _ in range(5)]
    for job_id in jobs:
        await carafe_client.cancel(job_id, by=ANA)
    first = await model.audit(limit=3)
    second = await model.audit(limit=3, cursor=first.next_cursor)
    assert [row.target for row in (*first.rows, *second.rows)] == [str(job_id) for job_id in reversed(jobs)]
    assert second.next_cursor is None
    [own] = (await model.audit(target=str(jobs[2]))).rows
    assert (own.actor, own.via, own.action) == ("ana", "dashboard", "cancel")
    with pytest.raises(InvalidOption, match=r"^cursor: "):
        await model.audit(cursor="nonsense")


async def test_single_jobs_of_a_bulk_action_are_told_of_at_the_job_alone(carafe_client: Client, model: ReadModel) -> None:
    await execute(
        carafe_client,
        "insert into carafe.audit (id, actor, via, action, target, bulk)"
        " values (gen_random_uuid(), 'ana', 'cli', 'retry', 'some job', gen_random_uuid())",
    )
    assert (await model.audit()).rows == ()
    assert len((await model.audit(target="some job")).rows) == 1


async def test_bulk_actions_under_way_come_first(carafe_client: Client, model: ReadModel) -> None:
    older = await carafe_client.start_bulk("cancel", JobFilter(kind="tests.greet"), by=ANA)
    newer = await carafe_client.start_bulk("cancel", JobFilter(kind="tests.add"), by=ANA)
    assert [bulk.id for bulk in await model.bulk_actions()] == [newer.id, older.id]
    await carafe_client.cancel_bulk(newer.id, by=ANA)
    assert [bulk.id for bulk in await model.bulk_actions()] == [older.id, newer.id]
