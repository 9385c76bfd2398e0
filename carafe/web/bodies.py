"""Reading a request's body: bounded while it arrives, JSON in UTF-8, straight into a pydantic model.

FastAPI reads a body before it runs a dependency; here it is read by one, so that nobody unknown can make the process
hold megabytes. A large one is read and validated few at a time, in a thread (`carafe.web.large_bodies`); a bulk's jobs are
counted before any is validated (`carafe.web.bulk_bodies`).
"""

import math
import re
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from carafe.jobs.errors import faults_of
from carafe.settings import Settings
from carafe.web.installation import get_bodies, get_settings
from carafe.web.large_bodies import RETRY_AFTER, Place, TooBusy, TooLarge
from carafe.web.problems import ProblemError, invalid_request

M = TypeVar("M", bound=BaseModel)

OVERHEAD = 16_384
"""Bytes of a body beside a job's arguments."""

BULK_AVERAGE = 4_096
"""Bytes that each job of a full bulk may have on average."""

Limit = Callable[[Settings], int]


def one_job(settings: Settings) -> int:
    """Bytes of a body with one job: its arguments in any JSON spelling (escapes, spaces), and the rest."""
    return 2 * settings.job_args_limit + OVERHEAD


def many_jobs(settings: Settings) -> int:
    """Bytes of a bulk: `BULK_AVERAGE` a job."""
    return one_job(settings) + BULK_AVERAGE * settings.bulk_limit


def small(settings: Settings) -> int:
    """Bytes of a body without a job's arguments."""
    return OVERHEAD


def reads(model: type[M], limit: Limit = small) -> Callable[[Request], AsyncIterator[M]]:
    """A dependency that reads the body as `model`. Put it after the one that admits the caller.

    Raises ProblemError: 413 over `limit`, 415 for another content type, 400 for what is not JSON, 422 for what does not
    fit the model, 503 when too many large bodies come at once.
    """
    return reading(lambda body, settings: _as_model(body, model), limit)


def reading(parse: Callable[[bytes, Settings], M], limit: Limit) -> Callable[[Request], AsyncIterator[M]]:
    """A dependency that gives what `parse` makes of the body; a large one in a thread, so `parse` may take its time but
    holds no lock of Python's for long."""

    async def read(request: Request) -> AsyncIterator[M]:
        _check_type(request.headers.get("content-type"))
        settings = get_settings(request)
        async with get_bodies(request).place() as place:
            try:
                found = await _read(request, place, limit(settings), lambda body: parse(body, settings))
            except TooBusy as error:
                raise ProblemError(503, "too-busy", str(error), headers={"Retry-After": str(RETRY_AFTER)}) from None
            yield found

    return read


async def _read(request: Request, place: Place, limit: int, parse: Callable[[bytes], M]) -> M:
    # In a function of its own, so that the bytes are gone while the request goes on.
    try:
        body = await place.read(request, limit)
    except TooLarge:
        said = f"the body is over {limit:,} bytes; send less at once (JOB_ARGS_LIMIT and BULK_LIMIT give the bound)"
        raise ProblemError(413, "payload-too-large", said) from None
    return await place.work(len(body), lambda: parse(body))


def _as_model(body: bytes, model: type[M]) -> M:
    try:
        found = model.model_validate_json(body)
    except ValidationError as error:
        if error.error_count() == 1:  # what is not JSON is no more than that
            fault = error.errors(include_url=False, include_input=False)[0]
            if fault["type"] == "json_invalid":
                raise malformed(body, fault["msg"]) from None
        raise invalid_request(faults_of(error)) from None
    check_numbers(body, found.model_dump)
    return found


def check_numbers(body: bytes, values: Callable[[], Any]) -> None:
    """Raises ProblemError 400 if `values`, as `body` gives them, hold a number that is not finite."""
    if _suspicious(body) and not _finite(values()):
        raise ProblemError(400, "malformed-body", "the body is not JSON: a number is not finite, or beyond a double's range")


def _check_type(content_type: str | None) -> None:
    essence = (content_type or "").partition(";")[0].strip().lower()
    # Also what keeps other sites' pages out of an open API: a browser asks before it sends this type across sites.
    if essence != "application/json" and not (essence.startswith("application/") and essence.endswith("+json")):
        raise ProblemError(
            415,
            "unsupported-media-type",
            "send the body with the header Content-Type: application/json",
            headers={"Accept": "application/json"},
        )


def malformed(body: bytes, fault: str) -> ProblemError:
    """The body is not JSON, by the parser's `fault`."""
    said = f"the body is not JSON: {fault}"
    if not body.strip():
        said = "the body is empty; send a JSON object"
    else:
        try:
            body.decode()
        except UnicodeDecodeError as error:
            said = f"the body is not UTF-8 (byte {error.start})"
    return ProblemError(400, "malformed-body", said)


# NaN, Infinity, and numbers that may be beyond a double: looked for in the bytes, since walking each bulk is slow.
_SUSPICIOUS = re.compile(rb"NaN|Infinity|[eE]\+?[0-9]{3}|[0-9]{309}")


_WINDOW, _OVERLAP = 65_536, 320
"""Bytes that are searched at once, since a search holds Python's lock, and by how many two searches overlap."""


def _suspicious(body: bytes) -> bool:
    return any(
        _SUSPICIOUS.search(body, start, start + _WINDOW + _OVERLAP) is not None for start in range(0, len(body), _WINDOW)
    )


def _finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    return all(map(_finite, value)) if isinstance(value, list) else True
