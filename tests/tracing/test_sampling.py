"""Who decides which traces are recorded: the service that started the trace, or chance."""

import httpx
import pytest

from carafe import Client
from carafe.store.enqueueing import TRACED_OF_BULK
from tests.tracing.conftest import StartWeb, StartWorker, soon, trace_of
from tests.tracing.jobs import Working
from tests.tracing.receiver import Receiver

pytestmark = pytest.mark.process

HARDLY_EVER = "0.000000001"
KEPT = "00-11111111111111111111111111111111-2222222222222222-01"
DROPPED = "00-33333333333333333333333333333333-4444444444444444-00"
JOB = {"kind": "tracing.working", "args": {}}


async def test_a_trace_that_is_not_drawn_is_not_drawn_again(
    start_web: StartWeb, start_worker: StartWorker, receiver: Receiver, client: Client
) -> None:
    web = await start_web(TRACING_SAMPLE_RATIO=HARDLY_EVER, STEWARD="false").serving()
    worker = await start_worker(TRACING_SAMPLE_RATIO="1", STEWARD="false").ready()
    async with httpx.AsyncClient(base_url=f"{web.url}/api/v1") as http:

        async def enqueued(**headers: str) -> str:
            answer = await http.post("/jobs", json=JOB, headers=headers)
            assert answer.status_code == 202, answer.text
            record = await client.wait(answer.json()["id"], timeout=60)
            trace = await trace_of(client, record.id)
            assert trace is not None
            return trace

        not_drawn = await enqueued()
        dropped = await enqueued(traceparent=DROPPED)
        kept = await enqueued(traceparent=KEPT)
    assert not_drawn.endswith("-00")
    assert dropped.startswith(DROPPED[:36])
    assert dropped.endswith("-00")
    assert kept.startswith(KEPT[:36])
    assert kept.endswith("-01")
    # The kept one came last: when it has arrived, so would the others have.
    await soon(lambda: [span for span in receiver.spans(KEPT[3:35]) if span.kind == "CONSUMER"])
    assert {span.trace_id for span in receiver.spans()} == {KEPT[3:35]}
    await worker.stop()
    await web.stop()


async def test_lots_are_drawn_for_each_job_that_comes_without_a_trace(
    start_worker: StartWorker, receiver: Receiver, client: Client
) -> None:
    worker = await start_worker(TRACING_SAMPLE_RATIO="0.5", STEWARD="false").ready()
    plain = await client.enqueue_many([Working() for _ in range(200)])
    for accepted in plain:
        await client.wait(accepted.id, timeout=60)
    await worker.stop()
    ids = {str(accepted.id) for accepted in plain}
    traced = [span for span in receiver.spans(kind="CONSUMER") if span.attributes["messaging.message.id"] in ids]
    assert 0 < len(traced) < 200
    assert len({span.trace_id for span in traced}) == len(traced)
    # The handler of a job that is not traced begins no trace of its own.
    own = receiver.spans(name="own work")
    assert {span.span_id for span in traced} <= {span.parent for span in own}
    assert "" not in {span.parent for span in own}


async def test_a_trace_shows_so_many_jobs_of_a_bulk_and_no_more(
    start_web: StartWeb, receiver: Receiver, client: Client
) -> None:
    web = await start_web(STEWARD="false").serving()
    async with httpx.AsyncClient(base_url=f"{web.url}/api/v1") as http:
        asked = {"jobs": [JOB] * (TRACED_OF_BULK + 50)}
        headers = {"Idempotency-Key": "bulk"}
        answer = await http.post("/jobs/bulk", json=asked, headers=headers)
        again = await http.post("/jobs/bulk", json=asked, headers=headers)
    ids = [job["id"] for job in answer.json()["jobs"]]
    assert [job["id"] for job in again.json()["jobs"]] == ids  # another trace is no other request
    traces = [await trace_of(client, job_id) or "" for job_id in ids]
    assert len({trace[:52] for trace in traces}) == 1
    assert [trace[-2:] for trace in traces] == ["01"] * TRACED_OF_BULK + ["00"] * 50
    (enqueue, *_) = await soon(lambda: receiver.spans(traces[0][3:35], kind="PRODUCER"))
    assert enqueue.span_id == traces[0][36:52]
    assert enqueue.attributes["messaging.batch.message_count"] == len(ids)
    await web.stop()
