"""Scale-in under load removes the idle workers, also where Kubernetes by itself would remove busy ones."""

import os
import time

import pytest

from tests.cluster.deployment import Deployment
from tests.cluster.kubectl import Object, name_of
from tests.cluster.report import Report
from tests.cluster.service import Json
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

ROUNDS = int(os.environ.get("CLUSTER_ROUNDS", "10"))
PODS = 5
BUSY = 3
SLOTS = 5

# The rounds wait for nothing but the step itself: the calm of scale-in is shortened while they run.
SHORT = {
    "target": {"kind": "ScaledObject"},
    "patch": '[{"op": "replace", "path": "/spec/advanced/horizontalPodAutoscalerConfig/behavior/scaleDown/'
    'stabilizationWindowSeconds", "value": 10}]',
}


def test_the_idle_pods_go_and_the_busy_ones_stay_until_done(deployment: Deployment, report: Report) -> None:
    stories = []
    deployment.apply_keda(patches=[SHORT])
    try:
        for number in range(ROUNDS):
            stories.append(_round(deployment, number, idle_are_oldest=number % 2 == 0))
    finally:
        deployment.apply_keda()
    report.add(
        f"scale-in from {PODS} pods, {BUSY} of them busy: rounds in which the idle ones went and the busy ones stayed",
        f"{len(stories)} of {ROUNDS}, the idle ones being the oldest in {(ROUNDS + 1) // 2}; "
        f"seconds until the {PODS - BUSY} were gone: {', '.join(f'{story:.0f}' for story in stories)}",
        "all",
    )


def _round(deployment: Deployment, number: int, *, idle_are_oldest: bool) -> float:
    """One round; the seconds from letting KEDA scale until the idle pods were gone."""
    service = deployment.service
    # Pods of two ages, and every slot of all of them taken, so that the test can choose who is left with a job.
    deployment.pause_at(0)
    deployment.pause_at(PODS - BUSY if idle_are_oldest else BUSY)
    deployment.pause_at(PODS)
    pods = sorted(deployment.workers(), key=_age)
    tag = f"scale-in-{number}-{time.time_ns()}"
    ids = service.enqueue_many("cluster.hold", [{"tag": tag}] * (PODS * SLOTS))
    jobs = service.running(ids, "cluster.hold", 60)
    by_pod: dict[str, list[Json]] = {}
    for job in jobs:
        by_pod.setdefault(str(job["progress_note"]), []).append(job)
    assert {pod: len(held) for pod, held in by_pod.items()} == {name_of(pod): SLOTS for pod in pods}
    busy = [name_of(pod) for pod in (pods[-BUSY:] if idle_are_oldest else pods[:BUSY])]
    kept = [str(by_pod[pod][0]["id"]) for pod in busy]
    service.cancel(job_id for job_id in ids if job_id not in kept)
    until("only the kept jobs run", lambda: {str(job["id"]) for job in service.live()} == set(kept), 60)
    until("the busy pods are counted", lambda: deployment.load().busy == BUSY, 30)

    deployment.unpause()
    began = time.monotonic()
    until(f"{BUSY} pods are left", lambda: len(deployment.workers()) == BUSY, 180)
    seconds = time.monotonic() - began
    assert {name_of(pod) for pod in deployment.workers()} == set(busy), "a busy pod was taken"
    until("the idle pods have ended", lambda: _names(deployment) == set(busy), 60)
    deployment.release(tag)
    ended = service.wait(kept, "cluster.hold", 60)
    assert [(job["state"], job["attempt"], job["releases"]) for job in ended] == [("succeeded", 1, 0)] * BUSY
    assert sorted(str(job["result"]["pod"]) for job in ended) == sorted(busy), "a job moved"
    return seconds


def _names(deployment: Deployment) -> set[str]:
    return {name_of(pod) for pod in deployment.kubectl.find("pods", "app.kubernetes.io/component=worker")}


def _age(pod: Object) -> str:
    """Oldest first."""
    return str(pod["metadata"]["creationTimestamp"])
