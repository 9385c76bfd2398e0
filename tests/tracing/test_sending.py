"""How spans are sent: by HTTP too, with the headers that are set, under the name that is set."""

import pytest

from carafe import Client
from tests.tracing.conftest import StartWorker, soon
from tests.tracing.jobs import Working
from tests.tracing.receiver import Receiver

pytestmark = pytest.mark.process


async def test_by_http_with_headers_and_a_name(start_worker: StartWorker, receiver: Receiver, client: Client) -> None:
    worker = await start_worker(
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.http_url,
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
        OTEL_EXPORTER_OTLP_HEADERS="x-tenant=one,authorization=Bearer%20two",
        OTEL_SERVICE_NAME="nightly",
        OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test",
    ).ready()
    accepted = await client.enqueue(Working())
    (attempt,) = await soon(lambda: receiver.of_job(accepted.id))
    assert attempt.service == "nightly"
    assert attempt.resource["deployment.environment.name"] == "test"
    assert receiver.headers[-1]["x-tenant"] == "one"
    assert receiver.headers[-1]["authorization"] == "Bearer two"
    assert "two" not in worker.log
    await worker.stop()


async def test_spans_that_wait_are_sent_before_the_worker_ends(
    start_worker: StartWorker, receiver: Receiver, client: Client
) -> None:
    worker = await start_worker(OTEL_BSP_SCHEDULE_DELAY="600000").ready()
    accepted = await client.enqueue(Working())
    await client.wait(accepted.id, timeout=60)
    assert receiver.of_job(accepted.id) == []
    await worker.stop()
    assert receiver.of_job(accepted.id)


async def test_opentelemetrys_own_switch_turns_it_off(start_worker: StartWorker, receiver: Receiver, client: Client) -> None:
    worker = await start_worker(OTEL_SDK_DISABLED="true").ready()
    assert worker.events("tracing is off: OTEL_SDK_DISABLED is set")
    accepted = await client.enqueue(Working())
    assert (await client.wait(accepted.id, timeout=60)).state == "succeeded"
    await worker.stop()
    assert receiver.of_job(accepted.id) == []
