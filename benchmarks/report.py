"""The table on stdout and `latest.json`: medians, carafe's multiple of each, and a footnote for every setting."""

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measurements import Value
from benchmarks.systems.system import System

LATEST = Path(__file__).parent / "latest.json"
QUIET = 10.0
"""Per cent of the machine that may be busy with something else before a number is doubtful."""


@dataclass(slots=True)
class Results:
    """What was measured, by (metric, setting, system), and why what is missing is missing."""

    systems: Sequence[System]
    values: dict[tuple[str, str, str], list[Value]] = field(default_factory=dict)
    missing: dict[tuple[str, str, str], str] = field(default_factory=dict)
    failed: bool = False
    """Whether a system that could be had did not do what it was measured at."""
    busy: list[float] = field(default_factory=list)
    """Per cent of the machine that was busy before each measurement, when nothing of the harness ran."""

    def add(self, system: System, setting: str, values: Sequence[Value]) -> None:
        for value in values:
            self.values.setdefault((value.metric, setting, system.name), []).append(value)

    def fail(self, system: System, setting: str, metric: str, reason: str) -> None:
        self.missing[metric, setting, system.name] = " ".join(reason.split())[:400]

    def median(self, metric: str, setting: str, system: str) -> float | None:
        values = self.values.get((metric, setting, system))
        return statistics.median(value.value for value in values) if values else None


def machine() -> str:
    """What it was measured on, in a line."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else model
    return f"{os.cpu_count()} cores, {model}, Python {platform.python_version()}, {platform.system()} {platform.release()}"


def rows(results: Results) -> list[dict[str, object]]:
    """The rows of `latest.json`; what could not be measured has the value null and a reason."""
    durable = {system.name: system.durable for system in results.systems}
    made: list[dict[str, object]] = []
    for (metric, setting, system), values in results.values.items():
        numbers = [value.value for value in values]
        made.append(
            {
                "system": system,
                "setting": setting,
                "metric": metric,
                "unit": values[0].unit,
                "value": statistics.median(numbers),
                "lowest": min(numbers),
                "highest": max(numbers),
                "repeats": len(numbers),
                "durable": durable[system],
                **({"failed": failed} if (failed := results.missing.get((metric, setting, system))) else {}),
            }
        )
    for (metric, setting, system), reason in results.missing.items():
        if (metric, setting, system) not in results.values:
            made.append(
                {"system": system, "setting": setting, "metric": metric, "unit": "", "value": None, "reason": reason}
            )
    return made


def write(results: Results, path: Path = LATEST) -> None:
    """Replace the file of rows: they always come from one run."""
    path.write_text(json.dumps(rows(results), indent=1) + "\n")


def markdown(results: Results) -> str:
    """One table a metric and setting, then the settings themselves."""
    parts = [f"Measured on {machine()}. Medians; every system on the same Postgres and Valkey, in turns.", ""]
    if loud := [share for share in results.busy if share > QUIET]:
        worst = f"{len(loud)} of {len(results.busy)} measurements began with more than {QUIET:.0f} % of it busy"
        parts += [f"**Not a quiet machine: {worst} (at worst {max(loud):.0f} %). Do not quote these numbers.**", ""]
    groups = dict.fromkeys((metric, setting) for metric, setting, _ in [*results.values, *results.missing])
    for metric, setting in sorted(groups, key=lambda group: _order(group, list(groups))):
        parts += _table(results, metric, setting)
    parts += _footnotes(results.systems, {system for _, _, system in [*results.values, *results.missing]})
    return "\n".join(parts)


def _order(group: tuple[str, str], groups: list[tuple[str, str]]) -> tuple[int, int]:
    metrics = list(dict.fromkeys(metric for metric, _ in groups))
    return metrics.index(group[0]), groups.index(group)


def _table(results: Results, metric: str, setting: str) -> list[str]:
    found = {name: values for (m, s, name), values in results.values.items() if (m, s) == (metric, setting)}
    unit = next(iter(found.values()))[0].unit if found else ""
    lines = [
        f"### {metric}: {setting}" + (f" ({unit})" if unit else ""),
        "",
        "| system | median | lowest to highest | carafe is | durable |",
        "|---|---:|---:|---:|---|",
    ]
    carafe = results.median(metric, setting, "carafe")
    for system in results.systems:
        if system.name in found:
            numbers = [value.value for value in found[system.name]]
            middle = statistics.median(numbers)
            multiple = _multiple(carafe, middle, found[system.name][0].lower_is_better) if system.name != "carafe" else ""
            spread = f"{_number(min(numbers))} to {_number(max(numbers))}"
            durable = "yes" if system.durable else "no"
            # A median of the rounds that worked must not hide one that did not.
            failed = results.missing.get((metric, setting, system.name))
            name = f"{system.name} (a round FAILED: {failed.replace('|', '/')})" if failed else system.name
            lines.append(f"| {name} | {_number(middle)} | {spread} | {multiple} | {durable} |")
        elif reason := results.missing.get((metric, setting, system.name)):
            lines.append(f"| {system.name} | not measured: {reason.replace('|', '/')} | | | |")
    return [*lines, ""]


def _multiple(carafe: float | None, other: float, lower_is_better: bool) -> str:
    if carafe is None or not carafe or not other:
        return ""
    times = other / carafe if lower_is_better else carafe / other
    return f"{times:.1f} times as good" if times < 10 else f"{times:.0f} times as good"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _footnotes(systems: Sequence[System], named: set[str]) -> list[str]:
    lines = ["Settings (each system's best by its own documentation; why: benchmarks/README.md):", ""]
    for system in systems:
        if system.name not in named:
            continue
        settings = "; ".join(f"{name}: {setting.note}" for name, setting in system.settings.items())
        lines.append(f"- **{system.name}** — {settings}" + (f"; {system.note}" if system.note else ""))
    durable = "Durable: the end of each job is committed in Postgres (fsync on). Valkey runs without an append-only file."
    return [*lines, "", durable]


def summary(values: Sequence[Value]) -> str:
    """The values of one measurement in a progress line."""
    return ", ".join(f"{value.metric} {_number(value.value)} {value.unit}" for value in values)
