"""The health checks of a web process. ``GET /health`` says whether the process can accept jobs, ``GET /livez`` only that it
answers.

``/health`` answers:

- 200 *ok*;
- 200 *degraded* while Redis cannot be used (away, a replica, full, a missing right): jobs are still accepted;
- 503 *down* when no job would be accepted: Postgres is away, full or locked, or accepts no writes.

``/health`` needs no token. So its answer describes a fault in a few words only. The server's address and message are in the
log.

A cluster's liveness probe should request ``/livez``, which checks no server: a web process whose Postgres is away must not
be restarted, because it can still answer that Postgres is away.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Literal

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field

from carafe import Client, postgres_away
from carafe.queue import redis_away
from carafe.telemetry.loggers import get_logger

log = get_logger(__name__)

PROBED = frozenset({"/health", "/livez"})
"""The paths that health probes request."""

BOUND = 1.6
"""Seconds that each check may take. The query to Postgres has a time limit of its own, which is a little shorter."""

KEPT = 0.2
"""Seconds for which a result is reused, so that many requests do not mean many checks of Postgres and Redis."""


class Check(BaseModel):
    """The state of one server that the process needs."""

    status: Literal["ok", "down"]
    reason: str | None = Field(None, description="Why, in a few words, when it is down.")


class Checks(BaseModel):
    """The state of each server that the process needs."""

    postgres: Check
    redis: Check


class Health(BaseModel):
    """Whether the process can accept jobs."""

    status: Literal["ok", "degraded", "down"] = Field(
        description="degraded: Redis is unusable, jobs are accepted and start late. down: Postgres is unusable."
    )
    checks: Checks


class HealthCheck:
    """Checks whether a job would be accepted (`carafe.store.acceptance`), and whether the hint that announces it to workers
    could be pushed to Redis.

    Anybody may request ``/health``, so only one check runs at a time, and all requests share its result.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._last: dict[str, str | None] = {}
        self._check: asyncio.Task[Health] | None = None
        self._kept_until = 0.0

    async def __call__(self) -> Health:
        """Returns the result of the check that is running, or of the last one if it ended less than `KEPT` seconds ago.

        Otherwise starts a check and waits for it.
        """
        check = self._check
        if check is None or (check.done() and time.monotonic() >= self._kept_until):
            check = self._check = asyncio.create_task(self._both(), name="health check")
        # A caller that goes away meanwhile must not cancel it for the others.
        return await asyncio.shield(check)

    async def _both(self) -> Health:
        try:
            return await self._ask_both()
        finally:
            self._kept_until = time.monotonic() + KEPT

    async def _ask_both(self) -> Health:
        postgres, redis = await asyncio.gather(
            self._ask("postgres", self._client.acceptance.require, postgres_away.words),
            self._ask("redis", self._pushes, _of_redis),
        )
        status: Literal["ok", "degraded", "down"] = "ok"
        if postgres.status == "down":
            status = "down"
        elif redis.status == "down":
            status = "degraded"
        return Health(status=status, checks=Checks(postgres=postgres, redis=redis))

    async def close(self) -> None:
        """Cancel a check that is running."""
        if self._check is not None:
            self._check.cancel()
            await asyncio.wait([self._check])

    async def _pushes(self) -> None:
        try:
            await self._client.queue.require()
        except Exception:
            await self._client.queue.require()  # an idle connection may have died with a server that is back

    async def _ask(self, name: str, ask: Callable[[], Awaitable[object]], words: Callable[[BaseException], str]) -> Check:
        reason = None
        try:
            async with asyncio.timeout(BOUND):
                await ask()
        except TimeoutError:
            reason = f"no answer within {BOUND:g} s"
        except Exception as error:
            reason = words(error)
            if self._last.get(name) is None:
                log.warning("health check failed", check=name, reason=reason, error=postgres_away.details(error))
        self._last[name] = reason
        return Check(status="down" if reason else "ok", reason=reason)


def _of_redis(error: BaseException) -> str:
    return "cannot be reached" if redis_away.code(error) is None else redis_away.words(error)


def health_router(check: HealthCheck) -> APIRouter:
    """Returns the router with the routes ``/health`` and ``/livez``."""
    router = APIRouter()

    @router.get("/livez", include_in_schema=False)
    async def livez() -> PlainTextResponse:
        return PlainTextResponse("ok\n", headers={"Cache-Control": "no-store"})

    @router.get(
        "/health",
        operation_id="health",
        summary="Whether jobs can be accepted",
        tags=["health"],
        response_model_exclude_none=True,
        responses={503: {"description": "No job would be accepted.", "model": Health}},
    )
    async def health(response: Response) -> Health:
        """Tests Postgres and Redis as an enqueue would use them. `degraded` is answered 200: jobs are still accepted."""
        found = await check()
        response.status_code = 503 if found.status == "down" else 200
        response.headers["Cache-Control"] = "no-store"
        return found

    return router
