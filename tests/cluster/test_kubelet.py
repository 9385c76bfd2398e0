"""A restart of the kubelet does not affect the containers. Runs only if the tests are told how to restart a kubelet."""

import os
import shlex
import subprocess
import time

import pytest

from tests.cluster.deployment import Deployment
from tests.cluster.kubectl import condition
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster


def test_a_restarted_kubelet_restarts_no_container_and_jobs_go_on(deployment: Deployment) -> None:
    command = os.environ.get("CLUSTER_RESTART_KUBELET")
    if not command:
        pytest.skip("CLUSTER_RESTART_KUBELET is not set: a command that restarts the kubelet of the (only) node")
    tag = f"kubelet-{time.time_ns()}"
    with deployment.paused_at(1):
        ids = deployment.service.enqueue_many("cluster.hold", [{"tag": tag}] * 5)
        deployment.service.running(ids, "cluster.hold", 60)
        before = deployment.restarted()
        beat = _beat(deployment)
        subprocess.run(shlex.split(command), check=True, timeout=180, capture_output=True)
        until("the kubelet reports again", lambda: _beat(deployment) != beat, 180)
        until(
            "the node is ready", lambda: all(condition(n, "Ready") == "True" for n in deployment.kubectl.find("nodes")), 120
        )
        deployment.release(tag)
        jobs = deployment.service.wait(ids, "cluster.hold", 120)
        after = deployment.restarted()
    assert {name: after[name] for name in before if name in after} == before
    assert {(job["state"], job["attempt"], job["releases"]) for job in jobs} == {("succeeded", 1, 0)}


def _nodes_are_ready(deployment: Deployment) -> bool:
    return all(condition(node, "Ready") == "True" for node in deployment.kubectl.find("nodes"))


def _beat(deployment: Deployment) -> list[str]:
    """When the kubelets last renewed their leases."""
    path = "--output=jsonpath={.items[*].spec.renewTime}"
    return deployment.kubectl("get", "leases", "--namespace=kube-node-lease", path).split()
