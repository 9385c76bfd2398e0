"""Reading what a form sends: urlencoded, bounded, read once however many ask for it."""

from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import Depends, Request
from starlette.datastructures import FormData, UploadFile

from carafe.errors import CarafeError, Unavailable
from carafe.web.dashboard.dashboard import get_dashboard
from carafe.web.dashboard.refusals import Refused

ENCODING = "application/x-www-form-urlencoded"

MAX_FIELDS = 20_000
"""Fields of one form: a selection names each of its jobs."""


async def read_form(request: Request) -> FormData:
    """Dependency: the form's fields (`form.get(name)`, `form.getlist(name)`, all text). Raises `Refused` 413, 415, 422."""
    found = getattr(request.state, "carafe_form", None)
    if isinstance(found, FormData):
        return found
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != ENCODING:
        raise Refused(415, "Not a form", f"This takes a form ({ENCODING}).")
    # Any byte may come as three characters.
    limit = 3 * get_dashboard(request).settings.job_args_limit + 1_048_576
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise Refused(413, "Too much", f"A form may have {limit:,} bytes.")
    try:
        pairs: list[tuple[str, str | UploadFile]] = [
            *parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
        ]
    except ValueError:
        raise Refused(422, "Not a form", f"The form cannot be read as UTF-8, or has over {MAX_FIELDS:,} fields.") from None
    form = FormData(pairs)
    request.state.carafe_form = form
    return form


FormOf = Annotated[FormData, Depends(read_form)]
"""A parameter of this type has the form's fields."""


def status_of(error: CarafeError) -> int | None:
    """The status of a form that is shown again with this error: Postgres that is away is no fault of what was typed."""
    return error.status if isinstance(error, Unavailable) else None
