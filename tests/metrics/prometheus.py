"""Prometheus itself: the programs of Debian's package `prometheus`, and a server of a test's own.

`make test` finds them on the PATH, or gets them without installing anything (.ci/prometheus). Where neither works, tests
that need them are skipped; in CI they fail.
"""

import json
import math
import os
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from carafe.embedded import free_port
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
FOUND = ROOT / ".prometheus/usr/bin"


def program(name: str) -> str:
    """Where `prometheus` or `promtool` is. Skips the test where it is not, and fails it in CI."""
    found = shutil.which(name) or shutil.which(name, path=str(FOUND))
    if found is None:
        word = f"{name} is not here: install Debian's package prometheus, or let `make test` get it"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(word)
    return str(found)


def promtool(*arguments: str | Path, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run promtool, with `given` on its input."""
    return subprocess.run(
        [program("promtool"), *map(str, arguments)], input=given, capture_output=True, text=True, check=False
    )


class Server:
    """A running Prometheus, asked over HTTP."""

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
        found: dict[str, list[str]] = {}
        for target in self.get("targets")["activeTargets"]:
            found.setdefault(target["labels"]["job"], []).append(target["health"])
        return found

    def rules(self) -> list[dict[str, Any]]:
        """Every rule that it evaluates."""
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]


@contextmanager
def prometheus(configuration: Mapping[str, Any], folder: Path) -> Iterator[Server]:
    """A Prometheus with this configuration, its data in `folder`, for the time of the block."""
    file, log = folder / "prometheus.yml", folder / "prometheus.log"
    file.write_text(yaml.safe_dump(dict(configuration)))
    port = free_port()
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [
                program("prometheus"),
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


async def scraping(server: Server, jobs: Mapping[str, int]) -> None:
    """Wait until so many targets of each job are up."""
    await eventually(server.ready, 30)
    wanted = {job: ["up"] * count for job, count in jobs.items()}

    def all_up() -> bool:
        found = server.targets()
        assert {job: found.get(job) for job in wanted} == wanted
        return True

    await eventually(all_up, 30)
