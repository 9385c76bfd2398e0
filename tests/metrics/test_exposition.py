"""The metrics of web process, worker and steward: promtool finds no fault, labels are few, and each process shows its own
metrics."""

import asyncio

import httpx
import pytest

from carafe.telemetry.metrics import LED
from tests.metrics.conftest import Start
from tests.metrics.processes import Process, Samples, total
from tests.metrics.prometheus import promtool
from tests.waiting import eventually

pytestmark = pytest.mark.process

KINDS = ("fine", "threaded", "apart", "whole", "flaky", "failing", "snoozing", "declining")
LED_NAMES = {metric.name for metric in LED}


def names(samples: Samples) -> set[str]:
    return {name for name, _ in samples}


@pytest.fixture(scope="module")
async def ran(api: httpx.AsyncClient, worker: Process, web: Process) -> None:
    """A job of each kind has come to its end."""
    for kind in KINDS:
        answer = await api.post("/jobs", json={"kind": f"metrics.{kind}", "args": {}})
        assert answer.status_code == 202, answer.text

    async def ended() -> bool:
        found = (await api.get("/jobs", params={"limit": 100})).json()["jobs"]
        return len(found) == len(KINDS) and all(job["state"] in ("succeeded", "dead", "cancelled") for job in found)

    await eventually(ended, 60)


async def test_promtool_finds_nothing_to_complain_about(ran: None, web: Process, worker: Process) -> None:
    for process in (web, worker):
        done = await asyncio.to_thread(promtool, "check", "metrics", given=process.metrics())
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


async def test_openmetrics_is_served_to_who_asks_for_it(ran: None, web: Process, worker: Process) -> None:
    for process in (web, worker):
        assert process.metrics("application/openmetrics-text; version=1.0.0").endswith("# EOF\n")


async def test_labels_are_queue_kind_and_outcome(ran: None, web: Process, worker: Process) -> None:
    for process in (web, worker):
        labels = {label for _, found in process.samples() for label, _ in found}
        assert labels <= {"queue", "kind", "outcome", "le"}


async def test_each_process_shows_its_own_side(ran: None, web: Process, worker: Process) -> None:
    both = {"carafe_loop_lag_seconds", "carafe_postgres_up", "carafe_redis_up"}
    assert both | {"carafe_jobs_accepted_total", "carafe_enqueue_duration_seconds_count"} <= names(web.samples())
    assert both | {"carafe_jobs_started_total", "carafe_slots", "carafe_hints_total"} <= names(worker.samples())
    assert not {"carafe_slots", "carafe_jobs_started_total"} & names(web.samples())
    assert "carafe_jobs_accepted_total" not in names(worker.samples())


async def test_servers_that_answer_are_up(ran: None, web: Process, worker: Process) -> None:
    for process in (web, worker):
        samples = process.samples()
        for server in ("postgres", "redis"):
            assert samples[f"carafe_{server}_up", ()] == 1
            assert 0 < samples[f"carafe_{server}_ping_seconds", ()] < 2


async def test_the_leader_alone_shows_what_is_true_of_everything(
    ran: None, web: Process, worker: Process, start: Start
) -> None:
    other = await start("steward")
    assert web.samples()["carafe_steward_leader", ()] == 1
    assert other.samples()["carafe_steward_leader", ()] == 0
    assert not LED_NAMES & names(other.samples())
    # This worker never leads (STEWARD), so that it does not say whether it does.
    assert not (LED_NAMES | {"carafe_steward_leader"}) & names(worker.samples())
    other.kill()


async def test_a_successor_shows_it_and_a_former_leader_no_longer(
    start: Start, database_url: str, ran: None, web: Process
) -> None:
    first = web
    second = await start("steward")
    first.signal()
    await eventually(lambda: second.samples()["carafe_steward_leader", ()] == 1, 40)
    await eventually(lambda: names(second.samples()) >= LED_NAMES, 40)
    # The first sample it reads may be its predecessor's, of before the dead job ended.
    await eventually(lambda: total(second.samples(), "carafe_jobs_dead") == 1, 40)
    await second.stop()


async def test_a_port_that_is_taken_is_told_by_its_setting(start: Start, worker: Process, ran: None) -> None:
    for command in (("serve",), ("steward",)):
        with pytest.raises(
            RuntimeError, match=r"it ended with 2:\s+error: METRICS_PORT: .*set METRICS_PORT to another port"
        ):
            await start(*command, METRICS_PORT=str(worker.port), LOG_LEVEL="ERROR")
