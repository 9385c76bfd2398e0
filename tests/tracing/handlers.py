"""Their handlers (HANDLER_MODULES). Only workers import this module."""

import logging
import os
import sys

from carafe import Client, Context, Snooze, SyncContext, handler
from tests.tracing import jobs

log = logging.getLogger(__name__)

_snoozed: set[object] = set()


def own_span() -> None:
    """What a handler does that knows OpenTelemetry."""
    from opentelemetry import trace

    with trace.get_tracer("handlers", "1").start_as_current_span("own work", attributes={"pages": [1, 2]}) as span:
        log.info("inside")
        span.add_event("turned", {"page": 2})


@handler(jobs.Working)
async def working(job: jobs.Working, ctx: Context) -> None:
    own_span()


@handler(jobs.Threaded)
def threaded(job: jobs.Threaded, ctx: SyncContext) -> None:
    own_span()


@handler(jobs.Apart, isolation="process")
def apart(job: jobs.Apart, ctx: SyncContext) -> int:
    own_span()
    return os.getpid()


@handler(jobs.ApartFailing, isolation="process")
async def apart_failing(job: jobs.ApartFailing, ctx: Context) -> None:
    own_span()
    raise ValueError("apart")


@handler(jobs.Snoozing)
async def snoozing(job: jobs.Snoozing, ctx: Context) -> None:
    if ctx.job_id not in _snoozed:
        _snoozed.add(ctx.job_id)
        raise Snooze(0.01)


@handler(jobs.Failing)
async def failing(job: jobs.Failing, ctx: Context) -> None:
    raise ValueError("it failed")


@handler(jobs.Parent)
async def parent(job: jobs.Parent, ctx: Context) -> str:
    async with Client.connect(database_url=os.environ["DATABASE_URL"], redis_url=os.environ["REDIS_URL"]) as client:
        return str((await client.enqueue(jobs.Working())).id)


@handler(jobs.Imported)
async def imported(job: jobs.Imported, ctx: Context) -> list[str]:
    # redis-py imports the SDK's part for metrics by itself, wherever the SDK is installed; that is not ours to say.
    ours = ("carafe.tracing.tracer", "opentelemetry.sdk.trace", "opentelemetry.exporter", "grpc")
    return [name for name in ours if name in sys.modules]
