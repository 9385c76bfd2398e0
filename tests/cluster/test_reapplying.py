"""Applying the manifests again does not change the number of workers, which KEDA sets."""

import time

import pytest

from tests.cluster.deployment import Deployment
from tests.cluster.kubectl import name_of
from tests.cluster.waiting import until, watch

pytestmark = pytest.mark.cluster


def test_at_zero_workers_it_stays_at_zero(idle: Deployment) -> None:
    assert idle.replicas() == 0
    idle.deploy()
    assert set(watch(20, idle.replicas)) == {0}


def test_at_five_workers_it_stays_at_five_and_the_pods_are_the_same(deployment: Deployment) -> None:
    tag = f"reapplying-{time.time_ns()}"
    ids = deployment.service.enqueue_many("cluster.hold", [{"tag": tag}] * 25)
    until("five workers", lambda: deployment.replicas() == 5 and len(deployment.workers()) == 5, 120)
    deployment.service.running(ids, "cluster.hold", 120)
    before = {name_of(pod) for pod in deployment.workers()}
    deployment.deploy()
    assert set(watch(20, deployment.replicas)) == {5}
    assert {name_of(pod) for pod in deployment.workers()} == before
    deployment.release(tag)
    jobs = deployment.service.wait(ids, "cluster.hold", 60)
    assert {(job["state"], job["attempt"], job["releases"]) for job in jobs} == {("succeeded", 1, 0)}
