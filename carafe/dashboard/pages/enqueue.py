"""The page that enqueues a job: choose its kind, fill in its arguments, and run it now or later."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Self, cast

from fastapi import APIRouter, Request, Response

from carafe import CarafeError, InvalidArguments, InvalidOption, Job
from carafe.dashboard.dependencies import DashboardOf, OperatorOf
from carafe.dashboard.pages.argument_form import ArgumentForm, Filled, Reading, with_faults, without_zone
from carafe.dashboard.pages.fragments import show
from carafe.dashboard.security.forms import FormOf, status_of
from carafe.dashboard.view.rendering import after
from carafe.jobs.definition import build, job_class, kinds
from carafe.jobs.errors import Fault
from carafe.jobs.options import ENQUEUE_OPTIONS, EnqueueOptions, Option

router = APIRouter()

ASKED = {name: option for name, option in ENQUEUE_OPTIONS.items() if option.asked}
"""The options of a job that the form has a field for."""


@router.get("/enqueue")
async def choose(request: Request, operator: OperatorOf, dashboard: DashboardOf) -> Response:
    """The list of known kinds or, once a kind is chosen, the form for its arguments."""
    kind = request.query_params.get("kind")
    if kind is not None:
        form = ArgumentForm(job_class(kind))
        return _form(request, form, form.blank())
    known = [(name, gist(found)) for name, found in sorted(kinds().items())]
    return show(request, "enqueue", kinds=known, modules=dashboard.settings.job_modules)


@router.post("/enqueue")
async def enqueue(request: Request, operator: OperatorOf, form: FormOf, dashboard: DashboardOf) -> Response:
    """Enqueue the job. If something is wrong, show the form again, with each argument's error at its field."""
    given = texts(form.multi_items())
    blank = ArgumentForm(job_class(given.get("kind", "")))
    reading = blank.read(given.items())
    options = {name: given.get(name, "") for name in ASKED}
    try:
        read = {name: option_of(option, name, options[name]) for name, option in ASKED.items()}
        job = built(blank.kind, reading, given)
        enqueued = await dashboard.client.enqueue(
            job, created_by=operator.name or None, by=operator.actor, **cast(EnqueueOptions, read)
        )
    except InvalidArguments as error:
        return _form(request, blank, reading.filled, error.faults, options=options)
    except InvalidOption as error:
        fault = str(error).partition(": ")[2]
        return _form(request, blank, reading.filled, options=options, option_errors={error.option: fault})
    except CarafeError as error:
        # Keep the typed values, so that the form can be sent again whatever happened.
        return _form(request, blank, reading.filled, [Fault("", str(error))], options=options, status=status_of(error))
    said = "Enqueued." if not enqueued.existing else "Nothing was enqueued: this job holds the unique key already."
    return after(request, f"/jobs/{enqueued.id}", said)


def _form(
    request: Request,
    form: ArgumentForm,
    filled: Sequence[Filled],
    faults: Sequence[Fault] = (),
    *,
    options: Mapping[str, str] = MappingProxyType({}),
    option_errors: Mapping[str, str] | None = None,
    status: int | None = None,
) -> Response:
    shown, others = with_faults(filled, faults)
    failed = bool(faults or option_errors)
    return show(
        request,
        "enqueue_form",
        status or (422 if failed else 200),
        form=form,
        filled=shown,
        faults=others,
        failed=failed,
        options=[OptionField.of(option, name, options.get(name, "")) for name, option in ASKED.items()],
        option_errors=option_errors or {},
    )


def built(kind: str, reading: Reading, given: Mapping[str, str]) -> Job:
    """Returns the job that a filled-in form describes. Raises `InvalidArguments` with every fault."""
    if reading.faults:
        try:
            build(kind, reading.arguments)
        except InvalidArguments as error:
            # The model reports unreadable values as missing; one fault per path is enough.
            read = {fault.path for fault in reading.faults}
            more = [fault for fault in error.faults if fault.path not in read]
            raise InvalidArguments(kind, [*reading.faults, *more]) from None
        raise InvalidArguments(kind, reading.faults)
    try:
        return build(kind, reading.arguments)
    except InvalidArguments as error:
        local = without_zone(reading.arguments, error.faults, given)
        if local is None:
            raise
        return build(kind, local)


@dataclass(frozen=True, slots=True)
class OptionField:
    """The form's field for an option of the job, with the text that was typed into it."""

    label: str
    name: str
    text: str
    type: str
    hint: str
    attributes: Mapping[str, str]

    @classmethod
    def of(cls, option: Option, name: str, text: str) -> Self:
        """Returns the field for an option; `text` was typed into it."""
        label, hint = option.label.capitalize(), f"{option.help} May be left empty."
        match option.what:
            case "moment":
                return cls(f"{label} (UTC)", name, text, "datetime-local", hint, {"step": "1"})
            case "integer":
                bounds = {"min": f"{option.least:.0f}", "max": f"{option.most:.0f}"}
                return cls(label, name, text, "number", hint, bounds)
            case "duration":
                bounds = {"min": f"{option.least:g}", "max": f"{option.most:.0f}", "step": "any"}
                return cls(f"{label} (seconds)", name, text, "number", hint, bounds)
            case "text":
                return cls(label, name, text, "text", hint, {"maxlength": f"{option.most:.0f}", "spellcheck": "false"})


def option_of(option: Option, name: str, text: str) -> Any:
    """Returns the value typed into an option's field; None for an empty field. Raises `InvalidOption` if it is not valid."""
    if option.what == "text":
        return text or None
    if not text.strip():
        return None
    if option.what == "moment":
        return moment(text.strip(), name)
    try:
        return int(text) if option.what == "integer" else float(text)
    except ValueError:
        raise InvalidOption(name, "must be a number") from None


def moment(text: str, option: str) -> datetime | None:
    """Returns the time typed into a field; None for an empty field. A time without a zone is UTC.

    Raises `InvalidOption` for what is not a time.
    """
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidOption(option, "must be a date and time, such as 2030-01-31T06:00 (UTC)") from None


def texts(pairs: Sequence[tuple[str, Any]]) -> dict[str, str]:
    """Returns the text fields of a form by name. If a field is repeated, its last value counts."""
    return {name: value for name, value in pairs if isinstance(value, str)}


def gist(job: type[Job]) -> str:
    """Returns the first line of the job class's docstring; empty if it has none."""
    own = job.__doc__ if job.__doc__ is not Job.__doc__ else None
    return (own or "").strip().partition("\n")[0]
