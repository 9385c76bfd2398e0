"""Why does it wait? Each cause is made for real, and the sentence names it with its numbers."""

import re
from datetime import timedelta
from typing import Any

import pytest
from redis import Redis

from carafe import Client
from carafe.jobs.identifiers import uuid7
from carafe.jobs.queue_name import QUEUE
from carafe.queue.queue import Queue
from carafe.readmodel.model import ReadModel
from carafe.steward.statements import LEASE
from carafe.store.audit import Actor
from carafe.store.database import Database
from tests.hostile_hints import HOSTILE_HINTS
from tests.jobs.by_hand import ByHand, make_due, run
from tests.jobs.kinds import Greet
from tests.steward.conftest import announce

pytestmark = pytest.mark.anyio

ADA = Greet(name="Ada")
KINDS = ["tests.greet"]


async def sentence(model: ReadModel, job_id: Any) -> str:
    view = await model.job(job_id)
    assert view is not None
    assert view.waiting is not None
    assert view.timeline[-1].text == view.waiting or view.job.state in ("scheduled", "retrying", "dead")
    return view.waiting


async def execute(client: Client, statement: str, *values: Any) -> None:
    async with client.database.connection() as connection:
        await connection.execute(statement, *values)


async def lead(client: Client) -> None:
    """Somebody holds the steward's lease."""
    values = {"name": "steward", "holder": uuid7(), "holder_name": "web-1", "incarnation": "x", "ttl": 60.0}
    await run(client.database, LEASE, **values)


@pytest.fixture(autouse=True)
async def leader(carafe_client: Client) -> None:
    """A steward leads, unless a test says otherwise."""
    await lead(carafe_client)


async def test_paused(carafe_client: Client, model: ReadModel) -> None:
    job = await carafe_client.enqueue(ADA)
    await carafe_client.pause(by=Actor("ana", "cli"), reason="the API is down")
    assert re.fullmatch(
        r"The queue is paused since \d\d:\d\d:\d\d UTC by ana: the API is down\.", await sentence(model, job.id)
    )


async def test_its_kind_is_paused(carafe_client: Client, model: ReadModel) -> None:
    job = await carafe_client.enqueue(ADA)
    await carafe_client.pause_kind("tests.greet", by=Actor("ana", "cli"), reason="the API is down")
    assert re.fullmatch(
        r"The kind 'tests\.greet' is paused since \d\d:\d\d:\d\d UTC by ana: the API is down\.",
        await sentence(model, job.id),
    )


async def test_scheduled(carafe_client: Client, model: ReadModel) -> None:
    job = await carafe_client.enqueue(ADA, delay=timedelta(hours=2, minutes=30))
    assert re.fullmatch(r"Scheduled for .*\d\d:\d\d:\d\d UTC, in 2 h (29|30) min\.", await sentence(model, job.id))


async def test_a_scheduled_job_whose_time_has_come_is_the_stewards_to_queue(carafe_client: Client, model: ReadModel) -> None:
    job = await carafe_client.enqueue(ADA, delay=60)
    await make_due(carafe_client.database, job.id)
    assert "the steward (web-1) queues it in a moment" in await sentence(model, job.id)


async def test_no_steward_leads(carafe_client: Client, model: ReadModel) -> None:
    await execute(carafe_client, "delete from carafe.leases")
    due, later = [(await carafe_client.enqueue(ADA, delay=seconds)).id for seconds in (60, 600)]
    await make_due(carafe_client.database, due)
    assert "no steward leads, so it is not queued" in await sentence(model, due)
    assert "No steward leads now" in await sentence(model, later)


async def test_retry_in(carafe_client: Client, model: ReadModel, worker: ByHand) -> None:
    job = await carafe_client.enqueue(ADA)
    [claim] = await worker.claim(job.id)
    await worker.fail(claim, delay=40)
    assert re.fullmatch(r"Retry 1 of 3 at \d\d:\d\d:\d\d UTC, in (3\d|40) s\.", await sentence(model, job.id))


async def test_snoozed(carafe_client: Client, model: ReadModel, worker: ByHand) -> None:
    job = await carafe_client.enqueue(ADA)
    [claim] = await worker.claim(job.id)
    await worker.snooze(claim, delay=90)
    assert (await sentence(model, job.id)).startswith("Snoozed until ")


async def test_jobs_before_it(carafe_client: Client, model: ReadModel, worker: ByHand) -> None:
    await announce(worker, kinds=KINDS, concurrency=10)
    jobs = await carafe_client.enqueue_many([ADA])
    jobs += [await carafe_client.enqueue(ADA) for _ in range(3)]
    assert await sentence(model, jobs[0].id) == "It is next: a worker takes it in a moment (0 of 10 slots are busy)."
    assert await sentence(model, jobs[1].id) == "1 job is before it; 0 of 10 slots are busy."
    assert await sentence(model, jobs[3].id) == "3 jobs are before it; 0 of 10 slots are busy."


