"""``GET /health`` of a web process: whether it can accept jobs, and what it stands on. ``GET /livez``: that it answers.

200 *ok*; 200 *degraded* while Redis cannot be used (away, a replica, full, a right is missing), since accepting goes on; 503
*down* when Postgres is away or may not be written. Needs no token, so it says no more than a few words about what is wrong,
never an address or a message of a server (the log has those).

Probes of a cluster belong on ``/livez``, which asks nobody: a web process whose Postgres is away must stay there to say so.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Literal

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field

from carafe.database import Database, read_only
from carafe.jobs import Client, redis_away
from carafe.logging import get_logger
from carafe.settings import Settings

log = get_logger(__name__)

PROBED = frozenset({"/health", "/livez"})
"""The paths that probes ask."""

BOUND = 1.5
"""Seconds that each check may take."""

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
    """Asks Postgres on a connection of its own, so that a busy pool is not taken for a dead server.

    One check at a time, whose answer is for all who ask meanwhile: anybody may ask.
    """

    def __init__(self, client: Client, settings: Settings) -> None:
        self._queue = client.queue
        self._database = client.database
        if settings.database_url is not None:
            url = settings.database_url.get_secret_value()
            self._database = Database(url, pool_size=1, name="carafe health", command_timeout=BOUND)
        self._owned = self._database is not client.database
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
            self._ask("postgres", self._database.writable), self._ask("redis", self._queue.require)
        )
        status: Literal["ok", "degraded", "down"] = "ok"
        if postgres.status == "down":
            status = "down"
        elif redis.status == "down":
            status = "degraded"
        return Health(status=status, checks=Checks(postgres=postgres, redis=redis))

    async def close(self) -> None:
        """Close the connection."""
        if self._check is not None:
            self._check.cancel()
            await asyncio.wait([self._check])
        if self._owned:
            await self._database.close()

    async def _ask(self, name: str, ask: Callable[[], Awaitable[object]]) -> Check:
        reason = None
        try:
            async with asyncio.timeout(BOUND):
                try:
                    await ask()
                except Exception:
                    await ask()  # an idle connection may have died with a server that is back
        except TimeoutError:
            reason = f"no answer within {BOUND:g} s"
        except Exception as error:
            if read_only(error):
                reason = "may not be written: a standby, or read-only"
            else:
                reason = "cannot be reached" if redis_away.code(error) is None else redis_away.words(error)
            if self._last.get(name) is None:
                log.warning("health check failed", check=name, error=f"{type(error).__name__}: {error}")
        self._last[name] = reason
        return Check(status="down" if reason else "ok", reason=reason)


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
        responses={503: {"description": "Postgres is down.", "model": Health}},
    )
    async def health(response: Response) -> Health:
        """Checks Postgres and Redis. `degraded` is still 200: accepting goes on while Redis cannot be used."""
        found = await check()
        response.status_code = 503 if found.status == "down" else 200
        response.headers["Cache-Control"] = "no-store"
        return found

    return router
