"""Reading what a form sends: urlencoded, bounded, read once however many ask for it.

Guarantees: nobody unknown makes the process read more than a name and a password need; a large form is read and taken
apart few at a time, in a thread (`carafe.web.large_bodies`).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import Depends, Request
from starlette.datastructures import FormData, UploadFile

from carafe.errors import CarafeError, Unavailable
from carafe.web.dashboard.dashboard import get_dashboard
from carafe.web.dashboard.refusals import Refused
from carafe.web.large_bodies import RETRY_AFTER, Place, TooBusy, TooLarge

ENCODING = "application/x-www-form-urlencoded"

MAX_FIELDS = 20_000
"""Fields of one form: a selection names each of its jobs."""

LIMIT_OF_NOBODY = 16_384
"""Bytes of a form while it is not known who sends it."""


async def read_form(request: Request) -> FormData:
    """Dependency: the form's fields (`form.get(name)`, `form.getlist(name)`, all text). Raises `Refused`."""
    found = getattr(request.state, "carafe_form", None)
    if isinstance(found, FormData):
        return found
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != ENCODING:
        raise Refused(415, "Not a form", f"This takes a form ({ENCODING}).")
    limit = LIMIT_OF_NOBODY
    if not _is_small(request) and await _is_known(request):
        # Any byte may come as three characters.
        limit = 3 * get_dashboard(request).settings.job_args_limit + 1_048_576
    try:
        form = await _read(request, limit)
    except TooLarge:
        whose = "A form of somebody who is not signed in" if limit == LIMIT_OF_NOBODY else "A form"
        raise Refused(413, "Too much", f"{whose} may have {limit:,} bytes.") from None
    except TooBusy:
        text = "Too many large forms come in at once; nothing was done. Try again in a moment."
        raise Refused(503, "Too busy", text, headers={"Retry-After": str(RETRY_AFTER)}) from None
    request.state.carafe_form = form
    return form


@asynccontextmanager
async def place_of(request: Request) -> AsyncIterator[None]:
    """A place among the large bodies for this request's form, for the time of the block: it is held while the form is used.

    `read_form` needs it.
    """
    async with get_dashboard(request).bodies.place() as place:
        request.state.carafe_place = place
        yield


async def _read(request: Request, limit: int) -> FormData:
    # In a function of its own, so that the bytes are gone while the request goes on.
    place: Place = request.state.carafe_place
    body = await place.read(request, limit)
    return await place.work(len(body), lambda: _fields(body))


def _is_small(request: Request) -> bool:
    """Whether the form says of itself that anybody may send it."""
    declared = request.headers.get("content-length", "")
    return declared.isdecimal() and len(declared) < 10 and int(declared) <= LIMIT_OF_NOBODY


async def _is_known(request: Request) -> bool:
    try:
        await get_dashboard(request).access.viewer(request)
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
"""A parameter of this type has the form's fields."""


def status_of(error: CarafeError) -> int | None:
    """The status of a form that is shown again with this error: Postgres that is away is no fault of what was typed."""
    return error.status if isinstance(error, Unavailable) else None
