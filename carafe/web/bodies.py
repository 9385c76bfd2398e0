"""Reading a request's body: bounded while it arrives, JSON in UTF-8, straight into a pydantic model.

FastAPI reads a body before it runs a dependency; here it is read by one, so that nobody unknown can make the process
hold megabytes, and a bulk is validated from its bytes in one pass.
"""

import math
import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from carafe.jobs.errors import faults_of
from carafe.settings import Settings
from carafe.web.installation import get_settings
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


def reads(model: type[M], limit: Limit = small) -> Callable[[Request], Awaitable[M]]:
    """A dependency that reads the body as `model`. Put it after the one that admits the caller.

    Raises ProblemError: 413 over `limit`, 415 for another content type, 400 for what is not JSON, 422 for what does not
    fit the model.
    """

    async def read(request: Request) -> M:
        _check_type(request.headers.get("content-type"))
        body = await _bounded(request, limit(get_settings(request)))
        try:
            found = model.model_validate_json(body)
        except ValidationError as error:
            if any(item["type"] == "json_invalid" for item in error.errors(include_url=False, include_input=False)):
                raise ProblemError(400, "malformed-body", _malformed(body, error)) from None
            raise invalid_request(faults_of(error)) from None
        if _SUSPICIOUS.search(body) and not _finite(found.model_dump()):
            raise ProblemError(
                400, "malformed-body", "the body is not JSON: a number is not finite, or beyond a double's range"
            )
        return found

    return read


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


async def _bounded(request: Request, limit: int) -> bytes:
    too_large = ProblemError(
        413,
        "payload-too-large",
        f"the body is over {limit:,} bytes; send less at once (JOB_ARGS_LIMIT and BULK_LIMIT give the bound)",
    )
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large
    return bytes(body)


def _malformed(body: bytes, error: ValidationError) -> str:
    if not body.strip():
        return "the body is empty; send a JSON object"
    try:
        body.decode()
    except UnicodeDecodeError as fault:
        return f"the body is not UTF-8 (byte {fault.start})"
    return f"the body is not JSON: {error.errors(include_url=False, include_input=False)[0]['msg']}"


# NaN, Infinity, and numbers that may be beyond a double: looked for in the bytes, since walking each bulk is slow.
_SUSPICIOUS = re.compile(rb"NaN|Infinity|[eE]\+?[0-9]{3}|[0-9]{309}")


def _finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    return all(map(_finite, value)) if isinstance(value, list) else True