async def test_no_worker_knows_the_version(carafe_client: Client, model: ReadModel, worker: ByHand) -> None:
    job = await carafe_client.enqueue(ADA)
    # As a newer release would have stored it; whatever else is true of its hint.
    await execute(carafe_client, "update carafe.jobs set version = 3, deferrals = 4 where id = $1", job.id)
    await announce(worker, kinds=["tests.greet", "tests.fail"], versions=[2, 5])
    waits = "of the arguments of 'tests.greet', only up to 2: it waits for workers of the release that enqueued it."
    for stamp in ("now() + interval '9 seconds'", "now() - interval '9 seconds'", "null"):
        await execute(carafe_client, f"update carafe.jobs set hinted_at = {stamp} where id = $1", job.id)
        assert await sentence(model, job.id) == f"The only live worker does not know version 3 {waits}"

    older = ByHand(carafe_client.database)
    await announce(older, kinds=KINDS, versions=[1])
    assert await sentence(model, job.id) == f"None of the 2 live workers knows version 3 {waits}"

    # A worker of a release that does not say its versions may know it.
    await execute(carafe_client, "update carafe.workers set versions = '{}' where id = $1", older.id)
    assert "version" not in await sentence(model, job.id)

    await execute(carafe_client, "update carafe.workers set versions = '{3}' where id = $1", older.id)
    assert "version" not in await sentence(model, job.id)


async def test_all_slots_busy(carafe_client: Client, model: ReadModel, worker: ByHand) -> None:
    await announce(worker, kinds=KINDS, concurrency=2)
    jobs = [(await carafe_client.enqueue(ADA)).id for _ in range(4)]
    await worker.claim(*jobs[:2])
    assert await sentence(model, jobs[3]) == "All slots are busy (2 of 2); 1 job is before it."


async def test_the_maximum_of_replicas_is_reached(carafe_client: Client, worker: ByHand) -> None:
    await announce(worker, kinds=KINDS, concurrency=1)
    jobs = [(await carafe_client.enqueue(ADA)).id for _ in range(3)]
    await worker.claim(jobs[0])
    await pod(carafe_client, "pod-a", "Running", "")
    await sampled(carafe_client, wanted=3)
    database = Database(carafe_client.database.url, read_only=True, pool_size=2)
    try:
        text = await sentence(ReadModel(database, carafe_client.queue, max_replicas=1), jobs[2])
    finally:
        await database.close()
    assert text == "All slots are busy (1 of 1); 1 job is before it. The maximum of 1 replicas is reached."


async def test_no_worker_is_alive(carafe_client: Client, model: ReadModel) -> None:
    job = await carafe_client.enqueue(ADA)
    assert await sentence(model, job.id) == "No workers are alive: start one with `carafe serve --worker`."


async def test_workers_that_drain_take_nothing(carafe_client: Client, model: ReadModel, worker: ByHand) -> None:
    await announce(worker, kinds=KINDS)
    await execute(carafe_client, "update carafe.workers set state = 'draining'")
    job = await carafe_client.enqueue(ADA)
    assert await sentence(model, job.id) == "No workers: 1 worker is draining and takes nothing new."


async def test_scaled_to_zero(carafe_client: Client, model: ReadModel) -> None:
    await sampled(carafe_client, wanted=0)
    job = await carafe_client.enqueue(ADA)
    text = await sentence(model, job.id)
    assert text == "No workers: they are scaled to zero, and the autoscaler has not started one yet."


async def test_a_pod_that_is_pending_says_why(carafe_client: Client, model: ReadModel) -> None:
    await pod(carafe_client, "carafe-worker-x", "Pending", "Unschedulable: 0/3 nodes are available: 3 Insufficient cpu")
    job = await carafe_client.enqueue(ADA)
    assert await sentence(model, job.id) == (
        "No workers: pod carafe-worker-x is Pending: Unschedulable: 0/3 nodes are available: 3 Insufficient cpu."
    )


async def test_no_worker_knows_this_kind(carafe_client: Client, model: ReadModel, worker: ByHand) -> None:
    await announce(worker, kinds=["some.other"])
    job = await carafe_client.enqueue(ADA)
    assert await sentence(model, job.id) == (
        "The only live worker has no handler for the kind 'tests.greet': HANDLER_MODULES must name the module with its"
        " handler."
    )


async def test_a_unique_key_that_another_holds_keeps_a_dead_job_from_a_retry(
    carafe_client: Client, model: ReadModel, worker: ByHand
) -> None:
    dead = await carafe_client.enqueue(ADA, unique_key="ada")
    [claim] = await worker.claim(dead.id)
    await worker.fail(claim, final=True)
    view = await model.job(dead.id)
    assert view is not None
    assert view.waiting is None
    holder = await carafe_client.enqueue(ADA, unique_key="ada")
    text = await sentence(model, dead.id)
    assert text == f"It cannot be retried now: its unique key 'ada' is held by job {holder.id}."


