"""The page of one job: timeline, why it waits, failed attempts, logs, and the possible actions.

"Edit and run" enqueues a new job with changed arguments. Stored secrets are never sent to the browser: the form names the
secrets to keep, and the client copies them from the old job when it stores the new one.
"""

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from typing import Literal
from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from carafe import CarafeError, InvalidArguments, InvalidOption, JobRecord, State
from carafe.dashboard.dashboard import Dashboard
from carafe.dashboard.dependencies import DashboardOf, OperatorOf, ViewerOf
from carafe.dashboard.pages.argument_form import ArgumentForm, Filled, with_faults, without_zone
from carafe.dashboard.pages.bulk import back_to
from carafe.dashboard.pages.commands import Commands, commands
from carafe.dashboard.pages.dead import group_path
from carafe.dashboard.pages.enqueue import moment, texts
from carafe.dashboard.pages.fragments import show
from carafe.dashboard.security.access import Viewer
from carafe.dashboard.security.forms import FormOf, status_of
from carafe.dashboard.security.refusals import Refused
from carafe.dashboard.view.formatting import iso
from carafe.dashboard.view.rendering import after
from carafe.dashboard.view.trees import shown
from carafe.jobs.actions import ACTIONS, ActionName, possible
from carafe.jobs.definition import kinds
from carafe.jobs.errors import Fault
from carafe.jobs.records import AttemptRecord, shown_options
from carafe.jobs.stored_json import written
from carafe.readmodel.records import JobView
from carafe.settings.settings import SecretUrl
from carafe.store.job_logs import LogLine
from carafe.tracing import parse, trace_url

router = APIRouter()

LONGEST_ERROR = 10_000
"""The maximum number of characters of an error on a job's page."""

ASKED = "Asked to stop: it ends once its worker has stopped it."
"""The message that a job's page shows after an action on a running job."""

STACK_WITHIN = 1.5
"""Seconds that the button waits for the worker's answer, so that the page shows it at once in most cases."""

MOMENTS = 200
"""The maximum number of entries of the timeline on a job's page; the newest are kept."""

ATTEMPTS_SHOWN, LOGS_SHOWN, MARKUP = 200_000, 200_000, 400
"""The maximum number of characters of HTML that the failed attempts, and the logs, may take on a job's page. `MARKUP` is
how many characters the markup around each entry takes."""


@router.get("/jobs/{job_id}")
async def show_job(request: Request, viewer: ViewerOf, dashboard: DashboardOf, job_id: UUID) -> Response:
    """The page that shows everything known about a job."""
    view = await _view(dashboard, job_id)
    job = view.job
    args, result = shown(job.args), shown(job.result)
    attempts, attempts_cut = _newest_attempts(view.attempts)
    return show(
        request,
        "job",
        view=view,
        job=job,
        options=tuple(shown_options(job)),
        args=args,
        result=result,
        error=job.error and job.error[:LONGEST_ERROR],
        attempts=attempts,
        attempts_cut=attempts_cut,
        logs=_newest_lines(view.logs),
        timeline=view.timeline[-MOMENTS:],
        can=() if job.cancel_requested_at and not job.state.ended else possible(job.state, resolved=bool(view.resolved_at)),
        editable=job.kind in kinds(),
        commands=_commands(dashboard, job) if viewer.sees_args and args[1] else None,
        long_commands=viewer.sees_args and not args[1],
        group=group_path(job.kind, view.fingerprint) if job.state is State.DEAD and view.fingerprint else None,
        took=_took(job),
        trace=parse(view.trace),
        trace_link=trace_url(_plain(dashboard.settings.trace_url_template), view.trace),
        topics=f"job:{job_id}" + ("" if job.state.ended or job.state is State.RUNNING else " overview"),
    )


