"""While the receiver is away, or accepts connections and never answers, jobs run and workers end as usual."""

import socket
from collections.abc import Iterator

import pytest

from carafe import Client
from carafe.dev.embedded import free_port
from carafe.tracing import STOP
from tests.tracing.conftest import StartWorker, soon
from tests.tracing.jobs import Apart, Working

pytestmark = pytest.mark.process

EXPORTER_TIMEOUT = "60"
"""Seconds that the exporter itself would go on trying; the SDK's own end would take thirty."""

ENDS_WITHIN = STOP + 15.0


@pytest.fixture
def silent() -> Iterator[str]:
    """Takes connections, and what is sent, and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def refusing() -> str:
    """A port at which nobody listens."""
    return f"http://127.0.0.1:{free_port()}"


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("receiver_is", ["silent", "refusing"])
async def test_jobs_run_and_the_worker_ends(
    request: pytest.FixtureRequest, start_worker: StartWorker, client: Client, receiver_is: str, protocol: str
) -> None:
    endpoint = request.getfixturevalue(receiver_is)
    worker = await start_worker(
        OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
        OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
        OTEL_EXPORTER_OTLP_TIMEOUT=EXPORTER_TIMEOUT,
    ).ready()
    jobs = [*(Working() for _ in range(300)), Apart()]
    for accepted in await client.enqueue_many(jobs):
        assert (await client.wait(accepted.id, timeout=60)).state == "succeeded"
    worker.signal()
    await soon(lambda: worker.events("drained"))
    assert await worker.ended(within=ENDS_WITHIN) == 0
    # Said once, and not for every batch.
    told = ["spans are dropped: the receiver does not take them", "spans dropped: the receiver does not take them in time"]
    assert 1 <= sum(len(worker.events(event)) for event in told) <= 2
    assert "Traceback" not in worker.log
