"""How answers look: times in local time and UTC, lists no wider than the terminal."""

import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from carafe.cli.output import moment, show_table
from tests.cli.conftest import ROOT, Command, application, bare_environment

AT = datetime(2026, 1, 31, 22, 5, 7, tzinfo=UTC)


@contextmanager
def zone(name: str) -> Iterator[None]:
    """This process in another time zone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", name)
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("UTC", "2026-01-31 22:05:07Z"),
        ("UTC-01:00", "2026-01-31 23:05:07 (22:05:07Z)"),
        ("UTC-05:30", "2026-02-01 03:35:07 (2026-01-31 22:05:07Z)"),
        ("UTC+08:00", "2026-01-31 14:05:07 (22:05:07Z)"),
    ],
)
def test_times_are_local_and_utc(name: str, text: str) -> None:
    with zone(name):
        assert moment(AT) == text
        assert moment(None) == ""


@pytest.mark.parametrize("name", ["UTC", "UTC-14:00", "UTC+12:00"])
def test_no_time_is_too_far_away(name: str) -> None:
    with zone(name):
        assert moment(datetime.max.replace(tzinfo=UTC)).startswith("9999-12-31")
        assert moment(datetime.min.replace(tzinfo=UTC))


@pytest.mark.process
def test_a_list_is_cut_at_the_width_of_a_terminal_alone(
    carafe: Command, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    job = carafe("enqueue", "cli.greet", "name=Ada").out.strip()
    assert carafe("jobs", "cancel", job, "--reason", "r" * 300).code == 0
    assert f"{'r' * 300}\n" in carafe("jobs", "list").out

    terminal, its = pty.openpty()
    environment = bare_environment() | application(database_url, redis_url) | {"PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    listing = subprocess.Popen(
        [sys.executable, "-m", "carafe", "jobs", "list"],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=its,
        stderr=subprocess.DEVNULL,
    )
    os.close(its)
    shown = b""
    try:
        while part := os.read(terminal, 65_536):
            shown += part
    except OSError:
        pass  # the other side is closed
    os.close(terminal)
    assert listing.wait(60) == 0
    lines = shown.decode().splitlines()
    assert any(job in line and line.endswith("…") for line in lines)
    assert {len(line) for line in lines if job in line} == {100}


@pytest.mark.parametrize("heading", ["KIND", "TARGET"])
def test_a_long_kind_leaves_room_for_the_other_columns(heading: str, capsys: pytest.CaptureFixture[str]) -> None:
    show_table((heading, "STATE"), [("k" * 60, "queued"), ("k" * 200, "dead")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == [f"{'k' * 60}  queued", f"{'k' * 59}…  dead"]
