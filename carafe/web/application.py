"""Adds the job API, problem+json errors and health checks to a FastAPI application.

An existing application adds jobs as below. Run it with uvicorn as before, or name it in the setting WEB_APPLICATION and run
it with ``carafe serve``:

    settings = load_settings()
    load_jobs(settings.job_modules)
    client = Client.from_settings(settings)

    app = FastAPI(lifespan=carafe_lifespan(client, settings))
    mount_jobs_api(app, client, settings)

    @app.post("/orders", status_code=202)
    async def order(client: ClientOf) -> ...:
        async with transaction(client) as session:                       # the order's row and its job, one commit
            session.add(row)
            await client.enqueue(Ship(order_id=row.id), session=session)

If the application already has a lifespan, pass that as ``carafe_lifespan(…, inner=…)``.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

from fastapi import APIRouter, FastAPI

import carafe
from carafe import Client, tracing
from carafe.settings.settings import Settings, require_api_settings
from carafe.web import bulk, jobs, operators
from carafe.web.documentation import serve_documentation
from carafe.web.headers import ApiHeaders
from carafe.web.health import PROBED, HealthCheck, health_router
from carafe.web.installation import install
from carafe.web.lifespans import around
from carafe.web.openapi import complete_document
from carafe.web.problems import install_problem_handlers

if TYPE_CHECKING:
    from fastapi.telemetry import TelemetryConfig

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[Any]]

TELEMETRY: "TelemetryConfig" = {
    # FastAPI's own spans of requests, once `carafe.tracing` or the application has set up OpenTelemetry; metrics are ours.
    "tracing": True,
    "operation_spans": False,
    "metrics": False,
    "logs": False,
    "auto_configure": False,
    "exclude": lambda scope: scope.get("path") in PROBED,
}
"""The value for FastAPI's parameter `telemetry`. With it, an application's requests are traced, except those of health
probes."""


def create_web_application(
    settings: Settings,
    *,
    client: Client | None = None,
    routers: Iterable[APIRouter] = (),
    title: str = "Carafe",
    prefix: str = "/api/v1",
) -> FastAPI:
    """Returns a whole application: the job API under `prefix`, ``/health``, ``/docs``, and the application's own `routers`.

    Without `client`, a client is made from the settings. The client is closed when the application ends.
    """
    client = client or Client.from_settings(settings)
    app = FastAPI(
        title=title,
        version=carafe.__version__,
        lifespan=carafe_lifespan(client, settings),
        telemetry=TELEMETRY,
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(ApiHeaders, prefixes=("/",))
    serve_documentation(app)
    mount_jobs_api(app, client, settings, prefix=prefix)
    for router in routers:
        app.include_router(router)
    return app


def mount_jobs_api(
    app: FastAPI, client: Client, settings: Settings, *, prefix: str = "/api/v1", problems: bool = True
) -> None:
    """Add the job API under `prefix`, and ``/health``.

    If `problems` is true, every error of `app` is answered as problem+json. If it is false, call `install_problem_handlers`
    yourself, or let your own exception handlers answer `CarafeError` and `ProblemError`.

    In production, `app` does not start without API_TOKENS. The check is made when `app` starts, not in this function: a
    process that loads the application for its dashboard alone needs no API tokens.
    """
    tracing.require(settings)
    install(app, client, settings)
    if problems:
        install_problem_handlers(app)
    if not any(cast(object, middleware.cls) is ApiHeaders for middleware in app.user_middleware):
        app.add_middleware(ApiHeaders, prefixes=(f"{prefix}/", "/health", "/livez"))
    for router, tag in ((jobs.router, "jobs"), (bulk.router, "bulk actions"), (operators.router, "operators")):
        app.include_router(router, prefix=prefix, tags=[tag])
    check = HealthCheck(client)
    app.state.carafe_health = check
    app.include_router(health_router(check))
    around(app, _asking_for_tokens(settings))
    complete_document(app, open_api=not settings.api_tokens)


def _asking_for_tokens(settings: Settings) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def served(_: Any) -> AsyncIterator[None]:
        require_api_settings(settings)
        yield

    return served


def carafe_lifespan(client: Client, settings: Settings, inner: Lifespan | None = None) -> Lifespan:
    """Returns a FastAPI lifespan for an application that uses Carafe.

    While the application runs, the lifespan runs the steward's upkeep (if the setting STEWARD is on) and records traces (as
    TRACING_SAMPLE_RATIO says). When the application ends, the lifespan closes `client`. `inner` is the application's own
    lifespan, which runs inside this one.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Any]:
        from carafe.steward.hosted import hosted

        tracing.start(settings, "carafe-web", carafe.__version__)
        try:
            async with hosted(settings, client.database, client.queue, "web", client.acceptance):
                if inner is None:
                    yield None
                else:
                    async with inner(app) as state:
                        yield state
        finally:
            check = getattr(app.state, "carafe_health", None)
            if check is not None:
                await check.close()
            await client.close()
            await asyncio.to_thread(tracing.stop)

    return lifespan
