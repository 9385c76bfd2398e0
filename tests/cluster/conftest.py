"""One deployment for the whole run, from nothing, in a namespace that is deleted afterwards.

Before each test, the deployment is repaired and has no live jobs; a test that needs more (no workers) says so.
CLUSTER_KEEP=1 keeps the namespace, and uses one that a run before has kept: for work on the tests themselves.
CLUSTER_NAMESPACE names it.
"""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import images
from tests.cluster.deployment import PAUSED, SCALED, Deployment
from tests.cluster.kubectl import Kubectl, name_of
from tests.cluster.report import Report

HOW = (
    "tests/cluster need a Kubernetes cluster with KEDA in KUBECONFIG, and kubectl and docker on PATH. On your machine: "
    "`kind create cluster` (or `k3d cluster create`), then KEDA: `helm install keda kedacore/keda --namespace keda "
    "--create-namespace`; docs/testing-on-a-cluster.md says more"
)

_report = Report()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was measured."""
    if _report.rows:
        terminalreporter.section("measured on the cluster")
        for line in _report.lines():
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def report() -> Report:
    """Where a test writes what it measured."""
    return _report


@pytest.fixture(scope="session")
def cluster() -> Kubectl:
    """kubectl in the tests' namespace. Skips, saying how to get one, when there is no cluster."""
    for program in ("kubectl", "docker"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program}: {HOW}")
    kubectl = Kubectl(os.environ.get("CLUSTER_NAMESPACE", "carafe-test"))
    if kubectl.attempt("get", "--raw", "/readyz", within=15).returncode:
        pytest.skip(f"no cluster answers: {HOW}")
    if not kubectl("get", "crd", SCALED, "--ignore-not-found", "--output=name").strip():
        pytest.skip(f"the cluster has no KEDA: {HOW}")
    return kubectl


@pytest.fixture(scope="session")
def image(cluster: Kubectl) -> str:
    """The image of the tests, in the cluster."""
    return images.load(images.build(images.product()), cluster)


@pytest.fixture(scope="session")
def deployed(cluster: Kubectl, image: str, report: Report, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The product, deployed from nothing."""
    keep = bool(os.environ.get("CLUSTER_KEEP"))
    folder: Path = tmp_path_factory.mktemp("overlays")
    if not keep:
        cluster.delete("namespace", cluster.namespace)
    deployment = Deployment(cluster, folder, image)
    began = time.monotonic()
    deployment.deploy()
    report.seconds("from nothing: `make deploy` of images that the cluster has, all Ready", time.monotonic() - began)
    deployment.start_relay()
    deployment.make_tables()
    yield deployment
    deployment.close()
    if not keep:
        cluster("delete", "namespace", cluster.namespace, "--wait=false")


@pytest.fixture
def deployment(deployed: Deployment) -> Deployment:
    """The deployment, whatever the test before left: servers there, KEDA scaling, the image of the start, no live job."""
    kubectl = deployed.kubectl
    annotations = deployed.scaled_object()["metadata"].get("annotations", {})
    stale = [key for key in annotations if key.startswith(PAUSED.removesuffix("-replicas"))]
    if stale:
        kubectl("annotate", SCALED, name_of(deployed.scaled_object()), *(f"{key}-" for key in stale))
    deployed.wait_for_servers()
    deployed.wait_for_rollout("carafe-web")
    deployed.clear()
    return deployed


@pytest.fixture
def idle(deployment: Deployment) -> Deployment:
    """The deployment with no worker."""
    deployment.settle()
    return deployment
