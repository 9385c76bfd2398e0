"""Reads submitted forms. They must be urlencoded and are limited in size; a request's form is read only once.

Guarantees: an unauthenticated client can send no more than a name and a password need. Only a few large forms are read and
parsed at once, in threads (`carafe.web.large_bodies`).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import Depends, Request
from starlette.datastructures import FormData, UploadFile

from carafe.dashboard.security.refusals import Refused
from carafe.dashboard.security.state import secured
from carafe.errors import CarafeError, Unavailable
from carafe.web.large_bodies import RETRY_AFTER, Place, TooBusy, TooLarge

ENCODING = "application/x-www-form-urlencoded"

MAX_FIELDS = 20_000
"""The maximum number of fields of one form. A form that selects jobs has a field for each of them."""

LIMIT_OF_NOBODY = 16_384
"""The maximum number of bytes of a form from a sender who is not signed in."""


async def read_form(request: Request) -> FormData:
    """Dependency: the form's fields, all of them text (`form.get(name)`, `form.getlist(name)`).

    Raises `Refused`: 413 for a form over the limit, 415 for another content type, 422 for what cannot be read as a form, 503
    when too many large forms are sent at once.
    """
    found = getattr(request.state, "carafe_form", None)
    if isinstance(found, FormData):
        return found
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != ENCODING:
        raise Refused(415, "Not a form", f"This URL takes a form ({ENCODING}).")
    limit = LIMIT_OF_NOBODY
    if not _is_small(request) and await _is_known(request):
        # Any byte may come as three characters.
        limit = 3 * secured(request).settings.job_args_limit + 1_048_576
    try:
        form = await _read(request, limit)
    except TooLarge:
        whose = "A form of somebody who is not signed in" if limit == LIMIT_OF_NOBODY else "A form"
        raise Refused(413, "Too much", f"{whose} may have at most {limit:,} bytes.") from None
    except TooBusy:
        text = "Too many large forms are being sent at once; nothing was done. Try again in a moment."
        raise Refused(503, "Too busy", text, headers={"Retry-After": str(RETRY_AFTER)}) from None
    request.state.carafe_form = form
    return form


@asynccontextmanager
async def place_of(request: Request) -> AsyncIterator[None]:
    """Record how much of the limits for large bodies this request's form uses (`carafe.web.large_bodies`), and free it when
    the block ends.

    `read_form` may be called only inside this block.
    """
    async with secured(request).bodies.place() as place:
        request.state.carafe_place = place
        yield


async def _read(request: Request, limit: int) -> FormData:
    # In a function of its own, so that the bytes are freed while the request continues.
    place: Place = request.state.carafe_place
    body = await place.read(request, limit)
    return await place.work(len(body), lambda: _fields(body))


def _is_small(request: Request) -> bool:
    """Whether the form's declared size is within the limit for senders who are not signed in."""
    declared = request.headers.get("content-length", "")
    return declared.isdecimal() and len(declared) < 10 and int(declared) <= LIMIT_OF_NOBODY


async def _is_known(request: Request) -> bool:
    try:
        await secured(request).access.viewer(request)
    except Refused:
        return False
    return True


def _fields(body: bytes) -> FormData:
    try:
        pairs: list[tuple[str, str | UploadFile]] = [
            *parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
        ]
    except ValueError:
        raise Refused(422, "Not a form", f"The form cannot be read as UTF-8, or has over {MAX_FIELDS:,} fields.") from None
    return FormData(pairs)


FormOf = Annotated[FormData, Depends(read_form)]
"""A parameter of this type is the submitted form's fields."""


def status_of(error: CarafeError) -> int | None:
    """Called when a page shows a form again because of an error. Returns 503 as the page's HTTP status if the error is that
    Postgres is away.

    Returns None for other errors: they are faults of the form itself, and the page uses the status 422.
    """
    return error.status if isinstance(error, Unavailable) else None