@router.get("/jobs/{job_id}/raw/{part}")
async def raw(
    viewer: ViewerOf,
    dashboard: DashboardOf,
    job_id: UUID,
    part: Literal["args", "result", "attempts", "logs", "commands"],
) -> Response:
    """One part of a job in full, as JSON or text. The job's page links to it where it shows only an excerpt."""
    if part in ("args", "result", "commands") and not viewer.sees_args:
        raise Refused(403, "Arguments are not shown", "The setting DASHBOARD_ARGS hides arguments and results from you.")
    view = await _view(dashboard, job_id)
    job = view.job
    match part:
        case "args" | "result":
            return Response(written(job.args if part == "args" else job.result, indent=True), media_type="application/json")
        case "attempts":
            return Response(written(view.attempts, indent=True), media_type="application/json")
        case "logs":
            lines = (f"{iso(line.at)} {line.level} {line.text} (attempt {line.attempt})" for line in view.logs)
            return PlainTextResponse("".join(f"{line}\n" for line in lines))
    copied = _commands(dashboard, job)
    return PlainTextResponse(
        "\n\n".join((*(f"# {name} is needed" for name in copied.variables), copied.curl, copied.carafe))
    )


def _commands(dashboard: Dashboard, job: JobRecord) -> Commands:
    options = {name: getattr(job, name) for name, _, _ in shown_options(job)}
    return commands(job.kind, job.args, secrets=job.secrets, options=options, port=dashboard.settings.port)


def _newest_attempts(attempts: Sequence[AttemptRecord]) -> tuple[Sequence[AttemptRecord], bool]:
    """Returns the newest failed attempts, shortened to fit on the page, and whether anything was left out."""
    left = ATTEMPTS_SHOWN
    found: list[AttemptRecord] = []
    for attempt in reversed(attempts):
        said = len(escape(attempt.error)) + len(escape(attempt.traceback or ""))
        left -= said + MARKUP
        if left < 0:
            attempt = replace(attempt, error=attempt.error[:200], traceback=None)
            left -= 200 + MARKUP
        if left < -ATTEMPTS_SHOWN // 5:
            return found[::-1], True
        found.append(attempt)
    return found[::-1], left < 0


def _newest_lines(lines: Sequence[LogLine]) -> Sequence[LogLine]:
    left = LOGS_SHOWN
    for index in range(len(lines) - 1, -1, -1):
        left -= len(escape(lines[index].text)) + MARKUP
        if left < 0:
            return lines[index + 1 :]
    return lines


def _plain(template: SecretUrl | None) -> str | None:
    # Anyone who may see the page may follow its links.
    return None if template is None else template.get_secret_value()


@router.get("/jobs/{job_id}/edit")
async def edit(request: Request, operator: OperatorOf, dashboard: DashboardOf, job_id: UUID) -> Response:
    """The form to edit the job's arguments."""
    view = await _editable(operator, dashboard, job_id)
    form, note = _opened(view)
    return _form(request, view, form, form.stored(view.job.args, view.secrets), note=note)


@router.post("/jobs/{job_id}/edit")
async def edited(
    request: Request, operator: OperatorOf, submitted: FormOf, dashboard: DashboardOf, job_id: UUID
) -> Response:
    """Enqueue a new job with the edited arguments. The old job is unchanged."""
    given = texts(submitted.multi_items())
    view = await _editable(operator, dashboard, job_id)
    form, note = _opened(view)
    reading = form.read(given.items(), view.secrets)
    typed = given.get("run_at", "").strip()
    faults: Sequence[Fault] = reading.faults
    run_at_error = ""
    status = None
    try:
        run_at = moment(typed, "run_at")
        if not faults:
            arguments = reading.arguments
            try:
                new = await dashboard.client.edit_and_run(job_id, arguments, reading.keep, run_at=run_at, by=operator.actor)
            except InvalidArguments as error:
                local = without_zone(arguments, error.faults, given)
                if local is None:
                    raise
                new = await dashboard.client.edit_and_run(job_id, local, reading.keep, run_at=run_at, by=operator.actor)
            return after(request, f"/jobs/{new.id}", "Enqueued as a new job; the other one stays as it is.")
    except InvalidArguments as error:
        faults = error.faults
    except InvalidOption as error:
        run_at_error = str(error).partition(": ")[2] if error.option == "run_at" else ""
        faults = faults if run_at_error else [Fault("", str(error))]
    except CarafeError as error:
        faults, status = [Fault("", str(error))], status_of(error)
    return _form(
        request,
        view,
        form,
        reading.filled,
        faults,
        note=note,
        run_at=typed,
        run_at_error=run_at_error,
        status=status,
    )


