"""Logs: this library and the libraries that it uses have the same format and level."""

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

import carafe.telemetry.logging
from carafe.settings.settings import Settings
from carafe.telemetry.job_log import Event, JobLog
from carafe.telemetry.loggers import get_logger
from carafe.telemetry.logging import FAILURES, FAILURES_TIME, configure_logging
from tests.waiting import eventually


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(False)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_is_one_object_a_line_from_everybody() -> None:
    stream = io.StringIO()
    configure_logging(Settings(log_format="json"), stream)
    get_logger("carafe.steward").info("lease taken", holder="web-1")
    logging.getLogger("alembic.runtime.migration").warning("Running upgrade %s", "0001")
    own, alembic = lines(stream)
    assert list(own)[:4] == ["timestamp", "level", "event", "logger"]
    assert own["timestamp"].endswith("Z")
    assert (own["event"], own["holder"], own["level"]) == ("lease taken", "web-1", "info")
    assert alembic["event"] == "Running upgrade 0001"


def test_a_traceback_stays_on_its_line_in_json() -> None:
    stream = io.StringIO()
    configure_logging(Settings(log_format="json"), stream)
    try:
        raise ValueError("two\nlines \ud800")
    except ValueError:
        get_logger("x").exception("it broke", number=2**70)
    (line,) = lines(stream)
    assert "ValueError: two" in line["exception"]


def test_celerys_chatter_is_for_warnings() -> None:
    stream = io.StringIO()
    configure_logging(Settings(log_format="json"), stream)
    logging.getLogger("celery.worker.strategy").info("Task received")
    logging.getLogger("kombu.connection").warning("connection lost")
    assert [line["event"] for line in lines(stream)] == ["connection lost"]


def test_a_failed_request_is_one_line_without_its_query() -> None:
    stream = io.StringIO()
    configure_logging(Settings(log_format="json", log_level="WARNING"), stream)
    access = logging.getLogger("uvicorn.access")
    for status in (200, 404, 503):
        access.info('%s - "%s %s HTTP/%s" %d', "10.0.0.1:1", "GET", "/jobs?token=secret", "1.1", status)
    (line,) = lines(stream)
    assert (line["level"], line["event"]) == ("error", "request failed: GET /jobs answered 503")


async def test_a_flood_of_failed_requests_is_a_few_lines_and_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carafe.telemetry.logging, "FAILURES_TIME", 0.2)
    stream = io.StringIO()
    configure_logging(Settings(log_format="json", log_level="WARNING"), stream)
    access = logging.getLogger("uvicorn.access")
    for status in [503] * 100 + [500] + [503] * 100:
        access.info('%s - "%s %s HTTP/%s" %d', "10.0.0.1:1", "GET", "/jobs", "1.1", status)

    def all_told() -> bool:
        told = [line["event"] for line in lines(stream)]
        numbers = [int(event.partition(" ")[0]) for event in told if event.endswith("more requests failed: answered 503")]
        assert len(told) < 30
        return len(told) - len(numbers) + sum(numbers) == 201

    await eventually(all_told)


def test_a_flood_is_counted_where_no_loop_can_tell_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    configure_logging(Settings(log_format="json", log_level="WARNING"), stream)
    access = logging.getLogger("uvicorn.access")
    now = 100.0
    monkeypatch.setattr("carafe.telemetry.logging.time.monotonic", lambda: now)
    for _ in range(20):
        access.info('%s - "%s %s HTTP/%s" %d', "10.0.0.1:1", "GET", "/jobs", "1.1", 503)
    now += FAILURES_TIME
    access.info('%s - "%s %s HTTP/%s" %d', "10.0.0.1:1", "GET", "/jobs", "1.1", 503)
    assert [line["event"] for line in lines(stream)][FAILURES:] == [
        "15 more requests failed: answered 503",
        "request failed: GET /jobs answered 503",
    ]


def test_the_level_holds_and_a_second_call_replaces_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure_logging(Settings(), first)
    configure_logging(Settings(log_level="WARNING"), second)
    get_logger("x").info("left out")
    get_logger("x").warning("written", why="level")
    assert first.getvalue() == ""
    assert "warning  written why=level" in second.getvalue()
    assert "\x1b[" not in second.getvalue()


