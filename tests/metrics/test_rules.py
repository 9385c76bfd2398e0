"""The alert rules by promtool: each fires above its threshold and after its duration, and not otherwise."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.monitoring import render
from tests.metrics.prometheus import promtool

ROOT = Path(__file__).parents[2]
RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in render.rules()["groups"] for rule in group["rules"] if "alert" in rule
}
STEP = 15
"""Seconds between two samples and two evaluations."""

Series = dict[str, str]
QUEUE = 'queue="default"'
HEALTHY: Series = {"carafe_steward_leader": "1x2000", f"carafe_jobs_queued{{{QUEUE}}}": "0x2000"}
"""What is there in any case, unless a case says otherwise: a leader with its gauges."""


@dataclass(frozen=True)
class Case:
    """Series that make an alert's condition true from `since` on (seconds), and others that just do not."""

    alert: str
    over: Series
    at_most: Series
    labels: dict[str, str] = field(default_factory=lambda: {"queue": "default"})
    since: int = 0

    @property
    def duration(self) -> int:
        """Its `for`, in seconds."""
        return seconds(RULES[self.alert]["for"])


def seconds(duration: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([smh])", duration).groups()  # type: ignore[union-attr]
    return int(number) * {"s": 1, "m": 60, "h": 3600}[unit]


def queued(count: int) -> Series:
    return {f"carafe_jobs_queued{{{QUEUE}}}": f"{count}x2000"}


def gauge(name: str, value: float, labels: str = QUEUE) -> Series:
    return {f"{name}{{{labels}}}" if labels else name: f"{value}x2000"}


def rising(name: str, labels: str, each: float, steps: int = 2000) -> Series:
    """A counter that rises by `each` a step, for this many steps, and stays there."""
    rest = f" {each * steps:g}x{2000 - steps}" if steps < 2000 else ""
    return {f"{name}{{{labels}}}": f"0+{each:g}x{steps}{rest}"}


def finished(outcome: str, each: float) -> Series:
    return rising("carafe_jobs_finished_total", f'{QUEUE},kind="a.b",outcome="{outcome}"', each)


def waits(quick: float, slow: float) -> Series:
    """Starts a step: this many within 30 s, this many later."""
    labels = f'{QUEUE},kind="a.b"'
    return {
        **rising("carafe_job_wait_seconds_bucket", f'{labels},le="30.0"', quick),
        **rising("carafe_job_wait_seconds_bucket", f'{labels},le="+Inf"', quick + slow),
        **rising("carafe_job_wait_seconds_count", labels, quick + slow),
        **rising("carafe_jobs_started_total", labels, quick + slow),
    }


def statements(name: str, le: str) -> Series:
    """Statements that all take up to `le` seconds."""
    bounds = ("0.1", "0.25", "0.5", "1.0", "+Inf")
    extra = ',outcome="accepted"' if "enqueue" in name else ""
    return {f'{name}{{{QUEUE}{extra},le="{bound}"}}': f"0+{10 if float(bound) >= float(le) else 0}x2000" for bound in bounds}


KEDA = 'namespace="carafe",scaledObject="carafe-worker"'
CONDITION = 'namespace="carafe",name="carafe-worker"'
TWO = {"namespace": "carafe", "scaledObject": "carafe-worker"}

# A rate needs two samples, so a condition on one is true from the second step on.
CASES = [
    Case("CarafeOldestJobTooOld", gauge("carafe_oldest_wait_seconds", 301), gauge("carafe_oldest_wait_seconds", 300)),
    Case(
        "CarafeOldestJobTooOld",
        gauge("carafe_oldest_wait_seconds", 9000) | gauge("carafe_queue_paused", 0),
        gauge("carafe_oldest_wait_seconds", 9000) | gauge("carafe_queue_paused", 1),
    ),
    Case(
        "CarafeBacklogWithoutWorkers",
        queued(1) | gauge("carafe_workers", 0, ""),
        queued(1) | gauge("carafe_workers", 1, ""),
    ),
    Case(
        "CarafeBacklogWithoutWorkers",
        queued(9) | gauge("carafe_workers", 0, "") | gauge("carafe_queue_paused", 0),
        queued(9) | gauge("carafe_workers", 0, "") | gauge("carafe_queue_paused", 1),
    ),
    Case(
        "CarafeBacklogWithoutWorkers",
        queued(9) | gauge("carafe_workers", 0, "") | gauge("carafe_jobs_held", 8),
        queued(9) | gauge("carafe_workers", 0, "") | gauge("carafe_jobs_held", 9),
    ),
    Case("CarafeBacklogWithoutWorkers", queued(1) | gauge("carafe_workers", 0, ""), gauge("carafe_workers", 0, "")),
    Case(
        "CarafeDeadLettersGrowing",
        {f"carafe_jobs_dead{{{QUEUE}}}": "0x60 6x1900"},
        {f"carafe_jobs_dead{{{QUEUE}}}": "0x60 4x1900"},
        since=61 * STEP,
    ),
    # 20 of 100 attempts, and 21.
    Case(
        "CarafeFailureRateHigh",
        finished("succeeded", 79) | finished("retrying", 20) | finished("dead", 1),
        finished("succeeded", 80) | finished("retrying", 20),
        {"queue": "default", "kind": "a.b"},
        STEP,
    ),
    # Every attempt, but only five in five minutes.
    Case(
        "CarafeFailureRateHigh",
        finished("succeeded", 0) | finished("dead", 0.26),
        finished("succeeded", 0) | finished("dead", 0.25),
        {"queue": "default", "kind": "a.b"},
        300,
    ),
    Case(
        "CarafeQueuePaused",
        queued(1) | gauge("carafe_queue_paused", 1),
        queued(1) | gauge("carafe_queue_paused", 0),
    ),
    Case("CarafeQueuePaused", queued(1) | gauge("carafe_queue_paused", 1), gauge("carafe_queue_paused", 1)),
    Case("CarafeKindPaused", gauge("carafe_jobs_held", 1), gauge("carafe_jobs_held", 0)),
    Case("CarafeWaitBudgetBurnsFast", waits(85, 15), waits(86, 14), since=STEP),
    Case("CarafeWaitBudgetBurnsSlowly", waits(93, 7), waits(95, 5), since=STEP),
    Case(
        "CarafeSuccessBudgetBurnsFast",
        finished("succeeded", 92) | finished("dead", 8) | waits(100, 0),
        finished("succeeded", 93) | finished("dead", 7) | waits(100, 0),
        since=STEP,
    ),
    Case(
        "CarafeSuccessBudgetBurnsSlowly",
        finished("succeeded", 96) | finished("dead", 4),
        finished("succeeded", 98) | finished("dead", 2),
        since=STEP,
    ),
    Case("CarafeStewardMissing", {"carafe_steward_leader": "0x2000"}, {"carafe_steward_leader": "1x2000"}, {}),
    Case("CarafeStewardMissing", {"carafe_steward_leader": "_x2000"}, HEALTHY, {}),
    Case("CarafeStewardMissing", {f"carafe_jobs_queued{{{QUEUE}}}": "_x2000"}, HEALTHY, {}),
    # Ten minutes of it in one step, where the window is whole.
    Case(
        "CarafeRescuesHappen",
        {f'carafe_jobs_rescued_total{{{QUEUE},kind="a.b",outcome="queued"}}': "0x60 5x1900"},
        {f'carafe_jobs_rescued_total{{{QUEUE},kind="a.b",outcome="queued"}}': "0x60 3x1900"},
        since=61 * STEP,
    ),
    Case(
        "CarafeHintsRepaired",
        {f"carafe_hints_repaired_total{{{QUEUE}}}": "0x60 40x1900"},
        {f"carafe_hints_repaired_total{{{QUEUE}}}": "0x60 25x1900"},
        since=61 * STEP,
    ),
    Case("CarafeRedisDown", gauge("carafe_redis_up", 0, 'pod="a"'), gauge("carafe_redis_up", 1, 'pod="a"'), {}),
    # One process that still reaches it is not an outage.
    Case(
        "CarafeRedisDown",
        gauge("carafe_redis_up", 0, 'pod="a"') | gauge("carafe_redis_up", 0, 'pod="b"'),
        gauge("carafe_redis_up", 0, 'pod="a"') | gauge("carafe_redis_up", 1, 'pod="b"'),
        {},
    ),
    Case("CarafeRedisEvicts", gauge("carafe_redis_noeviction", 0, ""), gauge("carafe_redis_noeviction", 1, ""), {}),
    *(
        Case(
            "CarafeVacuumHeldBack",
            gauge("carafe_vacuum_held_seconds", 700, "") | gauge("carafe_jobs_dead_rows", 110_000, ""),
            gauge("carafe_vacuum_held_seconds", seconds, "") | gauge("carafe_jobs_dead_rows", rows, ""),
            {},
        )
        for seconds, rows in ((500, 110_000), (700, 90_000))
    ),
    Case("CarafePostgresDown", gauge("carafe_postgres_up", 0, ""), gauge("carafe_postgres_up", 1, ""), {}),
    *(
        Case(
            "CarafePostgresSlow",
            statements(f"carafe_{name}_duration_seconds_bucket", "1.0"),
            statements(f"carafe_{name}_duration_seconds_bucket", "0.5"),
            {"statement": name},
            STEP,
        )
        for name in ("enqueue", "claim", "end")
    ),
    Case(
        "CarafeLoopLate",
        gauge("carafe_loop_lag_seconds", 1.1, 'job="carafe-worker"'),
        gauge("carafe_loop_lag_seconds", 1.0, 'job="carafe-worker"'),
        {"job": "carafe-worker"},
    ),
    Case(
        "CarafeScalerFailing",
        rising("keda_scaled_object_errors_total", KEDA, 1),
        rising("keda_scaled_object_errors_total", KEDA, 0),
        TWO,
        STEP,
    ),
    # A single error is forgotten before it is one for a minute; and another's errors are not ours.
    Case(
        "CarafeScalerFailing",
        rising("keda_scaled_object_errors_total", KEDA, 1),
        rising("keda_scaled_object_errors_total", 'namespace="x",scaledObject="other"', 1),
        TWO,
        STEP,
    ),
    Case(
        "CarafeScalerFallback",
        gauge("kube_scaledobject_status_condition", 1, f'{CONDITION},type="Fallback"'),
        gauge("kube_scaledobject_status_condition", 0, f'{CONDITION},type="Fallback"')
        | gauge("kube_scaledobject_status_condition", 1, f'{CONDITION},type="Ready"'),
        {"namespace": "carafe", "name": "carafe-worker"},
    ),
]


def firing(alert: str, at: int, samples: list[dict[str, str]]) -> dict[str, Any]:
    """That at this second these and no others of the alert fire."""
    return {
        "expr": f'ALERTS{{alertname="{alert}",alertstate="firing"}}',
        "eval_time": f"{at}s",
        "exp_samples": [
            {
                "labels": "ALERTS{"
                + ",".join(
                    f'{name}="{value}"'
                    for name, value in {
                        **labels,
                        "alertname": alert,
                        "alertstate": "firing",
                        "severity": RULES[alert]["labels"]["severity"],
                    }.items()
                )
                + "}",
                "value": 1,
            }
            for labels in samples
        ],
    }


def given(series: Series, tests: list[dict[str, Any]], key: str = "promql_expr_test") -> dict[str, Any]:
    return {
        "interval": f"{STEP}s",
        "input_series": [{"series": name, "values": values} for name, values in (HEALTHY | series).items()],
        key: tests,
    }


def needed(alert: str) -> set[str]:
    """The alert and the recorded rules that it is made from."""
    recorded = {
        rule["record"]: rule["expr"] for group in render.rules()["groups"] for rule in group["rules"] if "record" in rule
    }
    found, asked = {alert}, [RULES[alert]["expr"]]
    while asked:
        text = asked.pop()
        new = {name for name in recorded if name in text} - found
        found |= new
        asked += [recorded[name] for name in new]
    return found


def alone(alert: str, tmp_path: Path) -> Path:
    """The rules without those that have no part in this alert: promtool takes its time for each."""
    wanted = needed(alert)
    groups = [
        {**group, "rules": [rule for rule in group["rules"] if (rule.get("alert") or rule["record"]) in wanted]}
        for group in render.rules()["groups"]
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": groups}))
    return file


def run(tmp_path: Path, tests: list[dict[str, Any]], rules: Path = render.PLAIN) -> None:
    file = tmp_path / "test.yaml"
    document = {
        "rule_files": [str(rules)],
        "evaluation_interval": f"{STEP}s",
        # Else in no order, and an alert may see what is recorded one evaluation late.
        "group_eval_order": [group["name"] for group in render.rules()["groups"]],
        "tests": tests,
    }
    file.write_text(yaml.safe_dump(document))
    done = promtool("test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_an_alert_fires_above_its_threshold_and_after_its_duration(case: Case, tmp_path: Path) -> None:
    due = case.since + case.duration
    tests = [firing(case.alert, due - STEP, []), firing(case.alert, due, [case.labels])]
    never = [firing(case.alert, at, []) for at in range(due, due + 900, 60)]
    run(tmp_path, [given(case.over, tests), given(case.at_most, never)], alone(case.alert, tmp_path))


def test_every_alert_has_a_case() -> None:
    assert {case.alert for case in CASES} == set(RULES)


def test_the_scalers_alert_ends_two_minutes_after_its_last_error(tmp_path: Path) -> None:
    series = {f"keda_scaled_object_errors_total{{{KEDA}}}": "0x20 1x1900"}
    tests = [
        firing("CarafeScalerFailing", 21 * STEP + 60, [TWO]),
        firing("CarafeScalerFailing", 21 * STEP + 120, []),
    ]
    run(tmp_path, [given(series, tests)])


def test_nothing_fires_while_all_is_well(tmp_path: Path) -> None:
    well = (
        queued(40)
        | gauge("carafe_workers", 2, "")
        | gauge("carafe_oldest_wait_seconds", 12)
        | gauge("carafe_queue_paused", 0)
        | gauge("carafe_jobs_dead", 3)
        | finished("succeeded", 100)
        | finished("retrying", 2)
        | finished("dead", 0)
        | waits(100, 0)
        | gauge("carafe_redis_up", 1, "")
        | gauge("carafe_postgres_up", 1, "")
        | gauge("carafe_redis_noeviction", 1, "")
        | gauge("carafe_vacuum_held_seconds", 3_600, "")
        | gauge("carafe_jobs_dead_rows", 2_000, "")
        | gauge("carafe_loop_lag_seconds", 0.02, 'job="carafe-worker"')
        | statements("carafe_end_duration_seconds_bucket", "0.1")
    )
    tests = [{"expr": "ALERTS", "eval_time": f"{at}s", "exp_samples": []} for at in range(0, 2 * 3600, 300)]
    run(tmp_path, [given(well, tests)])


def test_descriptions_carry_the_numbers(tmp_path: Path) -> None:
    def says(alert: str, labels: dict[str, str], summary: str, description: str) -> dict[str, Any]:
        url = RULES[alert]["annotations"]["runbook_url"]
        return {
            "eval_time": "20m",
            "alertname": alert,
            "exp_alerts": [
                {
                    "exp_labels": {**labels, "severity": RULES[alert]["labels"]["severity"]},
                    "exp_annotations": {"summary": summary, "description": description, "runbook_url": url},
                }
            ],
        }

    of_queue = {"queue": "default"}
    series = (
        queued(37)
        | gauge("carafe_workers", 0, "")
        | gauge("carafe_oldest_wait_seconds", 400)
        | finished("succeeded", 50)
        | finished("retrying", 50)
    )
    tests = [
        says(
            "CarafeOldestJobTooOld",
            of_queue,
            "A job of the queue default has been due for over five minutes",
            "The oldest job of default has waited for 6m 40s, with 37 jobs waiting and 0 workers alive.",
        ),
        says(
            "CarafeBacklogWithoutWorkers",
            of_queue,
            "Jobs wait in default and no worker is alive",
            "37 jobs of default have waited for two minutes without a worker; from zero the autoscaler should have one"
            " within seconds.",
        ),
        says(
            "CarafeFailureRateHigh",
            {**of_queue, "kind": "a.b"},
            "Attempts of a.b fail",
            "50% of the attempts of a.b have failed in the last five minutes (over 20 %, and more than five of them).",
        ),
    ]
    run(tmp_path, [given(series, tests, "alert_rule_test")])


def test_the_plain_file_and_the_resource_are_made_from_the_source() -> None:
    assert render.PLAIN.read_text() == render.plain()
    assert render.RESOURCE.read_text() == render.resource()
    resource, plain = yaml.safe_load(render.resource()), yaml.safe_load(render.plain())
    assert resource["spec"] == plain


def test_promtool_takes_the_rules() -> None:
    done = promtool("check", "rules", render.PLAIN)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", RULES)
def test_every_alert_says_what_to_do(alert: str) -> None:
    rule = RULES[alert]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert "for" in rule
    page = ROOT / f"docs/runbooks/{alert}.md"
    assert rule["annotations"]["runbook_url"].endswith(f"/runbooks/{alert}.html")
    text = page.read_text()
    assert text.startswith(f"# {alert}\n")
    for heading in ("## What it means", "## How bad", "## Look", "## Do", "## Afterwards"):
        assert heading in text, heading
    assert alert in (ROOT / "docs/runbooks/index.md").read_text()


def test_there_is_no_page_without_an_alert() -> None:
    pages = {path.stem for path in (ROOT / "docs/runbooks").glob("*.md")} - {"index"}
    assert pages == set(RULES)
