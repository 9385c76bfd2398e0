"""Kubernetes acts as the probes say: it restarts a worker that is blocked, and keeps one that is busy."""

import time

import pytest

from tests.cluster.deployment import Deployment
from tests.cluster.kubectl import Object, condition, name_of, ready, restarts
from tests.cluster.report import Report
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

ASK = """
import sys, urllib.error, urllib.request
try:
    answer = urllib.request.urlopen("http://127.0.0.1:8082" + sys.argv[1], timeout=5)
except urllib.error.HTTPError as error:
    answer = error
print(answer.status, answer.read().decode())
"""


def test_a_blocked_event_loop_has_its_pod_restarted(deployment: Deployment, report: Report) -> None:
    with deployment.paused_at(1):
        [pod] = deployment.workers()
        began = time.monotonic()
        job = deployment.service.enqueue("cluster.block")
        until("the container is restarted", lambda: restarts(deployment.kubectl.get("pod", name_of(pod))) > 0, 240)
        report.seconds("event loop blocked: container restarted after", time.monotonic() - began)
        until("the worker is ready again", lambda: ready(deployment.kubectl.get("pod", name_of(pod))), 120)
        [ended] = deployment.service.wait([job], "cluster.block", 240)
        report.seconds("event loop blocked: the job has ended after", time.monotonic() - began)
    assert any("Liveness" in warning for warning in deployment.kubectl.warnings("Unhealthy"))
    assert (ended["state"], ended["attempt"]) == ("succeeded", 2)


def test_a_full_worker_stays_ready(deployment: Deployment) -> None:
    with deployment.paused_at(1):
        [before] = deployment.workers()
        ids = deployment.service.enqueue_many("cluster.wait", [{"seconds": 15}] * 10)
        jobs = deployment.service.wait(ids, "cluster.wait", 120)
        assert {job["result"]["pod"] for job in jobs} == {name_of(before)}
        after = deployment.kubectl.get("pod", name_of(before))
        assert condition(after, "Ready") == "True"
        assert _since(after) == _since(before), "it was not ready for a while"
        assert restarts(after) == restarts(before)


def test_a_drain_turns_readyz_and_hands_the_job_back(deployment: Deployment, report: Report) -> None:
    tag = f"drain-{time.time_ns()}"
    with deployment.paused_at(1):
        [job] = deployment.service.enqueue_many("cluster.hold", [{"tag": tag}])
        deployment.service.running([job], "cluster.hold", 60)
        [pod] = deployment.workers()
        assert _probe(deployment, name_of(pod), "/readyz").startswith("200")
        began = time.monotonic()
        deployment.kubectl("delete", "pod", name_of(pod), "--wait=false")
        said = until("the drain is seen", lambda: _not_ready(deployment, name_of(pod)), 30)
        assert "drain" in said, said
        assert _probe(deployment, name_of(pod), "/livez").startswith("200")
        until("the pod is gone", lambda: name_of(pod) not in _pods(deployment), 90)
        report.seconds("drain of a worker with a job that does not end: pod gone after", time.monotonic() - began)
        until("another worker has the job", lambda: deployment.service.job(job)["releases"] == 1, 60)
        deployment.release(tag)
        [ended] = deployment.service.wait([job], "cluster.hold", 120)
    assert (ended["state"], ended["attempt"], ended["releases"]) == ("succeeded", 1, 1)


def _not_ready(deployment: Deployment, pod: str) -> str:
    said = _probe(deployment, pod, "/readyz")
    return said if said.startswith("503") else ""


def _probe(deployment: Deployment, pod: str, path: str) -> str:
    return deployment.kubectl.exec(f"pod/{pod}", "python", "-c", ASK, path).strip()


def _since(pod: Object) -> str:
    return next(str(found["lastTransitionTime"]) for found in pod["status"]["conditions"] if found["type"] == "Ready")


def _pods(deployment: Deployment) -> set[str]:
    return {name_of(pod) for pod in deployment.kubectl.find("pods")}
