"""Pods are deleted under running and waiting jobs, with and without their data: nothing is spilled."""

import time
from collections.abc import Iterator

import httpx
import pytest

from tests.cluster.deployment import POSTGRES, REDIS, Deployment
from tests.cluster.kubectl import name_of, restarts, uid_of
from tests.cluster.report import Report
from tests.cluster.service import Json
from tests.cluster.waiting import until, watch

pytestmark = pytest.mark.cluster


class Held:
    """Jobs that run, and more that wait, until they are released."""

    def __init__(self, deployment: Deployment, name: str) -> None:
        self._deployment, self.tag = deployment, f"{name}-{time.time_ns()}"
        self.running: list[str] = []
        self.queued: list[str] = []

    def begin(self, running: int, queued: int) -> None:
        """Enqueue so many that `running` of them run on one worker and the others wait."""
        service = self._deployment.service
        self.running = service.enqueue_many("cluster.hold", [{"tag": self.tag}] * running)
        service.running(self.running, "cluster.hold", 120)
        if queued:
            self.queued = service.enqueue_many("cluster.wait", [{"seconds": 1}] * queued)

    def end(self, within: float = 120.0) -> tuple[list[Json], list[Json]]:
        """Release them; both kinds of jobs, ended."""
        self._deployment.release(self.tag)
        service = self._deployment.service
        return service.wait(self.running, "cluster.hold", within), service.wait(self.queued, "cluster.wait", within)


@pytest.fixture
def held(deployment: Deployment, request: pytest.FixtureRequest) -> Iterator[Held]:
    """Jobs on one worker: all its slots taken, and as many again in the queue."""
    with deployment.paused_at(1):
        jobs = Held(deployment, "lost-pods")
        jobs.begin(running=5, queued=20)
        yield jobs
        deployment.release(jobs.tag)


def _untouched(jobs: list[Json]) -> None:
    assert {job["state"] for job in jobs} == {"succeeded"}
    assert {job["attempt"] for job in jobs} == {1}, "an attempt was spent"


def test_redis_loses_its_pod_and_keeps_its_volume(deployment: Deployment, held: Held, report: Report) -> None:
    before = uid_of(deployment.kubectl.get("pod", f"{REDIS}-0"))
    began = time.monotonic()
    deployment.kubectl.delete("pod", f"{REDIS}-0")
    deployment.wait_for_rollout(REDIS, "statefulset")
    assert uid_of(deployment.kubectl.get("pod", f"{REDIS}-0")) != before
    report.seconds("Redis pod deleted, volume kept: ready again after", time.monotonic() - began)
    running, queued = held.end()
    _untouched(running)
    _untouched(queued)
    assert {job["releases"] for job in running} == {0}, "a running job was moved"
    report.seconds("Redis pod deleted, volume kept: all jobs done after", time.monotonic() - began)


def test_redis_loses_its_pod_and_its_volume(deployment: Deployment, held: Held, report: Report) -> None:
    began = time.monotonic()
    claim = _claim(deployment, REDIS)
    with deployment.without(REDIS):
        deployment.kubectl.delete("pvc", claim)
    assert deployment.redis("DBSIZE").isdigit()
    report.seconds("Redis pod and volume deleted: ready again after", time.monotonic() - began)
    until("the running jobs are counted again", lambda: deployment.load().running == 5, 60)
    running, queued = held.end()
    _untouched(running)
    _untouched(queued)
    report.seconds("Redis pod and volume deleted: all jobs done after", time.monotonic() - began)


