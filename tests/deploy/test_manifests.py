"""Rules that every manifest follows: Pod Security restricted, limits, no number of workers, no secret in production."""

import re
from pathlib import Path

import pytest

from carafe.telemetry.probes import ProbeServer
from tests.deploy.manifests import DEPLOY, KUSTOMIZE, OVERLAYS, Manifest, Object, containers, manifests, rendered, the

WORKLOADS = [item for item in manifests(KUSTOMIZE) if item.pod]


def test_the_workloads_are_found() -> None:
    """Or the tests below would look at nothing."""
    assert {item.name for item in WORKLOADS} == {
        "carafe-web",
        "carafe-worker",
        "carafe-redis",
        "carafe-postgres",
        "carafe-sample-webhook",
        "carafe-canary-",
    }


@pytest.mark.parametrize("item", WORKLOADS, ids=str)
def test_pods_are_restricted(item: Manifest) -> None:
    pod = item.pod
    assert pod is not None
    assert_restricted(pod)


def assert_restricted(pod: Object) -> None:
    security = pod["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] >= 999
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["enableServiceLinks"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert isinstance(pod["automountServiceAccountToken"], bool)
    assert all({"emptyDir", "configMap", "secret"} & set(volume) for volume in pod.get("volumes", []))
    assert all("sizeLimit" in volume.get("emptyDir", {"sizeLimit": ""}) for volume in pod.get("volumes", []))
    for container in containers(pod):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        for amount in ("requests", "limits"):
            assert {"cpu", "memory"} <= set(container["resources"][amount])
        assert container["imagePullPolicy"] == "IfNotPresent"


@pytest.mark.parametrize("item", [item for item in WORKLOADS if item.kind != "Job"], ids=str)
def test_pods_that_stay_are_probed(item: Manifest) -> None:
    assert item.pod is not None
    for container in item.pod["containers"]:
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)


def test_worker_probes_are_answered_by_its_probe_server() -> None:
    (container,) = the("Deployment", "carafe-worker", KUSTOMIZE / "base")["spec"]["template"]["spec"]["containers"]
    asked = {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert asked == {"/startupz", "/readyz", "/livez"}
    answers = ProbeServer("127.0.0.1", 0, _Well())._probes
    assert asked <= set(answers)
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"


class _Well:
    def livez(self) -> None: ...

    def readyz(self) -> None: ...

    def startupz(self) -> None: ...


def test_nothing_but_the_component_for_it_names_a_number_of_workers() -> None:
    for item in manifests(DEPLOY):
        spec = item.object.get("spec", {})
        if item.kind == "Deployment" and "worker" in item.name:
            assert "replicas" not in spec, item
        for patch in item.object.get("patches", []) if item.kind in ("Kustomization", "Component") else []:
            assert "/spec/replicas" not in patch.get("patch", ""), item
        if any("worker" in entry["name"] for entry in item.object.get("replicas", [])):
            assert item.path.parent.name == "fixed-workers", item
    for overlay in OVERLAYS:
        components = the("Kustomization", "", KUSTOMIZE / "overlays" / overlay)["components"]
        assert not [component for component in components if component.endswith("fixed-workers")]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_namespaces_enforce_restricted(overlay: str) -> None:
    labels = the("Namespace", "carafe", KUSTOMIZE / "overlays" / overlay)["metadata"]["labels"]
    for mode in ("enforce", "audit", "warn"):
        assert labels[f"pod-security.kubernetes.io/{mode}"] == "restricted"


def test_only_overlays_and_their_secrets_name_the_namespace() -> None:
    for path in sorted(KUSTOMIZE.rglob("*.yaml")) + sorted((DEPLOY / "keda").rglob("*.yaml")):
        if "overlays" not in path.parts:
            assert not re.search(r"^\s*namespace: |carafe-redis\.carafe\.", path.read_text(), re.M), path


def test_production_brings_no_secret_and_an_image_by_digest() -> None:
    folder = KUSTOMIZE / "overlays/production"
    assert not [item for item in manifests(folder) if item.kind == "Secret"]
    kustomization = the("Kustomization", "", folder)
    assert not [name for name in kustomization["components"] if name.endswith(("postgres", "sample-webhook"))]
    (image,) = kustomization["images"]
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", image["digest"])
    assert "newTag" not in image


def test_passwords_stand_in_the_development_overlay_alone_and_say_so() -> None:
    found = {item.path for item in manifests(DEPLOY) if item.kind == "Secret"}
    assert found == {KUSTOMIZE / "overlays/dev/secrets.yaml"}
    assert all("FOR DEVELOPMENT ONLY" in path.read_text().splitlines()[0] for path in found)


def test_a_worker_may_patch_pods_only_where_the_policy_narrows_it_down() -> None:
    grants = {
        (item.path.parent.name, item.name): {verb for rule in item.object["rules"] for verb in rule["verbs"]}
        for item in manifests(KUSTOMIZE)
        if item.kind in ("Role", "ClusterRole")
    }
    assert grants == {("base", "carafe-web"): {"get", "list", "watch"}, ("admission", "carafe-worker"): {"patch"}}
    policy = the("ValidatingAdmissionPolicy", "carafe-worker-own-deletion-cost", KUSTOMIZE / "components/admission")
    assert policy["spec"]["failurePolicy"] == "Fail"


def test_nobody_is_let_in_unless_a_policy_says_so() -> None:
    deny = the("NetworkPolicy", "carafe-default-deny", KUSTOMIZE / "base")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress"]}
    for server in ("redis", "postgres"):
        policy = the("NetworkPolicy", f"carafe-{server}", KUSTOMIZE / "components" / server)["spec"]
        assert all(rule["from"] and rule["ports"] for rule in policy["ingress"])


@pytest.mark.parametrize("folder", [KUSTOMIZE / "overlays" / name for name in OVERLAYS], ids=lambda folder: folder.name)
def test_overlays_render(folder: Path) -> None:
    found = {(item.kind, item.name): item for item in rendered(folder)}
    namespaces = {item.object["metadata"].get("namespace") for item in found.values() if item.kind != "Namespace"}
    assert namespaces == {"carafe"}
    for item in found.values():
        assert item.object["metadata"]["labels"]["app.kubernetes.io/part-of"] == "carafe", item.name
        if item.pod is not None:
            assert_restricted(item.pod)
            for container in containers(item.pod):
                assert container["image"] != "carafe", "the overlay names no image"
    assert "replicas" not in found["Deployment", "carafe-worker"].object["spec"]
    settings = found["ConfigMap", "carafe"].object["data"]
    assert settings["BRIEFING_WEBHOOK_URL"].startswith("http")


@pytest.mark.parametrize("folder", [DEPLOY / "keda", DEPLOY / "keda/tolerance"], ids=lambda folder: folder.name)
def test_the_autoscaler_renders_for_any_namespace(folder: Path) -> None:
    found = {item.kind: item.object for item in rendered(folder)}
    assert set(found) == {"ScaledObject", "TriggerAuthentication"}
    assert not any("namespace" in item["metadata"] for item in found.values())
    behaviour = found["ScaledObject"]["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert ("tolerance" in behaviour["scaleUp"]) is (folder.name == "tolerance")
