"""Renders the rules of alerts.yaml: `python -m deploy.monitoring.render [RUNBOOKS]`, with the address under which
docs/runbooks/ is published. Writes rules.yaml for a plain Prometheus, and the PrometheusRule of the kustomize component."""

import sys
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

HERE = Path(__file__).parent
SOURCE = HERE / "alerts.yaml"
PLAIN = HERE / "rules.yaml"
RESOURCE = HERE.parent / "kustomize/components/monitoring/prometheus-rule.yaml"
RUNBOOKS = "https://carafe.example.org/runbooks"
SAYS = "# Made from deploy/monitoring/alerts.yaml by `python -m deploy.monitoring.render`; a test compares the two.\n"


def rules(runbooks: str = RUNBOOKS) -> dict[str, Any]:
    """The groups of the source, each alert with its runbook's address."""
    found: dict[str, Any] = yaml.safe_load(SOURCE.read_text())
    for group in found["groups"]:
        for rule in group["rules"]:
            rule["expr"] = rule["expr"].strip()
            if "alert" in rule:
                rule["annotations"]["runbook_url"] = f"{runbooks.rstrip('/')}/{rule['alert']}.html"
    return found


def plain(runbooks: str = RUNBOOKS) -> str:
    """The rules file of a plain Prometheus."""
    return SAYS + _yaml(rules(runbooks))


def resource(runbooks: str = RUNBOOKS) -> str:
    """The same as a PrometheusRule."""
    head = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": {"name": "carafe"}}
    return SAYS + _yaml({**head, "spec": rules(runbooks)})


def _yaml(value: Any) -> str:
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120)
    return text


if __name__ == "__main__":
    PLAIN.write_text(plain(*sys.argv[1:2]))
    RESOURCE.write_text(resource(*sys.argv[1:2]))