@router.post("/jobs/{job_id}/stack")
async def ask_where(request: Request, operator: OperatorOf, dashboard: DashboardOf, job_id: UUID) -> Response:
    """Ask the job's worker where the job is. The job's page shows the answer, a second later."""
    await dashboard.client.stack(job_id, timeout=STACK_WITHIN)
    return after(request, f"/jobs/{job_id}", "Its worker was asked where it is.")


@router.post("/jobs/{job_id}/{action}")
async def act(
    request: Request, operator: OperatorOf, form: FormOf, dashboard: DashboardOf, job_id: UUID, action: ActionName
) -> Response:
    """Carry out an operator's action, such as retry or cancel, on the job."""
    reason = str(form.get("reason", "")).strip()
    page = back_to(str(form.get("back", ""))) or f"/jobs/{job_id}"
    try:
        record = await dashboard.client.act(action, job_id, reason=reason or None, by=operator.actor)
    except InvalidOption as error:
        return after(request, page, f"Nothing was done. {error}.")
    return after(request, page, ASKED if record.state is State.RUNNING else ACTIONS[action].answer)


def _form(
    request: Request,
    view: JobView,
    form: ArgumentForm,
    filled: Sequence[Filled],
    faults: Sequence[Fault] = (),
    *,
    note: str,
    run_at: str = "",
    run_at_error: str = "",
    status: int | None = None,
) -> Response:
    shown, others = with_faults(filled, faults)
    failed = bool(faults or run_at_error)
    return show(
        request,
        "job_edit",
        status or (422 if failed else 200),
        view=view,
        job=view.job,
        form=form,
        filled=shown,
        faults=others,
        failed=failed,
        note=note,
        gone=form.gone(view.job.args),
        run_at=run_at,
        run_at_error=run_at_error,
    )


def _opened(view: JobView) -> tuple[ArgumentForm, str]:
    """Returns the form for the job's arguments, and a note to show above the form ('' for no note).

    Arguments of an older version of the kind are edited as they are stored, as one JSON object. The client upgrades them.
    """
    job_class = kinds()[view.job.kind]
    today = job_class.job_options.version
    if view.job.version >= today:
        return ArgumentForm(job_class), ""
    note = f"These arguments have the form of version {view.job.version}. Keep that form: the new job gets version {today}."
    return ArgumentForm(job_class, whole=True), note


async def _editable(operator: Viewer, dashboard: Dashboard, job_id: UUID) -> JobView:
    """Returns the job, if its arguments can be edited.

    Raises `Refused`: 403 if the operator may not see arguments, 404 if there is no such job, 422 if this process does not
    know its kind.
    """
    if not operator.sees_args:
        raise Refused(
            403,
            "Arguments are not shown",
            "The setting DASHBOARD_ARGS hides arguments from you, so you cannot edit them.",
        )
    view = await _view(dashboard, job_id)
    if view.job.kind not in kinds():
        raise Refused(
            422,
            "The kind is not known here",
            f"No module of JOB_MODULES declares {view.job.kind!r} in this process, so its arguments cannot be checked.",
        )
    return view


async def _view(dashboard: Dashboard, job_id: UUID) -> JobView:
    view = await dashboard.model.job(job_id)
    if view is None:
        raise Refused(404, "No such job", f"There is no job {job_id}: it never existed, or its retention has passed.")
    return view


def _took(job: JobRecord) -> float | None:
    """Returns the seconds that the job's last attempt ran; None if the job has not ended, or never started."""
    if job.started_at is None or job.ended_at is None:
        return None
    return max((job.ended_at - job.started_at).total_seconds(), 0.0)
