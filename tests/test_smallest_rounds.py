"""The smallest round of every benchmark, of `make chaos` and of `make soak` runs without an error; the results do not
matter.

Nothing is timed here. New measurements and systems are covered, since the tests read the benchmarks' own lists.
"""

import shlex
import subprocess
from pathlib import Path

import pytest

from benchmarks import servers
from benchmarks.measurements import MEASUREMENTS
from benchmarks.systems import ALL
from benchmarks.systems.carafe import CARAFE
from benchmarks.systems.system import Program
from tests.cli.conftest import bare_environment
from tests.forked import path, warm

pytestmark = pytest.mark.process

ROOT = Path(__file__).parent.parent
SEED = 20261206
"""Of a fault after which nothing waits for a rescue."""

SMALL_WORLD = "--workers 1 --webs 1 --rate 10"
"""Processes take most of a short run's time; tests/test_chaos.py runs more of them."""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python whose modules of `benchmarks` and `chaos` fork what they start: see `tests.rounds`."""
    program = tmp_path_factory.mktemp("bin") / "python"
    program.write_text(f'#!/bin/sh\nexec {shlex.join((*warm("tests.rounds"), path()))} "$@"\n')
    program.chmod(0o755)
    return program


def make(python: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """What `make` does, with this test's own environment in place of .venv."""
    return run("make", "--old-file", ".venv/stamp", f"BIN={python.parent}", *arguments, **environment)


def run(*command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        cwd=ROOT,
        env=bare_environment() | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_make_bench(python: Path) -> None:
    done = make(python, "bench", "ARGS=--installed --systems carafe", BENCH_SMALLEST="1")
    assert done.returncode == 0, done.stderr
    for measurement in MEASUREMENTS:
        for setting in measurement.settings_of(CARAFE):
            said = f"{measurement.name} 1/1 carafe [{measurement.label(setting)}]: "
            assert said in done.stderr, done.stderr
    assert "not measured" not in done.stdout


def test_a_peer_is_measured_too_and_the_others_are_left_out_in_words(python: Path) -> None:
    names = [system.name for system in ALL if system.name in ("celery prefork", "huey", "oban")]
    done = make(python, "bench", f"ARGS=--installed --systems {','.join(names)!r}", "ONLY=drain", BENCH_SMALLEST="1")
    assert done.returncode == 0, done.stderr
    assert "drain 1/1 celery prefork [5 slots, one process]: drain " in done.stderr, done.stderr
    for name in names:
        assert f"drain 1/1 {name} [" in done.stderr or f"{name}: not installed" in done.stderr


def test_an_argument_is_a_program_only_where_it_is_marked_as_one() -> None:
    workers = [worker for system in ALL for setting in system.settings.values() for worker in setting.workers]
    assert any("carafe" in worker.command for worker in workers)
    marked = {str(part) for worker in workers for part in worker.command if isinstance(part, Program)}
    assert marked == {"huey_consumer"}


@pytest.mark.parametrize("module", ["costs", "pages"])
def test_what_observing_costs_and_how_fast_pages_are(python: Path, module: str) -> None:
    done = run(str(python), "-m", f"benchmarks.{module}", BENCH_SMALLEST="1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("| "), done.stdout


def test_every_benchmark_has_a_smallest_round_here() -> None:
    runnable = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "\nif __name__ ==" in path.read_text()}
    # Run by the others as processes: `producer` and `viewers`; `population` is what `pages` fills its database with.
    assert runnable == {"__main__", "costs", "pages", "producer", "viewers", "population"}


def test_make_chaos(python: Path) -> None:
    done = make(python, "chaos", "MINUTES=0.05", f"SEED={SEED}", f"ARGS={SMALL_WORLD}")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert f"seed {SEED}: nothing spilled" in done.stdout


def test_make_soak(python: Path) -> None:
    done = make(python, "soak", "MINUTES=0.05", f"ARGS={SMALL_WORLD}")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "nothing spilled; too short to judge growth" in done.stdout


def test_a_folder_that_a_killed_run_had_half_removed_is_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "ENVIRONMENTS", tmp_path)
    (tmp_path / "servers-half" / "postgres" / "data" / "base").mkdir(parents=True)
    servers._end_servers_left_behind()
    assert list(tmp_path.iterdir()) == []


def test_a_measurement_that_fails_is_not_success(python: Path, tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text(
        "import sys, benchmarks.__main__ as bench, dataclasses\n"
        "from benchmarks.systems import ALL\n"
        "from benchmarks.systems.system import SLOTS, Setting, Worker\n"
        "gone = Setting((Worker(('false',)),), 'ends at once', 1)\n"
        "bench.ALL = (dataclasses.replace(ALL[0], settings={SLOTS: gone}),)\n"
        "sys.argv = ['benchmarks', '--only', 'cold_start']\n"
        "sys.exit(bench.main())\n"
    )
    done = run(str(python), "-m", "failing", BENCH_SMALLEST="1", PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert done.returncode == 1, done.stderr
    assert "carafe | not measured: a worker exited with 1" in done.stdout
