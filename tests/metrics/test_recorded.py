"""The alerts on KEDA, on series that were recorded on a cluster while Redis went and came back (recorded_keda.yaml).

`python -m tests.cluster.record_keda` makes such a recording.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from chaos.prometheus import ROOT
from tests.metrics.prometheus import promtool

RECORDED: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("recorded_keda.yaml").read_text())
STEP = RECORDED["step"]
ERRORS = next(name for name in RECORDED["series"] if name.startswith("keda_scaled_object_errors_total"))
HELD = ("carafe_steward_leader", 'carafe_jobs_queued{queue="default"}')


def values_of(series: list[float | None]) -> str:
    """As promtool wants them."""
    return " ".join("_" if value is None else f"{value:g}" for value in series)


def test_errors_rise_while_redis_is_away_and_at_no_other_time() -> None:
    errors = RECORDED["series"][ERRORS]
    away, back = RECORDED["away"], RECORDED["back"]
    assert errors[away] == errors[0], "before"
    assert errors[back] > errors[away], "while it is away"
    assert errors[-1] == errors[-8], "in the last two minutes"


@pytest.mark.parametrize(
    ("step", "firing"),
    [
        (RECORDED["away"], False),
        # The errors' rate over two minutes, for a minute; KEDA has tried for some seconds before it counts one.
        (RECORDED["away"] + 8, True),
        (RECORDED["back"], True),
        (len(RECORDED["series"][ERRORS]) - 1, False),
    ],
)
def test_the_alert_fires_while_redis_is_away(tmp_path: Path, step: int, firing: bool) -> None:
    steps = len(RECORDED["series"][ERRORS])
    series = [{"series": name, "values": values_of(values)} for name, values in RECORDED["series"].items()]
    series += [{"series": name, "values": f"{int(name == HELD[0])}x{steps}"} for name in HELD]
    labels = dict(re.findall(r'(\w+)="([^"]*)"', ERRORS))
    promise = {
        "interval": f"{STEP}s",
        "input_series": series,
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": f"{step * STEP}s",
                "exp_samples": [{"labels": '{alertname="CarafeScalerFailing"}', "value": 1}] if firing else [],
            }
        ],
    }
    assert labels["scaledObject"] == "carafe-worker"
    rules = ROOT / "deploy/monitoring/rules.yaml"
    file = tmp_path / "recorded.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(rules)], "evaluation_interval": f"{STEP}s", "tests": [promise]}))
    done = promtool("test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_series_that_the_dashboards_are_tested_with_are_such_series() -> None:
    """keda.txt, with values that show something, has no series of KEDA's that the recording does not have."""
    recorded = {_without_namespace(name) for name in RECORDED["series"]}
    written = Path(__file__).with_name("keda.txt").read_text().splitlines()
    series = {_without_namespace(line.rpartition(" ")[0]) for line in written if line.startswith(("keda_", "kube_scaled"))}
    assert len(series) > 4
    assert series <= recorded


def _without_namespace(series: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    labels = re.findall(r'(\w+)="([^"]*)"', series)
    return series.partition("{")[0], tuple(sorted(pair for pair in labels if pair[0] != "namespace"))
