"""Assembles the dashboard as one ASGI application, to be served on its own port or under a path of another application."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, PlainTextResponse, RedirectResponse
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

import carafe
from carafe.dashboard.dashboard import Dashboard, Page
from carafe.dashboard.dependencies import check_unsafe, viewer_of
from carafe.dashboard.live.snapshots import Snapshots
from carafe.dashboard.live.streams import Streams
from carafe.dashboard.pages import audit, bulk, dead, enqueue, events, job, jobs, kinds, overview, workers
from carafe.dashboard.pages import help as help_page
from carafe.dashboard.security import login
from carafe.dashboard.security.access import Access, Authenticate
from carafe.dashboard.security.failed_logins import FailedLogins
from carafe.dashboard.security.headers import SecurityHeaders
from carafe.dashboard.security.passwords import Passwords
from carafe.dashboard.security.refusals import Refused, SignInNeeded
from carafe.dashboard.security.sessions import Keys
from carafe.dashboard.view.rendering import STATIC, ContentHash, environment, path_of, render
from carafe.errors import Busy, CarafeError, NotMigrated, OutcomeUnknown, Unavailable
from carafe.postgres_away import words
from carafe.settings.settings import require_dashboard_settings
from carafe.store.database import CONFLICTS, DISCONNECTED, OLDER_SCHEMA, Database
from carafe.telemetry.loggers import get_logger

if TYPE_CHECKING:
    from carafe import Client
    from carafe.dashboard.added_pages import AddedPage
    from carafe.readmodel.model import ReadModel
    from carafe.settings.settings import Settings

log = get_logger(__name__)

STATEMENT_TIMEOUT = 5
"""Seconds that one SQL statement of the dashboard's own connection pool may take."""

PAGES = (
    (Page("Overview", "/", 10), (overview.router, help_page.router)),
    (Page("Jobs", "/jobs", 20), (jobs.router, job.router)),
    (Page("Kinds", "/kinds", 25), (kinds.router,)),
    (Page("Dead letters", "/dead", 30), (dead.router,)),
    (Page("Bulk actions", "/bulk", 40), (bulk.router,)),
    (Page("Workers", "/workers", 50), (workers.router,)),
    (Page("Enqueue", "/enqueue", 60), (enqueue.router,)),
    (Page("Audit", "/audit", 70), (audit.router,)),
)
"""The entries of the navigation, each with the routers of its pages."""


def create_dashboard(
    settings: "Settings",
    client: "Client",
    *,
    model: "ReadModel | None" = None,
    authenticate: Authenticate | None = None,
    pages: "Iterable[AddedPage]" = (),
    root_path: str = "",
) -> FastAPI:
    """Returns the dashboard as a FastAPI application. Its `Dashboard` object is ``app.state.dashboard``.

    - `client` carries out what operators do. The caller closes it.
    - `model` reads what pages show. Without it, the dashboard makes one on a small read-only connection pool of its own.
    - `authenticate` decides who the viewer of a request is, instead of the settings.
    - `pages` are pages that an application adds.
    - `root_path` is the prefix that a proxy removes from the path of each request (DASHBOARD_ROOT_PATH). A mounted dashboard
      does not need it.

    Connections are opened at the first request. Raises `SettingsError` when settings are missing.
    """
    require_dashboard_settings(settings)
    app = _Application(
        taken_away=root_path,
        title="Carafe dashboard",
        version=carafe.__version__,
        lifespan=_lifespan,
        openapi_url=None,
        dependencies=[Depends(check_unsafe)],
        # Viewers' requests are not part of a job's trace, and their streams last for hours.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        redirect_slashes=False,
    )
    reading = None
    if model is None:
        from carafe.readmodel.model import ReadModel

        reading = reading_pool(settings)
        model = ReadModel(reading, client.queue, acceptance=client.acceptance, max_replicas=settings.worker_max_replicas)
    snapshots = Snapshots(model)
    development = settings.environment == "development"
    dashboard = Dashboard(
        settings=settings,
        client=client,
        model=model,
        access=Access(settings, authenticate),
        keys=Keys([key.get_secret_value() for key in settings.dashboard_secret_keys]),
        passwords=Passwords(settings.dashboard_users),
        failed_logins=FailedLogins(client.database),
        snapshots=snapshots,
        streams=Streams(model, snapshots, settings.dashboard_streams),
        templates=environment([], reload=development),
        application=app,
        reading=reading,
        static_version=ContentHash(STATIC, change=development),
    )
    app.state.dashboard = dashboard
    _answer_errors(app)
    app.include_router(login.router)
    app.include_router(events.router)
    app.add_api_route("/livez", livez, methods=["GET"])
    app.add_api_route("/static/{version}/{path:path}", static_file, methods=["GET"])
    for page, routers in PAGES:
        dashboard.add(page, *routers)
    for added in pages:
        dashboard.add_page(added.label, added.router, path=added.path, order=added.order, templates=added.templates)
    return app


