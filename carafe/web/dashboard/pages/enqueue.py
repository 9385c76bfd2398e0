"""Enqueue: choose a kind, fill in its arguments, and run it now or later."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request, Response

from carafe.jobs import CarafeError, InvalidArguments, InvalidOption, Job
from carafe.jobs.definition import build, job_class, kinds
from carafe.jobs.errors import Fault
from carafe.web.dashboard.access import OperatorOf
from carafe.web.dashboard.dashboard import DashboardOf
from carafe.web.dashboard.forms import FormOf, status_of
from carafe.web.dashboard.pages.argument_form import ArgumentForm, Filled, Reading, with_faults, without_zone
from carafe.web.dashboard.pages.parts import show
from carafe.web.dashboard.rendering import after

router = APIRouter()


@router.get("/enqueue")
async def choose(request: Request, operator: OperatorOf, dashboard: DashboardOf) -> Response:
    """The kinds that this process knows, or the form of the one that is chosen."""
    kind = request.query_params.get("kind")
    if kind is not None:
        form = ArgumentForm(job_class(kind))
        return _form(request, form, form.blank())
    known = [(name, _gist(found)) for name, found in sorted(kinds().items())]
    return show(request, "enqueue", kinds=known, modules=dashboard.settings.job_modules)


@router.post("/enqueue")
async def enqueue(request: Request, operator: OperatorOf, form: FormOf, dashboard: DashboardOf) -> Response:
    """Accept the job, or say what is wrong with each argument."""
    given = texts(form.multi_items())
    blank = ArgumentForm(job_class(given.get("kind", "")))
    reading = blank.read(given.items())
    options = {"run_at": given.get("run_at", "").strip(), "unique_key": given.get("unique_key", "")}
    try:
        run_at = moment(options["run_at"], "run_at")
        job = built(blank.kind, reading, given)
        enqueued = await dashboard.client.enqueue(
            job, run_at=run_at, unique_key=options["unique_key"] or None, created_by=operator.name or None, by=operator.actor
        )
    except InvalidArguments as error:
        return _form(request, blank, reading.filled, error.faults, options=options)
    except InvalidOption as error:
        fault = str(error).partition(": ")[2]
        return _form(request, blank, reading.filled, options=options, option_errors={error.option: fault})
    except CarafeError as error:
        # What was typed stays, so that it can be sent again, whatever has become of it.
        return _form(request, blank, reading.filled, [Fault("", str(error))], options=options, status=status_of(error))
    said = "Enqueued." if not enqueued.existing else "A live job holds this unique key already: this is that job."
    return after(request, f"/jobs/{enqueued.id}", said)


def _form(
    request: Request,
    form: ArgumentForm,
    filled: Sequence[Filled],
    faults: Sequence[Fault] = (),
    *,
    options: Mapping[str, str] | None = None,
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
        options=options or {"run_at": "", "unique_key": ""},
        option_errors=option_errors or {},
    )


def built(kind: str, reading: Reading, given: Mapping[str, str]) -> Job:
    """The job that a filled-in form describes. Raises `InvalidArguments` with every fault."""
    if reading.faults:
        try:
            build(kind, reading.arguments)
        except InvalidArguments as error:
            # What could not be read is missing for the model: one fault a path is enough.
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


def moment(text: str, option: str) -> datetime | None:
    """A time that was typed or picked, UTC where it names no zone; None for an empty field. Raises `InvalidOption`."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidOption(option, "must be a date and time, such as 2030-01-31T06:00 (UTC)") from None


def texts(pairs: Sequence[tuple[str, Any]]) -> dict[str, str]:
    """The fields of a form that are text; of one sent twice, the last."""
    return {name: value for name, value in pairs if isinstance(value, str)}


def _gist(job: type[Job]) -> str:
    """The first line of what a job's class says about itself."""
    own = job.__doc__ if job.__doc__ is not Job.__doc__ else None
    return (own or "").strip().partition("\n")[0]
