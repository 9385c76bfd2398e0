"""``GET /health`` of a web process: whether it can accept jobs, and what it stands on. ``GET /livez``: that it answers.

200 *ok*; 200 *degraded* while Redis cannot be used (away, a replica, full, a right is missing), since accepting goes on; 503
*down* when no job would be accepted: Postgres is away, full, locked, or may not be written. Needs no token, so it says no
more than a few words about what is wrong, never an address or a message of a server (the log has those).

Probes of a cluster belong on ``/livez``, which asks nobody: a web process whose Postgres is away must stay there to say so.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Literal

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field

from carafe import postgres_away
from carafe.jobs import Client, redis_away
from carafe.logging import get_logger

log = get_logger(__name__)

PROBED = frozenset({"/health", "/livez"})
"""The paths that probes ask."""

BOUND = 1.6
"""Seconds that each check may take; what Postgres is asked has a bound of its own, a little before."""

KEPT = 0.2
"""Seconds that an answer is kept: however often it is asked, no more is asked of Postgres and Redis."""


class Check(BaseModel):
    """One thing that the process stands on."""

    status: Literal["ok", "down"]
    reason: str | None = Field(None, description="In a few words, when it is down.")


class Checks(BaseModel):
    """Everything that the process stands on."""

    postgres: Check
    redis: Check


class Health(BaseModel):
    """Whether the process can accept jobs."""

    status: Literal["ok", "degraded", "down"] = Field(
        description="degraded: Redis cannot be used, jobs are accepted and start late. down: Postgres is, none are accepted."
    )
    checks: Checks


class HealthCheck:
    """Tries whether a job would be accepted (`carafe.jobs.acceptance`), and whether its hint would be pushed.

    One check at a time, whose answer is for all who ask meanwhile: anybody may ask.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._last: dict[str, str | None] = {}
        self._check: asyncio.Task[Health] | None = None
        self._kept_until = 0.0

    async def __call__(self) -> Health:
        """What a check finds that runs now, or has ended within `KEPT`."""
        check = self._check
        if check is None or (check.done() and time.monotonic() >= self._kept_until):
            check = self._check = asyncio.create_task(self._both(), name="health check")
        # Whoever goes away meanwhile does not take it from the others.
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
        """End a check that is under way."""
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
    """The router with ``/health`` and ``/livez``."""
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
        """Tries both, as an enqueue would. `degraded` is still 200: accepting goes on while Redis cannot be used."""
        found = await check()
        response.status_code = 503 if found.status == "down" else 200
        response.headers["Cache-Control"] = "no-store"
        return found

    return router