HOSTILE = "\x1b[2J\x1b]0;title\x07 \x9b1m \u202e\u2066 \r\n12:00:00.000 error    forged\u2028line \ud800 \x00\x7f"


class Unshowable:
    """A value whose text cannot be made."""

    def __str__(self) -> str:
        raise ValueError("no text")


def test_what_handlers_log_neither_steers_a_terminal_nor_forges_a_line() -> None:
    stream = io.StringIO()
    configure_logging(Settings(log_format="text"), stream)
    get_logger("x").info(HOSTILE, value=HOSTILE, **{HOSTILE: 1}, unshowable=Unshowable())
    logging.getLogger("handler").warning("%s", HOSTILE, extra={"field": HOSTILE})
    job_log = JobLog(stream, "text")
    job_log.ended(Event("job failed", "ERROR"), "id", HOSTILE, 1, 0.1, HOSTILE, None, HOSTILE)
    job_log.flush()
    written = stream.getvalue()
    assert len(written.splitlines()) == 3
    assert all(character.isprintable() for character in written.replace("\n", ""))
    assert "Unshowable that cannot be shown: ValueError" in written
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        logging.getLogger("handler").exception("failed")
    trace = stream.getvalue().removeprefix(written).splitlines()
    assert re.match(r"\d\d:\d\d:\d\d\.\d{3} error    failed", trace[0])
    assert all(line.startswith("    ") for line in trace[1:])
    assert all(character.isprintable() for line in trace for character in line)


def test_a_level_neither_steers_a_terminal_nor_forges_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "_levelToName", {**logging._levelToName})
    monkeypatch.setattr(logging, "_nameToLevel", {**logging._nameToLevel})
    logging.addLevelName(37, HOSTILE)
    stream = io.StringIO()
    configure_logging(Settings(log_format="text"), stream)
    logging.getLogger("handler").warning("first", extra={"level": HOSTILE})
    logging.getLogger("handler").log(37, "second")
    structlog.get_logger("x").warning("third", level=HOSTILE)
    written = stream.getvalue().splitlines()
    assert len(written) == 3
    assert all(line.isprintable() for line in written)
    assert [line.split()[1] for line in (written[0], written[2])] == ["warning", "warning"]


def test_extra_values_do_not_say_false_things_about_their_line() -> None:
    stream = io.StringIO()
    configure_logging(Settings(log_format="json"), stream)
    own = {
        "level": "critical",
        "logger": "carafe.steward",
        "timestamp": "never",
        "event": "lease lost",
        "_record": 1,
        "more": 2,
    }
    logging.getLogger("handler").warning("said", extra=own)
    structlog.get_logger("other").warning("said", level="critical", logger="carafe.steward")
    first, second = lines(stream)
    assert (first["level"], first["logger"], first["event"]) == ("warning", "handler", "said")
    assert first["timestamp"].endswith("Z")
    assert (first["level_"], first["logger_"], first["event_"], first["more"]) == (
        "critical",
        "carafe.steward",
        "lease lost",
        2,
    )
    assert (second["level"], second["logger"], second["level_"]) == ("warning", "other", "critical")


def test_values_that_do_not_fit_their_words_stay_out_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    configure_logging(Settings(log_format="json"), stream)
    logging.getLogger().handlers[:-1] = []  # pytest's own raise what cannot be shown
    logging.getLogger("handler").warning("%d tokens", "hunter2\nforged")
    (line,) = lines(stream)
    assert line["event"].startswith("'%d tokens' (its values cannot be shown: TypeError, at ")
    assert (line["level"], line["logger"]) == ("warning", "handler")
    assert "hunter2" not in stream.getvalue() + capsys.readouterr().err


def test_what_is_hidden_is_hidden_in_names_too_but_a_line_stays_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = ("hunter2", "warning", "timestamp", "event")
    monkeypatch.setattr(carafe.telemetry.logging, "_hides", lambda: lambda value: "***" if value in secrets else value)
    stream = io.StringIO()
    configure_logging(Settings(log_format="json"), stream)
    structlog.get_logger("x").warning("said", why="hunter2", hunter2=1)
    (line,) = lines(stream)
    assert (line["level"], line["event"], line["why"], line["***"]) == ("warning", "said", "***", 1)
    assert line["timestamp"].endswith("Z")
