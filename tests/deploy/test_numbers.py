"""Numbers and names that occur in several places (manifests, code, Makefile) agree."""

import math
import re
from typing import Any

import pytest

from briefings.settings import BriefingSettings
from carafe.engine import scaling
from carafe.engine.arrivals import CLAIMS
from carafe.engine.handler_connections import SPARE, pool_size
from carafe.engine.writer import WRITES
from carafe.jobs.queue_name import QUEUE
from carafe.queue import redis_rights
from carafe.settings.settings import Settings, hash_token, require_api_settings, require_dashboard_settings
from tests.deploy.manifests import DEPLOY, KUSTOMIZE, OVERLAYS, ROOT, Object, manifests, settings_of, the

BASE = KUSTOMIZE / "base"
COMPONENTS = KUSTOMIZE / "components"


def scaled_object() -> Object:
    found: Object = the("ScaledObject", "carafe-worker", DEPLOY / "keda")["spec"]
    return found


def triggers() -> dict[str, Object]:
    return {trigger["name"]: trigger for trigger in scaled_object()["triggers"]}


def redis_users() -> dict[str, list[str]]:
    acl: str = the("Secret", "carafe-redis", KUSTOMIZE / "overlays/dev")["stringData"]["users.acl"]
    return {line.split()[1]: line.split()[2:] for line in acl.splitlines()}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_keda_counts_with_the_workers_concurrency(overlay: str) -> None:
    modifiers = scaled_object()["advanced"]["scalingModifiers"]
    busy = re.search(r"busy \* (\d+)", modifiers["formula"])
    assert busy
    concurrency = settings_of(overlay)["WORKER_CONCURRENCY"]
    assert (busy[1], modifiers["target"]) == (concurrency, concurrency)
    assert int(concurrency) == Settings.model_fields["worker_concurrency"].default
    # These say nothing while there is a formula, and should still not say something else.
    for name in ("queued", "running"):
        assert triggers()[name]["metadata"]["listLength"] == concurrency


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_dashboard_knows_how_many_workers_keda_starts_at_most(overlay: str) -> None:
    assert int(settings_of(overlay)["WORKER_MAX_REPLICAS"]) == scaled_object()["maxReplicaCount"]


def test_keda_asks_for_the_keys_that_carafe_writes_and_its_user_may_read_no_other() -> None:
    keys = {"queued": QUEUE, "running": redis_rights.RUNNING, "busy": redis_rights.BUSY}
    assert {name: trigger["metadata"]["listName"] for name, trigger in triggers().items()} == keys
    assert set(keys) <= set(re.findall(r"\w+", scaled_object()["advanced"]["scalingModifiers"]["formula"]))
    assert {rule[1:] for rule in redis_users()["keda"] if rule.startswith("~")} == set(keys.values())


