"""What handlers do within a trace: spans of their own in coroutines, threads and child processes, snoozes, logs."""

import logging
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from carafe import Client, Job
from carafe.jobs.records import JobRecord
from tests.engine.worker_process import WorkerProcess
from tests.tracing.conftest import StartWorker, lines, soon, trace_of
from tests.tracing.jobs import Apart, ApartFailing, Failing, Imported, Parent, Snoozing, Threaded, Working
from tests.tracing.receiver import Receiver, Span

pytestmark = pytest.mark.process

BROUGHT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
async def worker(start_worker: StartWorker) -> AsyncIterator[WorkerProcess]:
    """One that traces everything, with a steward."""
    worker = await start_worker().ready()
    yield worker
    await worker.stop()


async def ended(client: Client, job: Job, trace: str | None = BROUGHT) -> JobRecord:
    """The job after its end, enqueued by somebody who traces by other means."""
    return await client.wait((await client.enqueue(job, trace=trace)).id, timeout=60)


async def attempts(receiver: Receiver, job_id: UUID, count: int = 1) -> list[Span]:
    """The spans of its attempts, once there are `count`."""

    def found() -> list[Span]:
        spans = [span for span in receiver.of_job(job_id) if span.kind == "CONSUMER"]
        return spans if len(spans) >= count else []

    return await soon(found)


@pytest.mark.parametrize("kind", [Working, Threaded, Apart])
async def test_a_handlers_own_spans_are_the_attempts_children(
    worker: WorkerProcess, client: Client, receiver: Receiver, kind: type[Job]
) -> None:
    record = await ended(client, kind())
    assert record.state == "succeeded", record.error
    (attempt,) = await attempts(receiver, record.id)
    (own,) = await soon(lambda: receiver.spans(parent=attempt.span_id))
    assert (own.name, own.kind, own.scope, own.attributes) == ("own work", "INTERNAL", "handlers", {"pages": [1, 2]})
    assert own.events == [("turned", {"page": 2})]
    assert own.trace_id == attempt.trace_id == BROUGHT[3:35]
    assert own.resource == attempt.resource
    assert attempt.start <= own.start <= own.end <= attempt.end
    assert (attempt.parent, attempt.service) == (BROUGHT[36:52], "carafe-worker")
    # Its log lines, wherever they were written, say whose they are, and where in the trace.
    (line,) = await soon(lambda: lines(worker, event="inside", job_id=str(record.id)))
    told = {name: line[name] for name in ("kind", "attempt", "trace_id", "span_id")}
    assert told == {"kind": record.kind, "attempt": 1, "trace_id": own.trace_id, "span_id": own.span_id}
    await soon(lambda: lines(worker, event="job completed", job_id=str(record.id), trace_id=own.trace_id))


async def test_spans_of_a_process_that_failed_are_kept(worker: WorkerProcess, client: Client, receiver: Receiver) -> None:
    record = await ended(client, ApartFailing())
    assert record.state == "dead"
    (attempt,) = await attempts(receiver, record.id)
    assert attempt.attributes["carafe.job.outcome"] == "dead"
    assert attempt.attributes["error.type"] == "ValueError"
    assert (await soon(lambda: receiver.spans(parent=attempt.span_id)))[0].name == "own work"


async def test_a_snoozed_job_goes_on_in_its_trace(worker: WorkerProcess, client: Client, receiver: Receiver) -> None:
    record = await ended(client, Snoozing())
    first, second = await attempts(receiver, record.id, 2)
    assert [span.attributes["carafe.job.outcome"] for span in (first, second)] == ["snoozed", "succeeded"]
    assert not first.failed
    assert [link.span_id for link in second.links] == [BROUGHT[36:52], first.span_id]
    assert first.trace_id == second.trace_id


async def test_a_dead_job_that_is_retried_points_at_its_last_attempt(
    worker: WorkerProcess, client: Client, receiver: Receiver
) -> None:
    record = await ended(client, Failing())
    (first,) = await attempts(receiver, record.id)
    assert await trace_of(client, record.id) == f"{BROUGHT} carafe={first.span_id}"
    await client.retry(record.id)
    _, second = await attempts(receiver, record.id, 2)
    assert [link.span_id for link in second.links] == [BROUGHT[36:52], first.span_id]
    assert "nobody sees me" not in f"{first} {second}"


async def test_what_a_handler_enqueues_belongs_to_its_trace(
    worker: WorkerProcess, client: Client, receiver: Receiver
) -> None:
    record = await ended(client, Parent())
    child = UUID(str(record.result))
    await client.wait(child, timeout=60)
    (attempt,) = await attempts(receiver, record.id)
    (of_child,) = await attempts(receiver, child)
    (enqueue,) = [span for span in receiver.of_job(child) if span.kind == "PRODUCER"]
    assert (enqueue.parent, of_child.parent) == (attempt.span_id, enqueue.span_id)
    assert enqueue.trace_id == of_child.trace_id == attempt.trace_id


async def test_a_job_without_a_trace_begins_one(worker: WorkerProcess, client: Client, receiver: Receiver) -> None:
    record = await ended(client, Working(), trace=None)
    (attempt,) = await attempts(receiver, record.id)
    assert (attempt.parent, attempt.links) == ("", [])


async def test_a_trace_that_is_none_is_kept_and_not_followed(
    worker: WorkerProcess, client: Client, receiver: Receiver
) -> None:
    record = await ended(client, Working(), trace="our ticket 17")
    assert await trace_of(client, record.id) == "our ticket 17"
    assert record.state == "succeeded"


async def test_a_caller_that_keeps_nothing_is_followed_in_that(
    worker: WorkerProcess, client: Client, receiver: Receiver
) -> None:
    dropped = await ended(client, Working(), trace=f"{BROUGHT[:-2]}00")
    later = await ended(client, Working())
    await attempts(receiver, later.id)
    assert receiver.of_job(dropped.id) == []
    (line,) = lines(worker, event="inside", job_id=str(dropped.id))
    assert "trace_id" not in line


async def test_nothing_of_opentelemetry_is_imported_while_tracing_is_off(
    worker: WorkerProcess, start_worker: StartWorker, client: Client
) -> None:
    with_it = await ended(client, Imported())
    assert isinstance(with_it.result, list)
    assert len(with_it.result) == 4  # so that what follows can fail
    await worker.stop()
    off = await start_worker(TRACING_SAMPLE_RATIO="0").ready()
    assert (await ended(client, Imported())).result == []
    await off.stop()


def test_a_line_says_itself_what_it_says(caplog: pytest.LogCaptureFixture) -> None:
    from io import StringIO

    from carafe.settings.settings import Settings
    from carafe.telemetry.logging import annotate, configure_logging

    stream = StringIO()
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        configure_logging(Settings(log_format="json"), stream)
        annotate("test", lambda: {"job_id": "one", "extra": 1})
        logging.getLogger("tests").info("hello", extra={"job_id": "two"})
    finally:
        annotate("test", dict)
        root.handlers[:], root.level = before, level
    assert '"job_id":"two"' in stream.getvalue()
    assert '"extra":1' in stream.getvalue()
