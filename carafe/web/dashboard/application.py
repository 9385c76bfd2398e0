"""Puts the dashboard together: one ASGI application, for a port of its own or for a path of another's."""

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
from carafe.database import CONFLICTS, DISCONNECTED, Database
from carafe.errors import Busy, CarafeError, OutcomeUnknown, Unavailable
from carafe.logging import get_logger
from carafe.postgres_away import words
from carafe.settings import require_dashboard_settings
from carafe.web.dashboard import login, streams
from carafe.web.dashboard.access import Access, Authenticate, check_unsafe, viewer_of
from carafe.web.dashboard.dashboard import Dashboard, Page
from carafe.web.dashboard.failed_logins import FailedLogins
from carafe.web.dashboard.headers import SecurityHeaders
from carafe.web.dashboard.pages import audit, bulk, dead, enqueue, job, jobs, overview, workers
from carafe.web.dashboard.pages import help as help_page
from carafe.web.dashboard.passwords import Passwords
from carafe.web.dashboard.refusals import Refused, SignInNeeded
from carafe.web.dashboard.rendering import STATIC, ContentHash, environment, path_of, render
from carafe.web.dashboard.sessions import Keys
from carafe.web.dashboard.snapshots import Snapshots
from carafe.web.dashboard.streams import Streams

if TYPE_CHECKING:
    from carafe.jobs import Client
    from carafe.readmodel.model import ReadModel
    from carafe.settings import Settings
    from carafe.web.dashboard.mounting import AddedPage

log = get_logger(__name__)

STATEMENT_TIMEOUT = 5
"""Seconds that one statement of the dashboard's own pool may take."""

PAGES = (
    (Page("Overview", "/", 10), (overview.router, help_page.router)),
    (Page("Jobs", "/jobs", 20), (jobs.router, job.router)),
    (Page("Dead letters", "/dead", 30), (dead.router,)),
    (Page("Bulk actions", "/bulk", 40), (bulk.router,)),
    (Page("Workers", "/workers", 50), (workers.router,)),
    (Page("Enqueue", "/enqueue", 60), (enqueue.router,)),
    (Page("Audit", "/audit", 70), (audit.router,)),
)
"""The navigation, and the routes behind each entry."""


def create_dashboard(
    settings: "Settings",
    client: "Client",
    *,
    model: "ReadModel | None" = None,
    authenticate: Authenticate | None = None,
    pages: "Iterable[AddedPage]" = (),
    root_path: str = "",
) -> FastAPI:
    """The dashboard as an application; its object is ``app.state.dashboard``. It connects when somebody looks.

    `client` acts, and stays the caller's to close. `model` reads (one of its own on a small read-only pool unless given).
    `authenticate` says who looks in place of the settings; `pages` are an application's own. `root_path`: what a proxy takes
    away from the path of each request (DASHBOARD_ROOT_PATH); one that is mounted learns its path from where it is mounted.
    Raises `SettingsError` for what the settings of a dashboard lack.
    """
    require_dashboard_settings(settings)
    app = _Application(
        taken_away=root_path,
        title="Carafe dashboard",
        version=carafe.__version__,
        lifespan=_lifespan,
        openapi_url=None,
        dependencies=[Depends(check_unsafe)],
        # People who look are no part of a job's trace, and their streams last for hours.
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
    app.include_router(streams.router)
    app.add_api_route("/livez", livez, methods=["GET"])
    app.add_api_route("/static/{version}/{path:path}", static_file, methods=["GET"])
    for page, routers in PAGES:
        dashboard.add(page, *routers)
    for added in pages:
        dashboard.add_page(added.label, added.router, path=added.path, order=added.order, templates=added.templates)
    return app


def reading_pool(settings: "Settings") -> Database:
    """The connections that the pages read with: few, read-only, each statement bounded, so that looking hurts nobody."""
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
            # A plan for any value walks all the dead to find none of an error that there never was.
            "plan_cache_mode": "force_custom_plan",
            # One processor at a time for one page.
            "max_parallel_workers_per_gather": "0",
        },
    )


