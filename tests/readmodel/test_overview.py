"""The snapshot and the charts agree with the tables, tell gaps from zeros, and say in words what needs attention."""

from datetime import timedelta

import pytest

from carafe import Client, JobFilter
from carafe.errors import Unavailable
from carafe.jobs.errors import InvalidOption
from carafe.jobs.records import Count
from carafe.jobs.states import State
from carafe.queue.queue import Queue
from carafe.readmodel.model import ReadModel
from carafe.readmodel.records import Attention, Snapshot
from carafe.steward.gauges import Sampler
from carafe.steward.statistics import Folder
from carafe.store.audit import Actor
from carafe.store.database import Database
from tests.jobs.by_hand import ByHand
from tests.jobs.kinds import Fail, Greet
from tests.readmodel.test_waiting import KINDS, execute, lead, pod
from tests.steward.conftest import announce

pytestmark = pytest.mark.anyio

ADA = Greet(name="Ada")


def told(snapshot: Snapshot) -> dict[str, Attention]:
    return {item.key: item for item in snapshot.attention}


async def test_a_snapshot_counts_each_state_and_what_works(carafe_client: Client, model: ReadModel, worker: ByHand) -> None:
    await lead(carafe_client)
    await announce(worker, kinds=KINDS, concurrency=5)
    jobs = [(await carafe_client.enqueue(ADA)).id for _ in range(7)]
    _, succeeded, dead, retrying, cancelled = await worker.claim(*jobs[:5])
    await worker.succeed(succeeded)
    await worker.fail(dead, final=True)
    await worker.fail(retrying)
    await worker.cancel(cancelled)
    await carafe_client.enqueue(ADA, delay=60)

    snapshot = await model.snapshot()

    assert snapshot.counts == {
        State.QUEUED: Count(2),
        State.RUNNING: Count(1),
        State.SCHEDULED: Count(1),
        State.RETRYING: Count(1),
        State.SUCCEEDED: Count(1),
        State.DEAD: Count(1),
        State.CANCELLED: Count(1),
    }
    assert (snapshot.workers, snapshot.draining, snapshot.slots, snapshot.slots_used) == (1, 0, 5, 1)
    assert snapshot.oldest_wait > 0
    assert (snapshot.leader, snapshot.redis, snapshot.paused_at) == ("web-1", None, None)
    assert (snapshot.replicas_wanted, snapshot.replicas_there) == (None, None)
    assert [item.key for item in snapshot.attention] == ["dead"]


async def test_rates_and_growth_are_those_of_the_last_minute(
    carafe_client: Client, model: ReadModel, worker: ByHand
) -> None:
    jobs = [(await carafe_client.enqueue(ADA)).id for _ in range(4)]
    claims = await worker.claim(*jobs)
    for claim in claims[:3]:
        await worker.succeed(claim)
    await worker.fail(claims[3], final=True)
    # They ended half a minute ago; samples say that 120 jobs more wait than a minute before.
    await execute(carafe_client, "update carafe.statistics_deltas set at = at - interval '30 seconds'")
    await Folder(carafe_client.database).round()
    for queued, ago in ((500, 62), (620, 2)):
        await execute(
            carafe_client,
            "insert into carafe.gauges (at, queue, queued, running, scheduled, retrying, dead, oldest_wait, paused, workers,"
            " slots) values (now() - $2::float8 * interval '1 second', 'default', $1, 0, 0, 0, 0, 0, false, 0, 0)",
            queued,
            float(ago),
        )
    snapshot = await model.snapshot()
    assert (snapshot.rates.succeeded, snapshot.rates.dead) == (3 / 60, 1 / 60)
    assert snapshot.growing == pytest.approx(2.0, rel=0.01)
    assert snapshot.drain_seconds is None
    assert snapshot.rates.arrived == pytest.approx(2.0 + 4 / 60, rel=0.01)
    assert snapshot.rates.run_p50 is not None


