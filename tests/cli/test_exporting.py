"""`carafe jobs list --format`: every job that matches, in a form for other programs; and what is said where none does."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from carafe.cli import exporting
from tests.cli.conftest import ROOT, Command, application, bare_environment


@pytest.fixture(scope="module")
def many(request: pytest.FixtureRequest, database_url: str, redis_url: str) -> list[str]:
    """Ids of seven jobs, oldest first."""
    import asyncio

    from carafe import Client, NewJob
    from tests.cli.declared import Greet

    async def go() -> list[str]:
        async with Client.connect(database_url=database_url, redis_url=redis_url) as client:
            jobs = [NewJob(Greet(name=f"=1+{number}\nÄ", tags=["a"])) for number in range(7)]
            return [str(job.id) for job in await client.enqueue_many(jobs)]

    return asyncio.run(go())


def test_json_lines_have_every_job(carafe: Command, many: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "PAGE", 3)
    lines = [json.loads(line) for line in carafe("jobs", "list", "--format", "jsonl").out.splitlines()]
    assert [job["id"] for job in lines] == many[::-1]
    assert lines == carafe("jobs", "list", "--json").json["jobs"]


def test_csv_has_the_same_jobs_and_no_formula(carafe: Command, many: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "PAGE", 3)
    rows = list(csv.DictReader(io.StringIO(carafe("jobs", "list", "--format", "csv").out, newline="")))
    assert [row["id"] for row in rows] == many[::-1]
    job = carafe("jobs", "list", "--json").json["jobs"][0]
    assert rows[0]["created_at"] == job["created_at"]
    assert (rows[0]["state"], rows[0]["attempt"], rows[0]["ended_at"]) == ("queued", "0", "")
    assert json.loads(rows[0]["args"]) == job["args"]
    assert exporting._cell("=1+1\x1b\nnext") == "'=1+1\\x1b\nnext"


@pytest.mark.parametrize("sign", "=+-@＝＋－＠")
@pytest.mark.parametrize(
    "before", ["", " ", "\n", "\r\n", "\t", " \n ", "\u3000", "a;", "a; ", "a\n", '";', "\ufeff"], ids=repr
)
def test_no_program_finds_a_formula_in_csv(before: str, sign: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = f"{before}{sign}1+1"
    table = csv.writer(sys.stdout, lineterminator="\n", quoting=csv.QUOTE_ALL)
    table.writerow(["id", exporting._cell(text), exporting._cell({"key": text})])
    printed = capsys.readouterr().out
    for cell in (
        cell for separator in ",;\t" for row in csv.reader(io.StringIO(printed), delimiter=separator) for cell in row
    ):
        assert not cell.strip().startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠"))
    assert json.loads(exporting._cell({"key": text})) == {"key": text}


def test_every_cell_of_csv_is_quoted(carafe: Command, many: list[str]) -> None:
    header, first = carafe("jobs", "list", "--format", "csv", "--limit", "1").out.splitlines()[:2]
    assert all(cell.startswith('"') for cell in header.split(","))
    assert first.startswith(f'"{many[-1]}",')


def test_a_limit_and_a_cursor_narrow_an_export(carafe: Command, many: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "PAGE", 3)

    def ids(*options: str) -> list[str]:
        return [json.loads(line)["id"] for line in carafe("jobs", "list", "--format", "jsonl", *options).out.splitlines()]

    assert ids("--limit", "4") == many[:2:-1]
    cursor = carafe("jobs", "list", "--limit", "2", "--json").json["next_cursor"]
    assert ids("--cursor", cursor) == many[-3::-1]
    assert ids("--limit", "600") == many[::-1]


@pytest.mark.parametrize("options", [["--limit", "0"], ["--json"]], ids=" ".join)
def test_what_cannot_be_is_code_2(carafe: Command, options: list[str]) -> None:
    answer = carafe("jobs", "list", "--format", "csv", *options)
    assert (answer.code, answer.out) == (2, "")


@pytest.mark.parametrize("form", [[], ["--json"], ["--format", "jsonl"], ["--format", "csv"]], ids=" ".join)
def test_nothing_found_by_a_filter_is_a_warning(carafe: Command, form: list[str]) -> None:
    answer = carafe("jobs", "list", "--error-class", "NoSuchError", *form)
    assert answer.code == 0
    assert answer.err == "warning: no job matches the filter\n"


def test_a_bulk_action_on_nothing_is_a_warning(carafe: Command) -> None:
    answer = carafe("bulk", "start", "retry", "--error-class", "NoSuchError")
    assert answer.code == 0
    assert answer.err.startswith("warning: no job matches: nothing will be done\n")


@pytest.mark.process
def test_a_reader_that_has_enough_ends_an_export(many: list[str], database_url: str, redis_url: str, tmp_path: Path) -> None:
    environment = bare_environment() | application(database_url, redis_url) | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-m", "carafe", "jobs", "list", "--format", "csv"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as export:
        assert export.stdout is not None
        assert export.stderr is not None
        export.stdout.close()
        said = export.stderr.read()
    assert "Traceback" not in said
    assert export.returncode == 1