def test_keda_waits_until_what_a_worker_has_said_is_no_longer_counted() -> None:
    # An outage of Redis for a minute, and what it takes until KEDA counts again.
    assert scaled_object()["cooldownPeriod"] >= 120 > redis_rights.COUNTS_FOR
    behavior = scaled_object()["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] >= 120
    assert scaled_object()["pollingInterval"] <= scaling.INTERVAL
    assert scaled_object()["fallback"]["replicas"] >= 1


def test_keda_reads_the_secret_that_the_overlay_makes() -> None:
    targets = the("TriggerAuthentication", "carafe-redis", DEPLOY / "keda")["spec"]["secretTargetRef"]
    secret = the("Secret", "carafe-keda", KUSTOMIZE / "overlays/dev")["stringData"]
    assert {target["name"] for target in targets} == {"carafe-keda"}
    assert {target["key"] for target in targets} == set(secret)
    assert {trigger["authenticationRef"]["name"] for trigger in triggers().values()} == {"carafe-redis"}
    assert f">{secret['password']}" in redis_users()[secret["username"]]


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", ["carafe-web", "carafe-worker"])
def test_the_drain_ends_within_the_grace_period(overlay: str, name: str) -> None:
    pod = the("Deployment", name, BASE)["spec"]["template"]["spec"]
    before = pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    drain = math.ceil(float(settings_of(overlay)["DRAIN_TIMEOUT"]))
    # Some seconds are left for handing back what did not finish.
    assert before + drain + 5 <= pod["terminationGracePeriodSeconds"]


OF_A_WORKER = 2 * (CLAIMS + WRITES + 2) + 1 + 4
"""Connections of a worker's own at most: for statements and as many for sessions, the heartbeat's, the steward's two and
two."""


def of_handlers(overlay: str) -> int:
    """Of the handlers of one worker: for sessions and as many for statements."""
    concurrency = int(settings_of(overlay)["WORKER_CONCURRENCY"])
    return 2 * pool_size(Settings.model_construct(worker_concurrency=concurrency, worker_database_pool_size=None))


def of_a_web(pool: int) -> int:
    """Of a web pod: statements and sessions; /health's; the dashboard's; and, for each of the two, one that looks for a
    Postgres that went away."""
    return 2 * pool + 1 + int(Settings.model_fields["dashboard_pool_size"].default) + 2


def in_a_rollout(overlay: str) -> int:
    """Of everything that an overlay runs, old and new pods together."""
    workers, web = scaled_object()["maxReplicaCount"], the("Deployment", "carafe-web", BASE)["spec"]["replicas"]
    return 2 * int(
        workers * (OF_A_WORKER + of_handlers(overlay)) + web * of_a_web(int(settings_of(overlay)["DATABASE_POOL_SIZE"]))
    )


def test_the_development_postgres_has_connections_for_a_rollout_of_everything() -> None:
    (postgres,) = the("StatefulSet", "carafe-postgres", COMPONENTS)["spec"]["template"]["spec"]["containers"]
    allowed = re.search(r"max_connections=(\d+)", " ".join(postgres["args"]))
    assert allowed
    sample_webhook, migrations, reserved = 2 * of_a_web(2), 2, 3
    assert in_a_rollout("dev") + sample_webhook + migrations + reserved <= int(allowed[1])


def test_the_docs_sum_up_the_same_connections() -> None:
    text = (ROOT / "docs/deploy.md").read_text()
    assert f"| a worker | {OF_A_WORKER} + 2 × `WORKER_DATABASE_POOL_SIZE` (`WORKER_CONCURRENCY` + {SPARE});" in text
    pool = int(settings_of("production")["DATABASE_POOL_SIZE"])
    workers, web = scaled_object()["maxReplicaCount"], the("Deployment", "carafe-web", BASE)["spec"]["replicas"]
    worker = f"({OF_A_WORKER} + {of_handlers('production')})"
    total = f"`2 × ({workers} × {worker} + {web} × {of_a_web(pool)}) = {in_a_rollout('production')}`"
    assert total in text


def test_redis_is_full_before_its_container_is_out_of_memory() -> None:
    found = [
        container
        for item in manifests(KUSTOMIZE)
        if item.kind == "StatefulSet" and item.name == "carafe-redis"
        for container in item.object["spec"]["template"]["spec"]["containers"]
    ]
    assert len(found) == 2  # the component's, and production's patch
    for container in found:
        limit = in_bytes(container["resources"]["limits"]["memory"])
        maximum = container["args"][container["args"].index("--maxmemory") + 1]
        assert 2 * in_bytes(maximum.replace("mb", "Mi").replace("gb", "Gi")) <= limit


def in_bytes(quantity: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", quantity).groups()  # type: ignore[union-attr]
    return int(number) * {"Mi": 2**20, "Gi": 2**30}[unit]


def test_ports_are_those_of_the_settings() -> None:
    default = {name: info.default for name, info in Settings.model_fields.items()}
    web = the("Deployment", "carafe-web", BASE)["spec"]["template"]["spec"]["containers"][0]
    worker = the("Deployment", "carafe-worker", BASE)["spec"]["template"]["spec"]["containers"][0]
    production = Settings.model_fields["metrics_port"].default_factory({"environment": "production"})  # type: ignore[call-arg, misc]
    assert ports(web) == {"http": default["port"], "dashboard": default["dashboard_port"], "metrics": production}
    assert ports(worker) == {"probes": default["probe_port"]}
    service = the("Service", "carafe-web", BASE)["spec"]["ports"]
    assert {port["name"]: port["port"] for port in service} == ports(web)
    for overlay in OVERLAYS:
        assert not {"PORT", "DASHBOARD_PORT", "METRICS_PORT", "PROBE_PORT"} & set(settings_of(overlay))


def ports(container: Object) -> dict[str, Any]:
    return {port["name"]: port["containerPort"] for port in container["ports"]}


def test_every_variable_is_a_setting_or_says_where_the_pod_is() -> None:
    known = {name.upper() for name in BriefingSettings.model_fields} | {"POD_NAME", "POD_NAMESPACE", "POD_UID", "NODE_NAME"}
    named = {key for overlay in OVERLAYS for key in settings_of(overlay)}
    for secret in ("carafe", "carafe-web"):
        named |= set(the("Secret", secret, KUSTOMIZE / "overlays/dev")["stringData"])
    for item in manifests(KUSTOMIZE):
        if item.pod and item.name != "carafe-postgres":
            named |= {entry["name"] for container in item.pod["containers"] for entry in container.get("env", [])}
    assert named <= known


def test_the_development_overlay_starts() -> None:
    """Its settings and secrets fit together, and the tokens are those that its comment names."""
    shared = settings_of("dev") | the("Secret", "carafe", KUSTOMIZE / "overlays/dev")["stringData"]
    worker = BriefingSettings.model_validate({name.lower(): value for name, value in shared.items()})
    assert (worker.environment, worker.api_tokens, worker.dashboard_users) == ("production", (), ())
    environment = shared | the("Secret", "carafe-web", KUSTOMIZE / "overlays/dev")["stringData"]
    settings = BriefingSettings.model_validate({name.lower(): value for name, value in environment.items()})
    require_api_settings(settings)
    require_dashboard_settings(settings)
    tokens = {token.role: token.digest for token in settings.api_tokens}
    assert tokens == {"operate": hash_token("carafe-development"), "view": hash_token("carafe-development-view")}
    assert settings.redis_url is not None
    user, password = settings.redis_url.get_secret_value().removeprefix("redis://").partition("@")[0].split(":")
    assert f">{password}" in redis_users()[user]
    assert settings.database_url is not None
    of_postgres = the("Secret", "carafe-postgres", KUSTOMIZE / "overlays/dev")["stringData"]["password"]
    assert f":{of_postgres}@" in settings.database_url.get_secret_value()


def test_make_builds_the_image_that_the_development_overlay_runs() -> None:
    (image,) = the("Kustomization", "", KUSTOMIZE / "overlays/dev")["images"]
    assert f"IMAGE ?= {image['name']}:{image['newTag']}\n" in (ROOT / "Makefile").read_text()
