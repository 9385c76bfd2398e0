"""Reads the body of a request, JSON in UTF-8, into a pydantic model. A body over its size limit is refused while it arrives.

FastAPI itself would read a body before it runs any dependency. Here a dependency reads the body, after the one that checks
the caller, so that an unauthenticated caller cannot make the process hold megabytes. Only a few large bodies are read and
validated at once, in threads (`carafe.web.large_bodies`). The jobs of a bulk are counted before any of them is validated
(`carafe.web.bulk_bodies`).
"""

import math
import re
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from carafe.jobs.errors import faults_of
from carafe.settings.settings import Settings
from carafe.web.installation import get_bodies, get_settings
from carafe.web.large_bodies import RETRY_AFTER, Place, TooBusy, TooLarge
from carafe.web.problems import ProblemError, invalid_request

M = TypeVar("M", bound=BaseModel)

OVERHEAD = 16_384
"""Bytes that a body may have in addition to a job's arguments."""

BULK_AVERAGE = 4_096
"""Bytes that a job of a full bulk (BULK_LIMIT jobs) may have on average."""

Limit = Callable[[Settings], int]


def one_job(settings: Settings) -> int:
    """Returns the maximum number of bytes of a body with one job.

    This is twice the limit of the stored arguments, because JSON with escapes and spaces takes more bytes than its stored
    form, plus `OVERHEAD` for everything else.
    """
    return 2 * settings.job_args_limit + OVERHEAD


def many_jobs(settings: Settings) -> int:
    """Returns the maximum number of bytes of a body with a bulk: `BULK_AVERAGE` for each of BULK_LIMIT jobs, plus the limit
    of one job."""
    return one_job(settings) + BULK_AVERAGE * settings.bulk_limit


def small(settings: Settings) -> int:
    """Returns the maximum number of bytes of a body without a job's arguments."""
    return OVERHEAD


def reads(model: type[M], limit: Limit = small) -> Callable[[Request], AsyncIterator[M]]:
    """Returns a dependency that reads the body as `model`. A route declares this dependency after the one that checks the
    caller.

    The dependency raises ProblemError: 413 for a body over `limit`, 415 for a content type other than JSON, 400 for a body
    that is not JSON, 422 for JSON that does not fit the model, 503 when too many large bodies arrive at once.
    """
    return reading(lambda body, settings: _as_model(body, model), limit)


def reading(parse: Callable[[bytes, Settings], M], limit: Limit) -> Callable[[Request], AsyncIterator[M]]:
    """Returns a dependency that reads the body and gives the route what `parse` returns for it.

    For a large body `parse` runs in a thread, so it may be slow. It must not hold Python's lock (the GIL) for long.
    """

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
    # In a function of its own, so that the bytes are freed while the request continues.
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
    """Raises ProblemError 400 if a number of the parsed body is not finite. The function `values` returns what was parsed
    from `body`."""
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
    """Returns the error for a body that is empty, not UTF-8 or not JSON; `fault` is the JSON parser's message."""
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
"""Bytes of a body that one search covers, and the number of these bytes that the next search covers again. A single search
of the whole body would hold Python's lock (the GIL) for long."""


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
