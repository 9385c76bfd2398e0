"""Logs: one format and level for this library and the ones it stands on."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from carafe.logging import configure_logging, get_logger
from carafe.settings import Settings


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


def test_the_level_holds_and_a_second_call_replaces_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure_logging(Settings(), first)
    configure_logging(Settings(log_level="WARNING"), second)
    get_logger("x").info("left out")
    get_logger("x").warning("written", why="level")
    assert first.getvalue() == ""
    assert "warning  written why=level" in second.getvalue()
    assert "\x1b[" not in second.getvalue()
