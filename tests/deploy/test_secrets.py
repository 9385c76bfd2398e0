"""Which pods get which secrets: only web has the secrets for signing in, and no job's code can read them."""

import pytest

from tests.deploy.manifests import DEPLOY, KUSTOMIZE, OVERLAYS, ROOT, Object, containers, manifests, rendered, the

WEB_ALONE = {"API_TOKENS", "DASHBOARD_USERS", "DASHBOARD_SECRET_KEYS"}
SERVES = {"web", "sample-webhook"}
"""The containers that answer HTTP requests of others."""


def secrets_of(container: Object) -> set[str]:
    """The Secrets that a container has in its environment."""
    whole = {entry["secretRef"]["name"] for entry in container.get("envFrom", []) if "secretRef" in entry}
    single = {
        entry["valueFrom"]["secretKeyRef"]["name"]
        for entry in container.get("env", [])
        if "secretKeyRef" in entry.get("valueFrom", {})
    }
    return whole | single


def test_what_lets_people_in_is_given_to_those_alone_who_let_them_in() -> None:
    found = {
        f"{item.name}/{container['name']}": secrets_of(container)
        for item in manifests(KUSTOMIZE)
        if item.pod is not None
        for container in containers(item.pod)
        if container["image"] == "carafe"
    }
    assert {"carafe-web/web", "carafe-web/migrate", "carafe-worker/worker", "carafe-canary-/canary"} <= set(found)
    for name, secrets in found.items():
        wanted = {"carafe", "carafe-web"} if name.partition("/")[2] in SERVES else {"carafe"}
        assert secrets == wanted, name


def test_the_secrets_are_split_in_that_way() -> None:
    shared, web = (the("Secret", name, KUSTOMIZE / "overlays/dev")["stringData"] for name in ("carafe", "carafe-web"))
    assert set(web) == WEB_ALONE
    assert not WEB_ALONE & set(shared)


def test_the_instructions_split_them_too() -> None:
    text = (ROOT / "docs" / "deploy.md").read_text()
    made = text.split("create secret generic ")[1:]
    by_name = {part.split()[0]: part.split("\n\n")[0] for part in made}
    assert all(f"--from-literal={name}=" in by_name["carafe-web"] for name in WEB_ALONE)
    assert not any(f"{name}=" in by_name["carafe"] for name in WEB_ALONE)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_pod_of_a_worker_names_webs_secret(overlay: str) -> None:
    workers = [item for item in rendered(KUSTOMIZE / "overlays" / overlay) if item.name == "carafe-worker" and item.pod]
    assert workers
    assert "carafe-web" not in str([item.object["spec"]["template"]["spec"] for item in workers])


def test_a_deploy_asks_for_every_secret_that_a_pod_reads() -> None:
    script = (DEPLOY / "apply").read_text()
    assert "secretRef:" in script
    assert "secret/carafe-web" in script  # a change of it restarts what reads it
