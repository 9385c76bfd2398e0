"""The trace of one briefing whose webhook fails once, from the request to the second attempt, as a receiver sees it."""

from uuid import UUID

import httpx
import pytest

from carafe import Client
from tests.tracing.conftest import StartWeb, StartWorker, lines, soon, trace_of
from tests.tracing.receiver import Receiver, Span
from tests.tracing.web import Webhook
from tests.waiting import eventually

pytestmark = pytest.mark.process

REQUESTED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"

DESTINATION = {
    "messaging.system": "carafe",
    "messaging.destination.name": "default",
}


async def test_a_briefing_with_a_retry(
    start_web: StartWeb, start_worker: StartWorker, receiver: Receiver, client: Client
) -> None:
    own = {
        "SETTINGS_CLASS": "briefings.settings:BriefingSettings",
        "JOB_MODULES": "briefings.jobs",
        "HANDLER_MODULES": "worker.handlers",
        "WEB_APPLICATION": "app.main:create_app",
    }
    with Webhook() as webhook:
        web = await start_web(**own, STEWARD="true").serving()
        worker = await start_worker(**own, BRIEFING_WEBHOOK_URL=webhook.url, STEWARD="false").ready()
        async with httpx.AsyncClient(base_url=web.url) as http:
            headers = {"traceparent": REQUESTED, "tracestate": "vendor=kept"}
            answer = await http.post("/api/v1/briefings", json={"topic": "Espresso"}, headers=headers)
            assert answer.status_code == 202
            await http.get("/health")
        (job_id,) = await eventually(lambda: _jobs(client), 30.0)
        record = await client.wait(job_id, timeout=60)
        assert (record.state, record.attempt) == ("succeeded", 2)
        spans = await soon(lambda: found if len(found := receiver.spans(TRACE)) >= 8 else [])

    request, enqueue, wait_1, first, call_1, wait_2, second, call_2 = spans
    assert [(span.name, span.kind, span.service) for span in spans] == [
        ("POST /api/v1/briefings", "SERVER", "carafe-web"),
        ("enqueue default", "PRODUCER", "carafe-web"),
        ("wait default", "INTERNAL", "carafe-worker"),
        ("process default", "CONSUMER", "carafe-worker"),
        ("POST", "CLIENT", "carafe-worker"),
        ("wait default", "INTERNAL", "carafe-worker"),
        ("process default", "CONSUMER", "carafe-worker"),
        ("POST", "CLIENT", "carafe-worker"),
    ]
    assert [span.parent for span in spans] == [
        "00f067aa0ba902b7",
        request.span_id,
        enqueue.span_id,
        enqueue.span_id,
        first.span_id,
        enqueue.span_id,
        enqueue.span_id,
        second.span_id,
    ]
    assert [pointed_at(span) for span in spans] == [
        [],
        [],
        [],
        [(enqueue.span_id, "enqueued by")],
        [],
        [],
        [(enqueue.span_id, "enqueued by"), (first.span_id, "previous attempt")],
        [],
    ]
    assert all(link.trace_id == TRACE for span in spans for link in span.links)
    assert request.attributes["http.route"] == "/api/v1/briefings"
    assert request.attributes["http.response.status_code"] == 202
    job = {"messaging.message.id": str(record.id), "carafe.job.kind": "briefing.generate"}
    assert enqueue.attributes == DESTINATION | job | {
        "messaging.operation.name": "enqueue",
        "messaging.operation.type": "send",
    }
    assert wait_1.attributes == DESTINATION | job | {"carafe.job.attempt": 1}
    processed = (
        DESTINATION
        | job
        | {
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.client.id": str(worker.events("worker ready")[0]["name"]),
            "carafe.job.max_attempts": 4,
        }
    )
    failure = "worker.handlers.briefings.WebhookFailed"
    assert first.attributes == processed | {
        "carafe.job.attempt": 1,
        "carafe.job.outcome": "retrying",
        "carafe.job.cause": "error",
        "error.type": failure,
    }
    assert second.attributes == processed | {"carafe.job.attempt": 2, "carafe.job.outcome": "succeeded"}
    assert (first.failed, second.failed) == (True, False)
    ((event, what),) = first.events
    assert (event, what["exception.type"]) == ("exception", failure)
    assert "webhook answered 500" in what["exception.message"]
    assert "WebhookFailed" in what["exception.stacktrace"]
    assert call_1.attributes["http.response.status_code"] == 500
    assert call_1.failed
    assert call_2.attributes["http.response.status_code"] == 200
    assert [(word, span) for span in spans for word in ("hunter2", "hidden", "Espresso") if word in str(span)] == []

    # Each waited until it was claimed, and the attempt came after; both of the first two are Postgres's own times.
    assert wait_1.start <= wait_1.end
    assert wait_1.end <= wait_2.start
    # The webhook is told where it belongs.
    assert [headers["traceparent"] for headers in webhook.headers] == [
        f"00-{TRACE}-{call.span_id}-01" for call in (call_1, call_2)
    ]
    # What the vendor said is kept, and the job says which attempt was the last that left word.
    assert await trace_of(client, record.id) == f"00-{TRACE}-{enqueue.span_id}-01 carafe={first.span_id},vendor=kept"
    assert not [span for span in receiver.spans() if "/health" in span.name]
    # Logs name the trace.
    await worker.stop()
    assert {line["event"] for line in lines(worker, trace_id=TRACE)} >= {"job started", "job retried", "job completed"}
    await web.stop()


def pointed_at(span: Span) -> list[tuple[str, object]]:
    """A span's links, and what it says of them."""
    return [(link.span_id, link.attributes["carafe.link"]) for link in span.links]


async def _jobs(client: Client) -> list[UUID]:
    return [job.id for job in (await client.find()).jobs]
