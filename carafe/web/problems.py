"""Errors over HTTP. Every error is answered as an RFC 9457 problem (application/problem+json), whichever code raised it.

Guarantees: a problem's `type` ends in the error's code, which is the same in Python and on the command line. Each fault of
an input is listed with its path.
Must never: repeat an input's value (it may be secret), or show internals of an unexpected failure (the log has them).
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from carafe.jobs.errors import (
    MAX_FAULTS,
    SHOWN_FAULTS,
    BulkInvalid,
    CarafeError,
    Fault,
    InvalidArguments,
    InvalidFilter,
    InvalidOption,
    Unavailable,
    listed,
    short,
)
from carafe.postgres_away import details
from carafe.telemetry.loggers import get_logger
from carafe.web.headers import HEADERS

log = get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
TYPES = "/problems/"

EACH = 10.0
"""Seconds between two log lines that give the same reason for refusing requests."""


class ProblemFault(BaseModel):
    """One thing that is wrong with the request."""

    path: str = Field(description="The faulty field, such as `args.items.0.name`; empty for the body as a whole.")
    message: str
    type: str = Field(description="The kind of fault, for programs.")
    index: int | None = Field(None, description="In a bulk, the position of the faulty job, from 0.")


class Problem(BaseModel):
    """An error (RFC 9457)."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "/problems/invalid-arguments",
                    "title": "Invalid arguments",
                    "status": 422,
                    "detail": "arguments of 'image.resize' are not valid: width: Field required",
                    "faults": [{"path": "args.width", "message": "Field required", "type": "missing"}],
                    "fault_count": 1,
                }
            ]
        },
    )

    type: str = Field(description="What went wrong, for programs: a URI reference that ends in the error's code.")
    title: str
    status: int
    detail: str = Field(description="What went wrong, and what to do about it.")
    faults: list[ProblemFault] | None = Field(None, description="What is wrong with the request, up to 1,000 entries.")
    fault_count: int | None = None


class ProblemError(Exception):
    """An error that the HTTP layer finds itself; the library's errors are `CarafeError`. It is answered as a problem.

    `code` is the end of the problem's `type`. `headers` are added to the answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        faults: Iterable[tuple[int | None, Fault]] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.headers = dict(headers or {})
        self.faults = None if faults is None else list(faults)


class Malformed(CarafeError):
    """The form of one job of a bulk is not valid. The faults' paths begin with the job's place (``jobs.3.kind``)."""

    code = "invalid-request"
    status = 422

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__(listed([f"{short(fault.path)}: {fault.message}" for fault in faults[:SHOWN_FAULTS]], len(faults)))


def install_problem_handlers(app: FastAPI) -> None:
    """Answer every error of `app` as a problem: errors of the library, invalid requests, 404, 405, unexpected exceptions."""
    for kind, answer in (
        (ProblemError, _found_here),
        (CarafeError, _of_the_library),
        (RequestValidationError, _bad_request),
        (HTTPException, _of_http),
        (ClientDisconnect, _nobody_listens),
        (Exception, _unexpected),
    ):
        app.add_exception_handler(kind, answer)


def problem_response(problem: ProblemError) -> Response:
    """Returns the HTTP answer for a problem."""
    content: dict[str, Any] = {
        "type": TYPES + problem.code,
        "title": problem.code.replace("-", " ").capitalize(),
        "status": problem.status,
        "detail": problem.detail,
    }
    if problem.faults is not None:
        content["faults"] = [_fault(index, fault) for index, fault in problem.faults[:MAX_FAULTS]]
        content["fault_count"] = sum(fault.count for _, fault in problem.faults)
    return Response(orjson.dumps(content), problem.status, HEADERS | problem.headers, MEDIA_TYPE)


def as_problem(error: CarafeError) -> ProblemError:
    """Returns the problem for an error of the library."""
    headers: dict[str, str] = {}
    detail = str(error)
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(error.retry_after)
    elif error.status >= 500:
        detail = "an error of the application; nothing was changed, and the log says more"
    return ProblemError(error.status, error.code, detail, headers=headers, faults=faults_in(error))


def faults_in(error: CarafeError, prefix: str = "") -> list[tuple[int | None, Fault]] | None:
    """Returns the faults of an error, each with the index of its job if the error is about a bulk; None when the error lists
    no faults.

    `prefix` is put before the path of each fault.
    """
    match error:
        case BulkInvalid():
            found: list[tuple[int | None, Fault]] = []
            for index, inner in error.errors:
                place = f"jobs.{index}"
                inside = faults_in(inner, f"{place}.") or [(None, Fault(place, str(inner), inner.code))]
                found += [(index, fault) for _, fault in inside]
            if error.count > len(error.errors):
                more = error.count - len(error.errors)
                found.append((None, Fault("jobs", f"and of {more:,} more jobs", "too_many_faults", more)))
            return found
        case InvalidArguments():
            return [(None, Fault(f"{prefix}args.{f.path}".rstrip("."), f.message, f.type)) for f in error.faults]
        case Malformed():
            return [(None, fault) for fault in error.faults]
        case InvalidFilter():
            return [(None, Fault(prefix + one.option, one.message, one.code)) for one in error.faults]
        case InvalidOption():
            return [(None, Fault(prefix + error.option, error.message, error.code))]
    return None


def invalid_request(faults: Iterable[Fault]) -> ProblemError:
    """Returns the problem 422 for a request with these faults. A path such as ``jobs.3.kind`` also gives the job's index."""
    found: list[tuple[int | None, Fault]] = []
    for fault in faults:
        parts = fault.path.split(".", 2)
        bulk = parts[0] == "jobs" and len(parts) > 1 and parts[1].isdecimal()
        found.append((int(parts[1]) if bulk else None, fault))
    texts = [f"{short(fault.path)}: {fault.message}".removeprefix(": ") for _, fault in found[:10]]
    count = sum(fault.count for _, fault in found)
    return ProblemError(422, "invalid-request", f"the request is not valid: {listed(texts, count)}", faults=found)


