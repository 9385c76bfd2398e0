"""The kustomize component `monitoring` and what compose mounts: fields by schema; ports, labels and files that fit."""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from tests.deploy.manifests import KUSTOMIZE, ROOT, Object, manifests, rendered, the

COMPONENT = KUSTOMIZE / "components/monitoring"
DASHBOARDS = sorted((COMPONENT / "dashboards").glob("*.json"))
SCHEMAS = Path(__file__).parent / "schemas"


def faults(schema: str, value: Any) -> list[str]:
    """What is wrong with a value by one of our schemas."""
    validator = jsonschema_rs.validator_for(json.loads((SCHEMAS / schema).read_text()))
    return [f"{list(error.instance_path)}: {error.message[:300]}" for error in validator.iter_errors(value)]


def monitor(kind: str, name: str) -> Object:
    return the(kind, name, COMPONENT)


@pytest.mark.parametrize(
    ("kind", "name"), [("PodMonitor", "carafe-worker"), ("ServiceMonitor", "carafe-web"), ("PrometheusRule", "carafe")]
)
def test_the_operators_resources_fit_their_schema(kind: str, name: str) -> None:
    found = monitor(kind, name)
    assert faults("operator.json", found) == []
    assert faults("operator.json", {**found, "spec": {**found["spec"], "endpoint": []}})


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboards_fit_grafanas_model(path: Path) -> None:
    dashboard = json.loads(path.read_text())
    assert faults("dashboard.json", dashboard) == []
    first = dashboard["panels"][0]
    assert faults("dashboard.json", {**dashboard, "panels": [{**first, "type": "graph"}]})
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    names = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert names <= {"datasource", "queue", "kind"}


def test_panels_lie_side_by_side() -> None:
    for path in DASHBOARDS:
        taken: set[tuple[int, int]] = set()
        for panel in json.loads(path.read_text())["panels"]:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not taken & cells, (path.stem, panel["title"])
            taken |= cells


def test_monitors_find_the_pods_and_their_ports() -> None:
    worker = the("Deployment", "carafe-worker", KUSTOMIZE / "base")["spec"]["template"]
    spec = monitor("PodMonitor", "carafe-worker")["spec"]
    assert spec["selector"]["matchLabels"].items() <= worker["metadata"]["labels"].items()
    ports = {port["name"] for container in worker["spec"]["containers"] for port in container["ports"]}
    assert {endpoint["port"] for endpoint in spec["podMetricsEndpoints"]} <= ports

    service = the("Service", "carafe-web", KUSTOMIZE / "base")
    spec = monitor("ServiceMonitor", "carafe-web")["spec"]
    # The name is the base's label for everything.
    labels = service["metadata"]["labels"] | {"app.kubernetes.io/name": "carafe"}
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    named = {port["name"]: port["targetPort"] for port in service["spec"]["ports"]}
    web = the("Deployment", "carafe-web", KUSTOMIZE / "base")["spec"]["template"]["spec"]["containers"][0]
    for endpoint in spec["endpoints"]:
        assert named[endpoint["port"]] in {port["name"] for port in web["ports"]}


def test_prometheus_is_let_in_to_the_metrics_and_nothing_else() -> None:
    policy = the("NetworkPolicy", "carafe-metrics", COMPONENT)["spec"]
    (rule,) = policy["ingress"]
    assert [port["port"] for port in rule["ports"]] == ["metrics", "probes"]
    (peer,) = rule["from"]
    assert set(peer) == {"namespaceSelector", "podSelector"}


def test_the_component_renders_into_an_overlay(tmp_path: Path) -> None:
    # A kustomization may only name folders by relative paths.
    folder = ROOT / ".pytest_cache/monitoring"
    folder.mkdir(parents=True, exist_ok=True)
    text = {"resources": ["../../deploy/kustomize/base"], "components": ["../../deploy/kustomize/components/monitoring"]}
    (folder / "kustomization.yaml").write_text(
        yaml.safe_dump({"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "namespace": "x", **text})
    )
    found = {(item.kind, item.name): item.object for item in rendered(folder)}
    dashboards = found["ConfigMap", "carafe-dashboards"]
    assert dashboards["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert {name: json.loads(text)["uid"] for name, text in dashboards["data"].items()} == {
        path.name: json.loads(path.read_text())["uid"] for path in DASHBOARDS
    }
    for kind, name in (("PodMonitor", "carafe-worker"), ("ServiceMonitor", "carafe-web"), ("PrometheusRule", "carafe")):
        assert found[kind, name]["metadata"]["namespace"] == "x"
        assert faults("operator.json", found[kind, name]) == []
    size = sum(len(text) for text in dashboards["data"].values())
    assert size < 900_000, "a ConfigMap holds 1 MiB"


def test_nothing_else_in_the_component_goes_unlooked_at() -> None:
    assert {item.kind for item in manifests(COMPONENT)} == {
        "Component",
        "NetworkPolicy",
        "PodMonitor",
        "PrometheusRule",
        "ServiceMonitor",
    }


def test_compose_mounts_what_is_there_and_scrapes_the_ports_that_it_sets() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    services = compose["services"]
    for name in ("prometheus", "grafana"):
        assert services[name]["profiles"] == ["monitoring"]
        for mount in services[name]["volumes"]:
            source = mount.split(":")[0]
            assert (ROOT / source).exists() or source in compose["volumes"], mount
    scraped = {
        job["job_name"]: job["dns_sd_configs"][0]
        for job in yaml.safe_load((ROOT / "deploy/compose/prometheus.yml").read_text())["scrape_configs"]
        if "dns_sd_configs" in job
    }
    for job, setting in (("carafe-worker", "PROBE_PORT"), ("carafe-web", "METRICS_PORT")):
        (service,) = scraped[job]["names"]
        assert str(scraped[job]["port"]) == services[service]["environment"][setting]
    source = yaml.safe_load((ROOT / "deploy/monitoring/grafana/datasource.yaml").read_text())["datasources"][0]
    assert source["url"] == "http://prometheus:9090"
