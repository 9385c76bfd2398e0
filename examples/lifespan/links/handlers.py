"""What workers do for each job, and what these handlers share. Only workers import this module."""

from collections.abc import AsyncIterator, Iterator

import httpx

from carafe import Context, SyncContext, handler, worker_lifespan
from links.jobs import CheckLink, MeasurePage


@worker_lifespan
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """One client for the worker's `async def` handlers: its connections are kept from job to job."""
    async with httpx.AsyncClient(timeout=10) as client:
        yield client


@worker_lifespan
def plain_http() -> Iterator[httpx.Client]:
    """One for plain functions. A child process has its own, made before its job begins."""
    with httpx.Client(timeout=10) as client:
        yield client


@handler(CheckLink)
async def check_link(job: CheckLink, ctx: Context) -> int:
    """Return the status of the answer."""
    answer = await ctx.lifespan(http).get(job.url)
    return answer.status_code


@handler(MeasurePage, isolation="process")
def measure_page(job: MeasurePage, ctx: SyncContext) -> int:
    """Return the length of the page."""
    return len(ctx.lifespan(plain_http).get(job.url).text)