def reading_pool(settings: "Settings") -> Database:
    """Returns the connection pool with which pages read. So that the dashboard cannot slow down jobs, it has few
    connections, they are read-only, and each statement has a time limit."""
    assert settings.database_url is not None
    return Database(
        settings.database_url.get_secret_value(),
        pool_size=settings.dashboard_pool_size,
        name="carafe dashboard",
        command_timeout=STATEMENT_TIMEOUT + 1,
        read_only=True,
        server_settings={
            "statement_timeout": f"{STATEMENT_TIMEOUT}s",
            "lock_timeout": "1s",
            # A generic plan would scan all dead jobs for an error that never occurred.
            "plan_cache_mode": "force_custom_plan",
            # One page uses one processor at a time.
            "max_parallel_workers_per_gather": "0",
        },
    )


class _Application(FastAPI):
    """A FastAPI application that puts `SecurityHeaders` on every answer. Middleware would miss answers to unexpected errors.

    `taken_away` is the prefix that a proxy removes from the path of each request. It is put back, so that requests look like
    those of a mounted dashboard.
    """

    def __init__(self, *, taken_away: str, **options: Any) -> None:
        super().__init__(**options)
        self._taken_away = taken_away

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._taken_away and scope["type"] == "http":
            path = self._taken_away + scope["path"]
            scope = {**scope, "root_path": self._taken_away + scope.get("root_path", ""), "path": path}
        await SecurityHeaders(super().__call__)(scope, receive, send)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await app.state.dashboard.close()


async def livez() -> Response:
    """The liveness probe of a dashboard that runs alone. Says only that this process answers; checks no server."""
    return PlainTextResponse("ok\n")


# Static files.


async def static_file(request: Request, version: str, path: str) -> Response:
    """Serve a static file of the dashboard. A browser may cache it for a year if the URL has the current version, else not
    at all."""
    # Looked up among existing files, so that odd paths (NUL, 5,000 characters) never reach the file system.
    file = _static_files().get(path)
    if file is None:
        raise HTTPException(404)
    current = version == request.app.state.dashboard.static_version()
    return FileResponse(file, headers={"Cache-Control": "public, max-age=31536000, immutable" if current else "no-store"})


def _static_files() -> dict[str, Path]:
    return {file.relative_to(STATIC).as_posix(): file for file in STATIC.rglob("*") if file.is_file()}


# Errors, as pages.


LOST: list[type[Exception]] = [
    ConnectionError,
    *(kind for kind in DISCONNECTED if issubclass(kind, Exception) and kind is not OSError),
]
"""Exceptions that mean that the connection to Postgres was lost, in case a route raises one of them instead of
`Unavailable`. OSError itself is left out, since a missing file raises it too."""


BUSY = (asyncpg.LockNotAvailableError, *CONFLICTS)
"""Exceptions that mean that another transaction, such as a migration, holds a lock or has changed the same rows."""


def _answer_errors(app: FastAPI) -> None:
    answers: list[tuple[type[Exception], Callable[..., object]]] = [
        (SignInNeeded, _sign_in),
        (Refused, _refused),
        (CarafeError, _of_the_library),
        *((kind, _away) for kind in (*LOST, *BUSY)),
        (asyncpg.QueryCanceledError, _too_slow),
        *((kind, _older_schema) for kind in OLDER_SCHEMA),
        (NotMigrated, _older_schema),
        (RequestValidationError, _bad_request),
        (HTTPException, _of_http),
        (Exception, _unexpected),
    ]
    for kind, answer in answers:
        app.add_exception_handler(kind, answer)  # type: ignore[arg-type]