class _Application(FastAPI):
    """FastAPI whose every answer has the headers: middleware would be inside of what answers unexpected errors.

    `taken_away`: the beginning of each path, which a proxy has removed. It is put back, so that a request looks as if it had
    come to a mounted dashboard.
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
    """That this process answers; for probes of a dashboard that runs alone. Asks nobody."""
    return PlainTextResponse("ok\n")


# Static files.


async def static_file(request: Request, version: str, path: str) -> Response:
    """A file of the dashboard; kept for a year under the URL that names its content, not at all under an older one."""
    # Looked up among what there is: what a path may hold (NUL, 5,000 characters) is the file system's, and no matter here.
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
"""How the loss of Postgres looks where nobody has put it into the library's words; a file that is missing is none."""


BUSY = (asyncpg.LockNotAvailableError, *CONFLICTS)
"""Others are in the way: a migration, say."""


def _answer_errors(app: FastAPI) -> None:
    answers: list[tuple[type[Exception], Callable[..., object]]] = [
        (SignInNeeded, _sign_in),
        (Refused, _refused),
        (CarafeError, _of_the_library),
        *((kind, _away) for kind in (*LOST, *BUSY)),
        (asyncpg.QueryCanceledError, _too_slow),
        (asyncpg.UndefinedTableError, _older_schema),
        (asyncpg.UndefinedColumnError, _older_schema),
        (RequestValidationError, _bad_request),
        (HTTPException, _of_http),
        (Exception, _unexpected),
    ]
    for kind, answer in answers:
        app.add_exception_handler(kind, answer)  # type: ignore[arg-type]


async def _told(request: Request, status: int, title: str, text: str, headers: dict[str, str] | None = None) -> Response:
    """A page that says so; a line of text for a script that asked for a part of a page."""
    answer: Response
    if viewer_of(request) is None:
        # A page that does not exist asks nobody; whoever is signed in still gets the frame of their pages.
        with suppress(Exception):
            request.state.carafe_viewer = await request.app.state.dashboard.access.viewer(request)
    if "x-fragment" in request.headers:
        answer = PlainTextResponse(text, status)
    else:
        try:
            answer = render(request, "error.html", status, status=status, title=title, text=text)
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
    if not isinstance(error, (Busy, *BUSY)):
        request.app.state.dashboard.snapshots.doubt()
    text = "Nothing can be shown and nothing was done; jobs are not lost. It is looked for all the time."
    title = f"Postgres {words(error)}"
    if isinstance(error, (Busy, *BUSY)):
        title, text = (
            "Postgres is busy",
            "Something else was in the way for too long. Nothing was done; try again in a moment.",
        )
    elif request.method != "GET":
        text = "Nothing was done; jobs are not lost. It is looked for all the time."
    if isinstance(error, OutcomeUnknown):
        text = "It was lost while this was being done: look whether it was, before you do it again."
    return await _told(request, 503, title, text, {"Retry-After": "2"})


async def _too_slow(request: Request, error: Exception) -> Response:
    log.warning("dashboard request took too long", path=request.url.path)
    text = f"Postgres did not find this within {STATEMENT_TIMEOUT} s. Narrow the filter, or try again."
    return await _told(request, 503, "This takes too long", text, {"Retry-After": "5"})


async def _older_schema(request: Request, error: Exception) -> Response:
    log.error("dashboard request failed", path=request.url.path, error=str(error))
    text = "The schema is not what this version needs: run `carafe migrate`."
    return await _told(request, 503, "The schema is older", text, {"Retry-After": "5"})


async def _bad_request(request: Request, error: RequestValidationError) -> Response:
    faults = "; ".join(f"{item['loc'][-1]}: {item['msg']}" for item in error.errors()[:10])
    return await _told(request, 422, "This address is not valid", f"{faults[:1_000]}.")


async def _of_http(request: Request, error: HTTPException) -> Response:
    phrase = HTTPStatus(error.status_code).phrase
    text = {
        404: "There is no such page.",
        405: f"{request.method} is not possible here.",
    }.get(error.status_code, str(error.detail))
    return await _told(request, error.status_code, phrase.capitalize(), text, dict(error.headers or {}))


async def _unexpected(request: Request, error: Exception) -> Response:
    # Starlette raises the error again after this answer, and the server logs it with its traceback.
    return await _told(request, 500, "This failed", "An unexpected error; the log says more.")


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
