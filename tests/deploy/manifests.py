"""The manifests under deploy/ as objects. They are read file by file, since a bare machine has no kustomize.

`rendered` asks kubectl for an overlay as the cluster would get it; tests that need it are skipped where there is none.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
KUSTOMIZE = DEPLOY / "kustomize"
OVERLAYS = ("dev", "production")

Object = dict[str, Any]

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The loader in C, where PyYAML has it: all of this is read whenever tests are collected."""


class Manifest(NamedTuple):
    """One object of one file."""

    path: Path
    object: Object

    @property
    def kind(self) -> str:
        return str(self.object["kind"])

    @property
    def name(self) -> str:
        metadata = self.object.get("metadata", {})
        return str(metadata.get("name", metadata.get("generateName", "")))

    @property
    def pod(self) -> Object | None:
        """The pod's spec, of a workload that is whole (a patch has neither selector nor Job)."""
        spec = self.object.get("spec", {})
        if (self.kind in ("Deployment", "StatefulSet") and "selector" in spec) or self.kind == "Job":
            found: Object = spec["template"]["spec"]
            return found
        return None

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}: {self.kind} {self.name}"


def manifests(*folders: Path) -> list[Manifest]:
    """Every object in the YAML files of the folders and of those in them."""
    return [
        Manifest(path, found)
        for folder in folders
        for path in sorted(folder.rglob("*.yaml"))
        for found in yaml.load_all(path.read_text(), _Loader)
        if found and "kind" in found  # not a configuration of another tool
    ]


def the(kind: str, name: str, folder: Path) -> Object:
    """The one object of that kind and name in a folder."""
    (found,) = [item.object for item in manifests(folder) if (item.kind, item.name) == (kind, name)]
    return found


def containers(pod: Object) -> Iterator[Object]:
    """A pod's containers, those that run before included."""
    yield from pod.get("initContainers", [])
    yield from pod["containers"]


def settings_of(overlay: str) -> dict[str, str]:
    """The ConfigMap `carafe` of an overlay, as far as files say it: the base's with the overlay's own on top."""
    found = dict(the("ConfigMap", "carafe", KUSTOMIZE / "base")["data"])
    for item in manifests(KUSTOMIZE / "overlays" / overlay):
        if (item.kind, item.name) == ("ConfigMap", "carafe"):
            found |= item.object["data"]
    return found


def rendered(folder: Path) -> list[Manifest]:
    """What kustomize makes of a folder. Skips the test where there is no kubectl."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl, which renders kustomizations, is not on the PATH")
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [Manifest(folder, found) for found in yaml.load_all(done.stdout, _Loader) if found]