async def _told(
    request: Request, status: int, title: str, text: str, headers: dict[str, str] | None = None, *, tells: str = ""
) -> Response:
    """Returns the answer that shows an error: a page or, if a script asked for a fragment of a page, a line of text.
    `tells`: the trouble that the page itself is about, so that no banner repeats it (``postgres``)."""
    answer: Response
    if viewer_of(request) is None:
        # A missing page needs no sign-in; signed-in users still get the navigation.
        with suppress(Exception):
            request.state.carafe_viewer = await request.app.state.dashboard.access.viewer(request)
    if "x-fragment" in request.headers:
        answer = PlainTextResponse(text, status)
    else:
        try:
            answer = render(request, "error.html", status, status=status, title=title, text=text, tells=tells)
        except Exception:
            log.exception("the error page failed")
            answer = PlainTextResponse(f"{title}. {text}", status)
    answer.headers.update(headers or {})
    return answer


async def _sign_in(request: Request, error: SignInNeeded) -> Response:
    if request.method == "GET" and "x-fragment" not in request.headers and path_of(request) != "/events":
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(login.sign_in_at(request, path_of(request) + query), 303)
    return await _told(request, error.status, error.title, error.text)


async def _refused(request: Request, error: Refused) -> Response:
    return await _told(request, error.status, error.title, error.text, error.headers)


async def _of_the_library(request: Request, error: CarafeError) -> Response:
    if isinstance(error, Unavailable):
        return await _away(request, error)
    if error.status >= 500:
        log.error("dashboard request failed", path=request.url.path, code=error.code, error=str(error))
        return await _told(request, error.status, "This failed", "Nothing was changed; the log says more.")
    return await _told(request, error.status, error.code.replace("-", " ").capitalize(), _sentence(error))


async def _away(request: Request, error: Exception) -> Response:
    if isinstance(error.__cause__, asyncpg.QueryCanceledError):
        return await _too_slow(request, error)
    snapshots = request.app.state.dashboard.snapshots
    if not isinstance(error, (Busy, *BUSY)):
        snapshots.mark_stale()
    text = snapshots.trouble()["postgres"] or "Nothing can be shown and nothing was done; no job is lost."
    text += " Carafe keeps trying to reconnect."
    title = f"Postgres {words(error)}"
    if isinstance(error, (Busy, *BUSY)):
        title, text = (
            "Postgres is busy",
            "Another transaction held a lock for too long. Nothing was done; try again in a moment.",
        )
    elif request.method != "GET":
        text = "Nothing was done; no job is lost. Carafe keeps trying to reconnect."
    if isinstance(error, OutcomeUnknown):
        text = "The connection was lost during this action: check whether it took effect before you repeat it."
    return await _told(request, 503, title, text, {"Retry-After": "2"}, tells="postgres")


async def _too_slow(request: Request, error: Exception) -> Response:
    log.warning("dashboard request took too long", path=request.url.path)
    text = f"Postgres did not answer this query within {STATEMENT_TIMEOUT} s. Narrow the filter, or try again."
    return await _told(request, 503, "This takes too long", text, {"Retry-After": "5"})


async def _older_schema(request: Request, error: Exception) -> Response:
    log.error("dashboard request failed", path=request.url.path, error=str(error))
    return await _told(request, 503, "The schema is older", f"The database {words(error)}.", {"Retry-After": "5"})


async def _bad_request(request: Request, error: RequestValidationError) -> Response:
    faults = "; ".join(f"{item['loc'][-1]}: {item['msg']}" for item in error.errors()[:10])
    return await _told(request, 422, "This URL is not valid", f"{faults[:1_000]}.")


async def _of_http(request: Request, error: HTTPException) -> Response:
    phrase = HTTPStatus(error.status_code).phrase
    text = {
        404: "This page does not exist.",
        405: f"{request.method} is not possible here.",
    }.get(error.status_code, str(error.detail))
    return await _told(request, error.status_code, phrase.capitalize(), text, dict(error.headers or {}))


async def _unexpected(request: Request, error: Exception) -> Response:
    # Starlette raises the error again after this answer, and the server logs it with its traceback.
    return await _told(request, 500, "This failed", "An unexpected error; the log says more.")


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