async def test_a_hint_that_is_lost(carafe_client: Client, model: ReadModel, worker: ByHand, carafe_redis_url: str) -> None:
    await announce(worker, kinds=KINDS)
    job = await carafe_client.enqueue(ADA)
    with Redis.from_url(carafe_redis_url) as redis:
        redis.flushall()
    assert (await sentence(model, job.id)).startswith("It is next"), "it may still be under way"
    await execute(carafe_client, "update carafe.jobs set hinted_at = now() - interval '10 seconds'")
    text = await sentence(model, job.id)
    assert text == "Its hint in Redis is lost; the steward pushes it again within seconds."
    await execute(carafe_client, "delete from carafe.leases")
    assert "no steward leads to repair it" in await sentence(model, job.id)


async def test_a_hint_older_than_the_next_one_is_lost_and_a_younger_one_is_not(
    carafe_client: Client, model: ReadModel, worker: ByHand, carafe_redis_url: str
) -> None:
    await announce(worker, kinds=KINDS)
    lost = await carafe_client.enqueue(ADA)
    with Redis.from_url(carafe_redis_url) as redis:
        redis.flushall()
    await execute(carafe_client, "update carafe.jobs set hinted_at = now() - interval '10 seconds'")
    there = await carafe_client.enqueue(ADA)
    assert "is lost" in await sentence(model, lost.id)
    assert await sentence(model, there.id) == "1 job is before it; 0 of 5 slots are busy."


@pytest.mark.parametrize("message", HOSTILE_HINTS.values(), ids=HOSTILE_HINTS)
async def test_a_message_of_somebody_else_that_is_next_tells_nothing(
    carafe_client: Client, model: ReadModel, worker: ByHand, carafe_redis_url: str, message: bytes
) -> None:
    await announce(worker, kinds=KINDS)
    job = await carafe_client.enqueue(ADA)
    await execute(carafe_client, "update carafe.jobs set hinted_at = now() - interval '10 seconds'")
    with Redis.from_url(carafe_redis_url) as redis:
        redis.rpush(QUEUE, message)
    assert (await sentence(model, job.id)).startswith("It is next")


async def test_redis_down(carafe_client: Client, worker: ByHand) -> None:
    await announce(worker, kinds=KINDS)
    job = await carafe_client.enqueue(ADA)
    database, queue = Database(carafe_client.database.url, read_only=True, pool_size=2), Queue("redis://127.0.0.1:1/0")
    try:
        text = await sentence(ReadModel(database, queue), job.id)
    finally:
        await queue.close()
        await database.close()
    assert text.startswith("Redis cannot be used (it cannot be reached)")
    assert text.endswith("The job is safe in Postgres.")


async def test_a_suspect_waits_to_run_in_a_process_of_its_own(
    carafe_client: Client, model: ReadModel, worker: ByHand
) -> None:
    await announce(worker, kinds=KINDS)
    job = await carafe_client.enqueue(ADA)
    await execute(carafe_client, "update carafe.jobs set suspect = true")
    text = await sentence(model, job.id)
    said = "Its worker was lost, so this job now waits to run in a process of its own"
    assert text.startswith(said)
    assert "0 of 5 slots are busy" in text
    await execute(carafe_client, "update carafe.jobs set hinted_at = now() + interval '20 seconds', deferrals = 1")
    assert re.search(rf"{said}: no worker had room for it.*offered again in (19|20) s", await sentence(model, job.id))


async def test_a_job_that_a_worker_left_to_others(carafe_client: Client, model: ReadModel, worker: ByHand) -> None:
    await announce(worker, kinds=KINDS)
    job = await carafe_client.enqueue(ADA)
    await execute(carafe_client, "update carafe.jobs set hinted_at = now() + interval '20 seconds', deferrals = 3")
    said = await sentence(model, job.id)
    assert re.fullmatch(r"A worker passed it on to other workers \(3 times\); it is offered again in (19|20) s\.", said)


async def test_what_runs_or_has_ended_waits_for_nothing(carafe_client: Client, model: ReadModel, worker: ByHand) -> None:
    running, succeeded = [(await carafe_client.enqueue(ADA)).id for _ in range(2)]
    claims = await worker.claim(running, succeeded)
    await worker.succeed(next(claim for claim in claims if claim.id == succeeded))
    for job_id in (running, succeeded):
        view = await model.job(job_id)
        assert view is not None
        assert view.waiting is None


async def pod(client: Client, name: str, phase: str, trouble: str) -> None:
    """A worker's pod, as the cluster reported it."""
    await execute(
        client,
        "insert into carafe.pods"
        " (uid, namespace, name, node, phase, ready, deleting, ended, restarts, trouble, trouble_since)"
        " values ($1, 'carafe', $1, '', $2, $3, false, false, 0, $4, case when $4 <> '' then now() end)",
        name,
        phase,
        trouble == "",
        trouble,
    )


async def sampled(client: Client, *, wanted: int) -> None:
    """A sample where there is an autoscaler."""
    await execute(
        client,
        "insert into carafe.gauges (queue, queued, running, scheduled, retrying, dead, oldest_wait, paused, workers, slots,"
        " wanted) values ('default', 0, 0, 0, 0, 0, 0, false, 0, 0, $1)",
        wanted,
    )
