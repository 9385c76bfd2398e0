"""The log lines about jobs: their content, that none is lost, and that nobody can forge one."""

import io
import json
import threading
from uuid import uuid4

import pytest

from carafe.telemetry.job_log import Event, JobLog, Level

JOB = uuid4()
RETRIED, FAILED = Event("job retried", "WARNING"), Event("job failed", "ERROR")


def write_one_of_each(log: JobLog) -> None:
    log.started(JOB, "briefing.generate", 1)
    log.completed(JOB, "briefing.generate", 1, 0.25)
    log.ended(RETRIED, JOB, "briefing.generate", 2, 0.5, "TimeoutError: no answer", 4.0)
    log.ended(FAILED, JOB, "briefing.generate", 4, 0.5, "TimeoutError: no answer")
    for number, event in enumerate(("job cancelled", "job snoozed", "job released")):
        log.ended(Event(event, "INFO"), JOB, "briefing.generate", 1, 0.1, None, 60.0 if number == 1 else None)


def test_json_lines_have_id_kind_attempt_and_duration() -> None:
    stream = io.StringIO()
    log = JobLog(stream, "json", "INFO")
    write_one_of_each(log)
    assert stream.getvalue() == ""
    assert log.flush() == 7
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"].removeprefix("job ") for line in lines] == [
        "started", "completed", "retried", "failed", "cancelled", "snoozed", "released",
    ]  # fmt: skip
    assert {line["job_id"] for line in lines} == {str(JOB)}
    assert {line["kind"] for line in lines} == {"briefing.generate"}
    retried = lines[2]
    assert (retried["level"], retried["attempt"], retried["duration"]) == ("warning", 2, 0.5)
    assert (retried["delay"], retried["error"]) == (4.0, "TimeoutError: no answer")
    assert log.flush() == 0


def test_text_lines_are_one_line_each() -> None:
    stream = io.StringIO()
    log = JobLog(stream, "text", "INFO")
    write_one_of_each(log)
    log.flush()
    assert len(stream.getvalue().splitlines()) == 7
    assert f"job retried   briefing.generate job_id={JOB} attempt=2 duration=0.500s delay=4.0s" in stream.getvalue()


@pytest.mark.parametrize(("level", "left"), [("DEBUG", 7), ("INFO", 7), ("WARNING", 2), ("ERROR", 1), ("CRITICAL", 0)])
def test_the_level_leaves_lines_out(level: Level, left: int) -> None:
    stream = io.StringIO()
    log = JobLog(stream, "text", level)
    write_one_of_each(log)
    assert log.flush() == left


@pytest.mark.parametrize("hostile", ['a"b\n{"event":"forged"}', "half a pair \ud800", "\x00\x1b[31m", "é\u2028ü"])
def test_nobody_forges_a_line(hostile: str) -> None:
    stream = io.StringIO()
    log = JobLog(stream, "json", "INFO")
    log.ended(FAILED, JOB, hostile, 1, 0.1, hostile)
    log.flush()
    (line,) = stream.getvalue().rstrip("\n").split("\n")
    assert json.loads(line)["event"] == "job failed"
    stream.getvalue().encode()

    stream = io.StringIO()
    log = JobLog(stream, "text", "INFO")
    log.ended(FAILED, JOB, hostile, 1, 0.1, hostile)
    log.flush()
    assert len(stream.getvalue().splitlines()) == 1


def test_no_line_is_lost_between_threads() -> None:
    stream = io.StringIO()
    log = JobLog(stream, "json", "INFO")

    def start_many() -> None:
        for attempt in range(5_000):
            log.started(JOB, "k", attempt)

    threads = [threading.Thread(target=start_many) for _ in range(3)]
    for thread in threads:
        thread.start()
    written = 0
    while any(thread.is_alive() for thread in threads):
        written += log.flush()
    written += log.flush()
    assert written == 15_000
    assert len(stream.getvalue().splitlines()) == 15_000


def test_a_broken_stream_does_not_reach_the_job() -> None:
    stream = io.StringIO()
    log = JobLog(stream, "json", "INFO")
    stream.close()
    log.started(JOB, "k", 1)
    assert log.flush() == 1
