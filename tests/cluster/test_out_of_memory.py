"""A job that takes more memory than its pod has ends dead, saying so, and takes no other job with it."""

import pytest

from tests.cluster.deployment import Deployment
from tests.cluster.report import Report
from tests.cluster.service import Json

pytestmark = pytest.mark.cluster

NEIGHBOURS = 4


@pytest.mark.parametrize("kind", ["cluster.hog", "cluster.hog-apart"], ids=["in the main process", "in a child"])
def test_a_job_that_exceeds_memory_ends_dead_and_says_why(deployment: Deployment, report: Report, kind: str) -> None:
    service = deployment.service
    with deployment.paused_at(1):
        neighbours = service.enqueue_many("cluster.wait", [{"seconds": 4}] * NEIGHBOURS)
        hog = service.enqueue(kind)
        [ended] = service.wait([hog], kind, 240)
        others = service.wait(neighbours, "cluster.wait", 240)
    job = service.job(hog)
    there = "import os; print(os.path.exists('/sys/fs/cgroup/cgroup.controllers'))"
    cgroup = 2 if "True" in deployment.kubectl.exec("deploy/carafe-web", "python", "-c", there) else 1
    report.add(
        f"out of memory, {kind} (cgroup v{cgroup})",
        f"{job['state']} after {job['attempt']} attempts: "
        + " | ".join(_said(attempt) for attempt in job["attempts"])
        + f"; {NEIGHBOURS} neighbours: {sorted((other['state'], other['attempt']) for other in others)}",
        "dead after its attempts, each saying out of memory with the pod's name",
    )
    assert ended["state"] == "dead"
    assert job["attempt"] == job["max_attempts"] == len(job["attempts"]) == 2
    for attempt in job["attempts"]:
        text = _said(attempt).lower()
        assert "out of memory" in text or "oomkilled" in text, text
        assert "carafe-worker-" in text, text
    assert {other["state"] for other in others} == {"succeeded"}


def _said(attempt: Json) -> str:
    return f"{attempt['cause']}: {attempt['error']} (worker {attempt['worker']})"