def _fault(index: int | None, fault: Fault) -> dict[str, Any]:
    shown: dict[str, Any] = {"path": short(fault.path), "message": fault.message, "type": fault.type}
    if index is not None:
        shown["index"] = index
    return shown


class _Refusals:
    """Logs why requests are refused: each reason at most once in `EACH` seconds, however many requests are refused."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def __call__(self, error: Unavailable) -> None:
        reason, now = str(error), time.monotonic()
        if now < self._said.get(reason, 0.0):
            return
        self._said[reason] = now + EACH  # there are a handful of reasons
        log.warning("requests are refused", why=reason, error=None if error.cause is None else details(error))


_TOLD = _Refusals()


# The handlers. FastAPI calls each with the class of error that it was added for.


async def _found_here(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return problem_response(error)


async def _of_the_library(request: Request, error: Exception) -> Response:
    assert isinstance(error, CarafeError)
    if isinstance(error, Unavailable):
        _TOLD(error)
    elif error.status >= 500:
        log.error("request failed", method=request.method, path=request.url.path, code=error.code, error=str(error))
    return problem_response(as_problem(error))


async def _bad_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return problem_response(
        invalid_request(Fault(".".join(map(str, item["loc"])), item["msg"], item["type"]) for item in error.errors())
    )


async def _of_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    try:
        phrase = HTTPStatus(error.status_code).phrase
    except ValueError:
        phrase = "error"
    details = {
        404: f"nothing is served at {request.method} {short(request.url.path)}",
        405: f"{request.method} is not possible here",
    }
    detail = str(error.detail) if error.detail and error.detail != phrase else details.get(error.status_code, phrase)
    code = phrase.lower().replace(" ", "-")
    return problem_response(ProblemError(error.status_code, code, detail, headers=error.headers))


async def _nobody_listens(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # never arrives: the caller went away while sending the body


async def _unexpected(request: Request, error: Exception) -> Response:
    # Starlette raises the error again after this answer, and the server logs it with its traceback.
    detail = "an unexpected error; the log says more"
    return problem_response(ProblemError(500, "internal-error", detail))