def test_postgres_loses_its_pod_and_keeps_its_volume(deployment: Deployment, held: Held, report: Report) -> None:
    began = time.monotonic()
    answers: list[httpx.Response] = []

    def posted() -> httpx.Response:
        body = {"kind": "cluster.wait", "args": {"seconds": 0}}
        answers.append(deployment.service.ask("POST", "/api/v1/jobs", json=body))
        return answers[-1]

    with deployment.without(POSTGRES):
        until("acceptance says that it cannot", lambda: posted().status_code == 503, 60)
        away = watch(20, posted, every=1.0)
        assert {answer.status_code for answer in away} == {503}, [answer.text for answer in away]
        assert {answer.headers["content-type"] for answer in away} == {"application/problem+json"}
    report.seconds("Postgres pod deleted, volume kept: ready again after", time.monotonic() - began)
    until("jobs are accepted again", lambda: posted().status_code == 202, 60)
    report.seconds("Postgres pod deleted, volume kept: accepting again after", time.monotonic() - began)
    running, queued = held.end(240)
    _untouched(running)
    _untouched(queued)
    accepted = [str(answer.json()["id"]) for answer in answers if answer.status_code == 202]
    _untouched(deployment.service.wait(accepted, "cluster.wait", 60))
    report.seconds("Postgres pod deleted, volume kept: all jobs done after", time.monotonic() - began)


def test_a_worker_pod_is_deleted_by_force(deployment: Deployment, held: Held, report: Report) -> None:
    [pod] = deployment.workers()
    began = time.monotonic()
    deployment.kubectl("delete", "pod", name_of(pod), "--grace-period=0", "--force")
    moved = until("the jobs run again", lambda: _elsewhere(deployment, held, name_of(pod)), 120)
    report.seconds("worker pod deleted by force: all its jobs run elsewhere after", time.monotonic() - began)
    running, queued = held.end(300)
    assert {job["state"] for job in [*running, *queued]} == {"succeeded"}
    assert {job["attempt"] for job in queued} == {1}, "a job that had not begun was charged"
    report.add("worker pod deleted by force: what an interrupted job says", _words(deployment, str(moved[0]["id"])))
    report.add("worker pod deleted by force: attempts of its five jobs", str(sorted(job["attempt"] for job in running)))


def test_a_redis_outage_of_a_minute_restarts_no_worker_and_scales_nothing_to_zero(
    deployment: Deployment, report: Report
) -> None:
    tag = f"outage-{time.time_ns()}"
    ids = deployment.service.enqueue_many("cluster.hold", [{"tag": tag}] * 12)
    until("three workers", lambda: deployment.replicas() == 3, 120)
    deployment.service.running(ids, "cluster.hold", 120)
    before = {name_of(pod): restarts(pod) for pod in deployment.workers()}
    with deployment.without(REDIS):
        replicas = watch(60, deployment.replicas)
    assert set(replicas) == {3}
    assert set(watch(30, deployment.replicas)) == {3}, "scaled after Redis was back"
    assert {name_of(pod): restarts(pod) for pod in deployment.workers()} == before
    deployment.release(tag)
    jobs = deployment.service.wait(ids, "cluster.hold", 60)
    _untouched(jobs)
    assert {job["releases"] for job in jobs} == {0}
    report.add("Redis away for a minute, 3 workers with 12 jobs", f"replicas {sorted(set(replicas))}, no restart")


def _claim(deployment: Deployment, server: str) -> str:
    volumes = deployment.kubectl.get("pod", f"{server}-0")["spec"]["volumes"]
    return next(str(volume["persistentVolumeClaim"]["claimName"]) for volume in volumes if "persistentVolumeClaim" in volume)


def _elsewhere(deployment: Deployment, held: Held, gone: str) -> list[Json]:
    jobs = deployment.service.of(held.running, "cluster.hold")
    # A worker takes no more suspects than its memory allows, so not all need run at once; none may be left with the dead.
    left = [job for job in jobs if job["state"] == "running" and job["progress_note"] == gone]
    assert not left, f"{len(left)} still stand under the dead worker"
    return jobs


def _words(deployment: Deployment, job_id: str) -> str:
    attempts = deployment.service.job(job_id)["attempts"]
    return "; ".join(f"{attempt['cause']}: {attempt['error']}" for attempt in attempts) or "nothing: no attempt was spent"