async def test_what_needs_attention_is_said_in_words(carafe_client: Client, worker: ByHand) -> None:
    for _ in range(4):
        [claim] = await worker.claim((await carafe_client.enqueue(Fail())).id)
        await worker.fail(claim, final=True)
    await carafe_client.enqueue(ADA)
    await carafe_client.pause(by=Actor("ana", "cli"), reason="maintenance")
    database, queue = Database(carafe_client.database.url, read_only=True, pool_size=2), Queue("redis://127.0.0.1:1/0")
    try:
        found = told(await ReadModel(database, queue).snapshot())
    finally:
        await queue.close()
        await database.close()
    assert found["redis"].severity == "critical"
    assert found["redis"].text.startswith("Redis cannot be used (it cannot be reached)")
    assert found["leader"].text.startswith("no steward leads")
    assert found["paused"].text == "the queue is paused by ana (maintenance); 1 job waits"
    assert found["paused"].since is not None
    deaths = found["deaths:tests.fail:ValueError"]
    assert deaths.text == "dead letters are growing: 4 jobs of `tests.fail` died recently with ValueError"
    assert found["dead"].text == "4 dead letters wait for a decision"
    assert next(iter(found)) == "redis"


async def test_what_follows_from_an_outage_is_not_listed_beside_it(
    carafe_client: Client, model: ReadModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    await carafe_client.enqueue(ADA)
    assert {"leader", "no-workers"} <= told(await model.snapshot()).keys()

    async def refuses() -> str:
        return "is read-only"

    # Nobody can renew a lease or a heartbeat then.
    monkeypatch.setattr(model, "_refuses", refuses)
    assert list(told(await model.snapshot())) == ["postgres"]


async def test_a_paused_kind_needs_attention_and_asks_for_no_worker(carafe_client: Client, model: ReadModel) -> None:
    await lead(carafe_client)
    await carafe_client.pause_kind("tests.greet", by=Actor("ana", "cli"), reason="the API is down")
    await carafe_client.enqueue_many([ADA, ADA])
    found = told(await model.snapshot())
    assert found["paused-kind:tests.greet"].text == "the kind `tests.greet` is paused by ana (the API is down); 2 jobs wait"
    assert found["paused-kind:tests.greet"].path == "/kinds/tests.greet"
    assert "no-workers" not in found


async def test_several_paused_kinds_are_one_line(carafe_client: Client, model: ReadModel) -> None:
    await lead(carafe_client)
    await execute(
        carafe_client, "insert into carafe.paused_kinds (kind) select 'kind.' || n from generate_series(10, 21) as n"
    )
    await carafe_client.pause_kind("tests.greet")
    await carafe_client.enqueue_many([ADA, ADA, Fail()])
    snapshot = await model.snapshot()
    [line] = [one for one in snapshot.attention if "paused" in one.text]
    assert line.text.startswith("13 kinds are paused: `kind.10`, `kind.11`, ")
    assert line.text.endswith("`kind.19` and 3 more; 2 jobs wait")
    assert (line.key, line.path) == ("paused-kinds", "/kinds")
    assert snapshot.held == Count(2)


async def test_workers_that_ignore_a_pause_need_attention(carafe_client: Client, model: ReadModel, worker: ByHand) -> None:
    await lead(carafe_client)
    await announce(worker, kinds=["tests.greet"], versions=[])
    assert "pauses-ignored" not in told(await model.snapshot())
    await carafe_client.pause_kind("tests.greet")
    found = told(await ReadModel(model._database).snapshot())["pauses-ignored"]
    assert found.text == "live workers of an older release still start jobs of paused kinds: `tests.greet`"
    assert found.severity == "critical"


async def test_jobs_of_a_paused_kind_are_not_among_those_that_wait_for_a_worker(
    carafe_client: Client, model: ReadModel
) -> None:
    await lead(carafe_client)
    await carafe_client.pause_kind("tests.greet")
    await carafe_client.enqueue_many([ADA, ADA, Fail()])
    assert told(await model.snapshot())["no-workers"].text == "1 job waits and no worker is alive"


async def test_no_worker_a_pending_pod_and_an_unknown_kind(carafe_client: Client, model: ReadModel, worker: ByHand) -> None:
    await lead(carafe_client)
    await carafe_client.enqueue(ADA)
    assert told(await model.snapshot())["no-workers"].text == "1 job waits and no worker is alive"
    await pod(carafe_client, "pod-a", "Pending", "Unschedulable: Insufficient cpu")
    text = told(await model.snapshot())["no-workers"].text
    assert text == "1 job waits and no worker runs: pod pod-a is Pending: Unschedulable: Insufficient cpu"
    await announce(worker, kinds=["other"])
    await execute(carafe_client, "update carafe.jobs set hinted_at = now() + interval '1 minute', deferrals = 1")
    found = told(await model.snapshot())
    assert found["unknown-kind:tests.greet"].text == "no worker has a handler for `tests.greet`: 1 job waits"
    assert found["pods"].text == "pod pod-a is Pending: Unschedulable: Insufficient cpu"
    assert "no-workers" not in found


async def test_a_version_that_no_worker_knows(carafe_client: Client, model: ReadModel, worker: ByHand) -> None:
    await lead(carafe_client)
    await carafe_client.enqueue_many([ADA] * 2)
    await announce(worker, kinds=["other", "tests.greet"], versions=[4, 2])
    await execute(carafe_client, "update carafe.jobs set hinted_at = now() + interval '1 minute', version = 2")
    assert "unknown-kind:tests.greet" not in told(await model.snapshot())
    await execute(carafe_client, "update carafe.jobs set version = 3")
    found = told(await model.snapshot())
    assert found["unknown-kind:tests.greet"].text == (
        "no worker knows version 3 of the arguments of `tests.greet`: 2 jobs wait"
    )


async def test_postgres_away_is_said_as_such() -> None:
    database = Database("postgresql://127.0.0.1:1/none", pool_size=1)
    model = ReadModel(database)
    try:
        for ask in (model.snapshot, model.dead_groups, model.kinds, model.workers):
            with pytest.raises(Unavailable):
                await ask()
    finally:
        await database.close()


async def test_charts_agree_with_the_tables(populated: ReadModel) -> None:
    series = await populated.series("24h")
    assert (len(series.points), series.step) == (144, 600.0)
    assert all(b.at - a.at == timedelta(seconds=600) for a, b in zip(series.points, series.points[1:], strict=False))
    assert series.points[0].at == series.since
    for point in series.points[5:140:45]:
        async with populated._database.connection() as connection:
            row = await connection.fetchrow(
                "select count(*) filter (where state = 'succeeded') as succeeded,"
                " count(*) filter (where state = 'dead') as dead"
                " from carafe.jobs_ended where ended_at >= $1 and ended_at < $2",
                point.at,
                point.at + timedelta(seconds=600),
            )
        assert row is not None
        assert point.succeeded_rate == pytest.approx(row["succeeded"] / 600)
        assert point.dead_rate == pytest.approx(row["dead"] / 600)
        assert point.queued is not None
        assert point.wait_p50 is not None
    kinds = {marker.kind for marker in series.markers}
    assert {"paused", "resumed", "bulk"} <= kinds


async def test_the_charts_of_one_kind(populated: ReadModel) -> None:
    series = await populated.series("24h", "kind.001")
    point = series.points[100]
    async with populated._database.connection() as connection:
        number = await connection.fetchval(
            "select count(*) from carafe.jobs_done where kind = 'kind.001' and state = 'succeeded' and ended_at >= $1"
            " and ended_at < $2",
            point.at,
            point.at + timedelta(seconds=600),
        )
    assert number > 0
    assert point.succeeded_rate == pytest.approx(number / 600)


async def test_where_nothing_was_sampled_there_is_a_gap(carafe_client: Client, model: ReadModel) -> None:
    series = await model.series("5m")
    assert all(point.queued is None and point.succeeded_rate is None for point in series.points)
    assert series.markers == ()
    await Sampler(carafe_client.database).round()
    await execute(carafe_client, "update carafe.gauges set at = at - interval '2 minutes'")
    after = await ReadModel(model._database).series("5m")
    sampled = [point for point in after.points if point.queued is not None]
    assert [(point.queued, point.succeeded_rate, point.wanted) for point in sampled] == [(0.0, 0.0, None)]


async def test_replicas_and_deploys_are_on_the_same_axis(carafe_client: Client, model: ReadModel) -> None:
    for version, minutes in (("1.0", 50), ("1.1", 20)):
        await execute(
            carafe_client,
            "insert into carafe.workers (id, name, host, pid, incarnation, version, kinds, concurrency, state, started_at)"
            " values (gen_random_uuid(), 'w', 'h', 1, $1, $1, '{}', 5, 'running', now() - $2::float8 * interval '1 minute')",
            version,
            float(minutes),
        )
    for workers, ago in ((1, 30.0), (1, 29.5), (3, 29.0), (3, 28.5)):
        await execute(
            carafe_client,
            "insert into carafe.gauges (at, queue, queued, running, scheduled, retrying, dead, oldest_wait, paused, workers,"
            " slots, wanted)"
            " values (now() - $2::float8 * interval '1 minute', 'default', 9, 0, 0, 0, 0, 0, false, $1, 5, 3)",
            workers,
            ago,
        )
    await carafe_client.pause(by=Actor("ana", "dashboard"), reason="deploying")
    await carafe_client.pause_kind("tests.greet", by=Actor("ana", "dashboard"))
    await carafe_client.resume_kind("tests.greet", by=Actor("ana", "dashboard"))
    await execute(carafe_client, "update carafe.audit set at = at - interval '10 minutes'")
    series = await model.series("1h")
    assert [(marker.kind, marker.text) for marker in series.markers] == [
        ("scaled", "1 → 3 workers"),
        ("deploy", "version 1.1"),
        ("paused", "paused by ana: deploying"),
        ("paused", "tests.greet paused by ana"),
        ("resumed", "tests.greet resumed by ana"),
    ]
    assert {point.wanted for point in series.points} == {None, 3.0}


async def test_only_what_happened_is_marked_and_on_a_kinds_charts_only_what_concerns_it(
    carafe_client: Client, model: ReadModel
) -> None:
    ana = Actor("ana", "dashboard")
    for _ in range(2):
        await carafe_client.pause(by=ana)
        await carafe_client.pause_kind("tests.greet", by=ana)
        await carafe_client.pause_kind("tests.fail", by=ana)
    for _ in range(2):
        await carafe_client.resume_kind("tests.fail", by=ana)
        await carafe_client.resume(by=ana)
    await carafe_client.start_bulk("retry", JobFilter(kind="tests.fail"), by=ana)
    await carafe_client.start_bulk("retry", JobFilter(kind="tests.greet"), by=ana)
    await carafe_client.start_bulk("retry", JobFilter(), by=ana)
    await execute(carafe_client, "update carafe.audit set at = at - interval '1 minute'")

    async def texts(kind: str | None) -> list[str]:
        return [marker.text for marker in (await model.series("1h", kind)).markers]

    bulk = "bulk retry of 0 jobs by ana"
    of_fail = ["tests.fail paused by ana", "tests.fail resumed by ana"]
    all_kinds = ["paused by ana", "tests.greet paused by ana", *of_fail, "resumed by ana", bulk, bulk, bulk]
    assert await texts(None) == all_kinds
    assert await texts("tests.greet") == ["paused by ana", "tests.greet paused by ana", "resumed by ana", bulk, bulk]
    assert await texts("tests.other") == ["paused by ana", "resumed by ana", bulk]


async def test_the_sampler_asks_for_as_many_replicas_as_the_autoscaler_does(carafe_client: Client, worker: ByHand) -> None:
    await announce(worker, kinds=KINDS, concurrency=5)
    jobs = [(await carafe_client.enqueue(ADA)).id for _ in range(14)]
    await worker.claim(*jobs[:3])
    await execute(carafe_client, "update carafe.jobs set started_at = now() - interval '2 seconds' where state = 'running'")

    async def sampled() -> tuple[int | None, int]:
        await Sampler(carafe_client.database, scales=True).round()
        async with carafe_client.database.connection() as connection:
            row = await connection.fetchrow("select wanted, used from carafe.gauges order by at desc limit 1")
        assert row is not None
        return row["wanted"], row["used"]

    assert await sampled() == (3, 3)  # (11 queued + 3 running) / 5, rounded up
    await carafe_client.pause()
    assert await sampled() == (1, 3)
    await execute(carafe_client, "delete from carafe.jobs")
    assert await sampled() == (0, 0)


@pytest.mark.parametrize("step", ["", "2h"])
async def test_a_range_that_there_is_not_is_refused(model: ReadModel, step: str) -> None:
    with pytest.raises(InvalidOption, match=r"^range: must be one of 5m, 1h, 24h, 7d"):
        await model.series(step)  # type: ignore[arg-type]
