"""Builds the images with Docker and gives them to the cluster, whichever kind of cluster it is.

How an image gets there: CLUSTER_LOAD, a command that is given the image's name; else what fits the context (kind, k3d);
else a push to the registry that the cluster announces in ConfigMap kube-public/local-registry-hosting (KEP-1755).
CLUSTER_IMAGE names an image of the product that Docker has already; without it the repository's Dockerfile is built.
"""

import os
import shlex
import subprocess
from functools import cache
from pathlib import Path

from tests.cluster.kubectl import Kubectl, KubectlFailed

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = "carafe:cluster-tests"
NAME = "carafe-cluster-tests"


class CannotLoad(RuntimeError):
    """There is no known way to bring an image into this cluster."""


def _run(*command: str) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{shlex.join(command)}: {(result.stderr or result.stdout).strip()[-2_000:]}")
    return result.stdout.strip()


@cache
def product() -> str:
    """The product's own image, built unless CLUSTER_IMAGE names one; once a run, so that all releases have one base."""
    named = os.environ.get("CLUSTER_IMAGE")
    if named:
        return named
    _run("docker", "build", "--quiet", "--tag", PRODUCT, str(ROOT))
    return PRODUCT


def build(base: str, *, target: str = "release", release: str = "1") -> str:
    """The image of the tests on top of `base`. Its tag is made from its content, so that no node runs an older one."""
    tests = ROOT / "tests"
    options = [f"--build-arg=CARAFE_IMAGE={base}", f"--build-arg=RELEASE={release}", f"--target={target}"]
    identifier = _run("docker", "build", "--quiet", *options, f"--file={tests / 'cluster' / 'Dockerfile'}", str(tests))
    image = f"{NAME}:{identifier.rpartition(':')[2][:12]}"
    _run("docker", "tag", identifier, image)
    return image


def load(image: str, kubectl: Kubectl) -> str:
    """Give an image to the cluster. Returns the name by which pods find it. Raises CannotLoad."""
    command = os.environ.get("CLUSTER_LOAD")
    if command:
        _run(*shlex.split(command), image)
        return image
    context = kubectl("config", "current-context").strip()
    kind, _, cluster = context.partition("-")
    if kind == "kind":
        _run("kind", "load", "docker-image", image, "--name", cluster)
        return image
    if kind == "k3d":
        _run("k3d", "image", "import", image, "--cluster", cluster)
        return image
    registry = _announced_registry(kubectl)
    if registry is None:
        raise CannotLoad(
            f"no way is known to bring an image into the cluster of context {context!r}: set CLUSTER_LOAD to a command "
            "that takes the image's name (`kind load docker-image` is one), or announce a registry in ConfigMap "
            "kube-public/local-registry-hosting"
        )
    pushed = f"{registry}/{image}"
    _run("docker", "tag", image, pushed)
    _run("docker", "push", "--quiet", pushed)
    return pushed


def _announced_registry(kubectl: Kubectl) -> str | None:
    try:
        announced = kubectl.get("configmap", "local-registry-hosting", namespace="kube-public")
    except KubectlFailed:
        return None
    text = str(announced.get("data", {}).get("localRegistryHosting.v1", ""))
    hosts = [line.partition(":")[2].strip().strip("'\"") for line in text.splitlines() if line.startswith("host:")]
    return hosts[0] if hosts else None
