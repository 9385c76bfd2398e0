"""A Prometheus of one's own, asked over HTTP, with the configuration that the compose profile runs."""

import json
import math
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from carafe.dev.embedded import free_port

ROOT = Path(__file__).parents[1]
FOUND = ROOT / ".prometheus/usr/bin"
"""Where .ci/prometheus puts the programs when they are not installed."""


def found(name: str) -> str | None:
    """Where `prometheus` or `promtool` is; None: nowhere."""
    return shutil.which(name) or shutil.which(name, path=str(FOUND))


def configuration(targets: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """What compose runs, with static targets on this machine: ports, by job; its jobs that have none are left out."""
    made: dict[str, Any] = yaml.safe_load((ROOT / "deploy/compose/prometheus.yml").read_text())
    if made["rule_files"] != ["/etc/prometheus/rules.yaml"]:
        raise ValueError(f"deploy/compose/prometheus.yml has other rules: {made['rule_files']}")
    made["rule_files"] = [str(ROOT / "deploy/monitoring/rules.yaml")]
    kept = []
    for job, ports in targets.items():
        ours = [one for one in made["scrape_configs"] if one["job_name"] == job] or [{"job_name": job}]
        kept.append(
            {key: value for key, value in ours[0].items() if key != "dns_sd_configs"}
            | {"static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}]}
        )
    made["scrape_configs"] = kept
    return made


class Server:
    """A running Prometheus."""

    def __init__(self, port: int, log: Path, process: subprocess.Popen[bytes]) -> None:
        self._url, self._log, self._process = f"http://127.0.0.1:{port}", log, process

    def get(self, path: str, **values: str) -> Any:
        """What the API answers. Raises AssertionError with its words when it refuses."""
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(values)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as refused:
            raise AssertionError(f"{values}: {refused.read().decode()}") from None

    def ready(self) -> bool:
        """Whether it answers."""
        if self._process.poll() is not None:
            raise RuntimeError(f"prometheus ended with {self._process.returncode}:\n{self._log.read_text()}")
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an instant query that are numbers."""
        samples = self.get("query", query=expression)
        if samples["resultType"] == "scalar":
            return [{"metric": {}, "value": samples["result"]}]
        return [sample for sample in samples["result"] if not math.isnan(float(sample["value"][1]))]

    def value(self, expression: str) -> float:
        """The one value of an instant query."""
        (sample,) = self.query(expression)
        return float(sample["value"][1])

    def targets(self) -> dict[str, list[str]]:
        """The health of the targets, by job."""
        by_job: dict[str, list[str]] = {}
        for target in self.get("targets")["activeTargets"]:
            by_job.setdefault(target["labels"]["job"], []).append(target["health"])
        return by_job

    def rules(self) -> list[dict[str, Any]]:
        """Every rule that it evaluates."""
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        return {alert["labels"]["alertname"] for alert in self.get("alerts")["alerts"] if alert["state"] == "firing"}


@contextmanager
def prometheus(program: str, made: Mapping[str, Any], folder: Path) -> Iterator[Server]:
    """A Prometheus with this configuration, its data in `folder`, for the time of the block."""
    file, log = folder / "prometheus.yml", folder / "prometheus.log"
    file.write_text(yaml.safe_dump(dict(made)))
    port = free_port()
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={file}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Server(port, log, process)
    finally:
        process.terminate()
        process.wait()
