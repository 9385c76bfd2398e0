"""Prometheus itself: the programs of Debian's package `prometheus`, and a server of a test's own (chaos/prometheus.py).

`make test` finds them on the PATH, or gets them without installing anything (.ci/prometheus). Where neither works, tests
that need them are skipped; in CI they fail.
"""

import os
import subprocess
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from chaos import prometheus as real
from chaos.prometheus import Server
from tests.waiting import eventually


def program(name: str) -> str:
    """Where `prometheus` or `promtool` is. Skips the test where it is not, and fails it in CI."""
    found = real.found(name)
    if found is None:
        word = f"{name} is not here: install Debian's package prometheus, or let `make test` get it"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(word)
    return found


def promtool(*arguments: str | Path, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run promtool, with `given` on its input."""
    return subprocess.run(
        [program("promtool"), *map(str, arguments)], input=given, capture_output=True, text=True, check=False
    )


def prometheus(configuration: Mapping[str, Any], folder: Path) -> AbstractContextManager[Server]:
    """A Prometheus with this configuration, its data in `folder`, for the time of the block."""
    return real.prometheus(program("prometheus"), configuration, folder)


async def scraping(server: Server, jobs: Mapping[str, int]) -> None:
    """Wait until this many targets of each job are up."""
    await eventually(server.ready, 30)
    wanted = {job: ["up"] * count for job, count in jobs.items()}

    def all_up() -> bool:
        found = server.targets()
        assert {job: found.get(job) for job in wanted} == wanted
        return True

    await eventually(all_up, 30)
