"""One job: its life, why it waits, what failed and what it logged; and what can be done to it.

Editing makes a new job from its arguments. Stored secrets never come to the browser: they are kept by name, and the client
reads them when it writes the new job.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Literal
from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from carafe.jobs import CarafeError, InvalidArguments, InvalidOption, JobRecord, State
from carafe.jobs.definition import kinds
from carafe.jobs.errors import Fault
from carafe.jobs.job_logs import LogLine
from carafe.jobs.records import AttemptRecord
from carafe.jobs.stored_json import written
from carafe.readmodel.records import JobView
from carafe.settings import SecretUrl
from carafe.tracing import parse, trace_url
from carafe.web.dashboard.access import OperatorOf, Viewer, ViewerOf
from carafe.web.dashboard.dashboard import Dashboard, DashboardOf
from carafe.web.dashboard.formatting import iso
from carafe.web.dashboard.forms import FormOf, status_of
from carafe.web.dashboard.pages.argument_form import ArgumentForm, Filled, with_faults, without_zone
from carafe.web.dashboard.pages.bulk import back_to
from carafe.web.dashboard.pages.commands import Commands, commands
from carafe.web.dashboard.pages.dead import group_path
from carafe.web.dashboard.pages.enqueue import moment, texts
from carafe.web.dashboard.pages.parts import show
from carafe.web.dashboard.refusals import Refused
from carafe.web.dashboard.rendering import after
from carafe.web.dashboard.trees import shown

router = APIRouter()

LONGEST_ERROR = 10_000
"""Characters of an error on a job's page."""

MOMENTS = 200
"""Moments of a job's life on its page, the newest."""

ATTEMPTS_SHOWN, LOGS_SHOWN, MARKUP = 200_000, 200_000, 400
"""Characters of markup that failed attempts and logs may have on a job's page; and what is around each of them."""


@router.get("/jobs/{job_id}")
async def show_job(request: Request, viewer: ViewerOf, dashboard: DashboardOf, job_id: UUID) -> Response:
    """All that is known of a job."""
    view = await _view(dashboard, job_id)
    job = view.job
    args, result = shown(job.args), shown(job.result)
    attempts, attempts_cut = _newest_attempts(view.attempts)
    return show(
        request,
        "job",
        view=view,
        job=job,
        args=args,
        result=result,
        error=job.error and job.error[:LONGEST_ERROR],
        attempts=attempts,
        attempts_cut=attempts_cut,
        logs=_newest_lines(view.logs),
        timeline=view.timeline[-MOMENTS:],
        can=possible(view),
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
    """What the job's page shows of it only in part, whole, as JSON or text."""
    if part in ("args", "result", "commands") and not viewer.sees_args:
        raise Refused(403, "Arguments are not shown", "You may not see arguments and results here (DASHBOARD_ARGS).")
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
    return commands(job.kind, job.args, secrets=job.secrets, unique_key=job.unique_key, port=dashboard.settings.port)


def _newest_attempts(attempts: Sequence[AttemptRecord]) -> tuple[Sequence[AttemptRecord], bool]:
    """The newest attempts, with as much of what they say as fits on a page; and whether something is left out."""
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
    # Whoever may see the page may follow its links.
    return None if template is None else template.get_secret_value()


def possible(view: JobView) -> frozenset[str]:
    """What can be done to the job as it stands: retry, run-now, cancel, discard."""
    job = view.job
    match job.state:
        case State.DEAD:
            return frozenset({"retry"} if view.resolved_at else {"retry", "discard"})
        case State.SCHEDULED | State.RETRYING:
            return frozenset({"run-now", "cancel"})
        case State.QUEUED:
            return frozenset({"cancel"})
        case State.RUNNING if job.cancel_requested_at is None:
            return frozenset({"cancel"})
    return frozenset()


@router.post("/jobs/{job_id}/{action}")
async def act(
    request: Request,
    operator: OperatorOf,
    form: FormOf,
    dashboard: DashboardOf,
    job_id: UUID,
    action: Literal["retry", "run-now", "cancel", "discard", "edit"],
) -> Response:
    """Retry, run now, cancel or discard the job; or run it as a new one with other arguments."""
    client, by = dashboard.client, operator.actor
    reason = str(form.get("reason", "")).strip()
    page = back_to(str(form.get("back", ""))) or f"/jobs/{job_id}"
    said = ""
    if action == "edit":
        return await _edited(request, operator, dashboard, job_id, texts(form.multi_items()))
    try:
        match action:
            case "retry":
                await client.retry(job_id, reason=reason or None, by=by)
                said = "It runs again."
            case "run-now":
                await client.run_now(job_id, reason=reason or None, by=by)
                said = "It runs as soon as a slot is free."
            case "discard":
                await client.discard(job_id, reason=reason, by=by)
                said = "Discarded: it counts as resolved, and stays findable."
            case "cancel":
                record = await client.cancel(job_id, reason=reason or None, by=by)
                said = "Cancelled." if record.state.ended else "Asked to stop: it ends when its worker has done so."
    except InvalidOption as error:
        said = f"Nothing was done. {error}."
    return after(request, page, said)


@router.get("/jobs/{job_id}/edit")
async def edit(request: Request, operator: OperatorOf, dashboard: DashboardOf, job_id: UUID) -> Response:
    """The job's arguments as a form."""
    view = await _editable(operator, dashboard, job_id)
    form, note = _opened(view)
    return _form(request, view, form, form.stored(view.job.args, view.secrets), note=note)


async def _edited(
    request: Request, operator: Viewer, dashboard: Dashboard, job_id: UUID, given: Mapping[str, str]
) -> Response:
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
    """The form of the job's kind, and what to say above it.

    Arguments of an older version are edited as they were stored, in one piece: the client brings them to today's.
    """
    job_class = kinds()[view.job.kind]
    today = job_class.job_options.version
    if view.job.version >= today:
        return ArgumentForm(job_class), ""
    note = f"Stored under version {view.job.version} of the kind: edit them as such; they are brought to version {today}."
    return ArgumentForm(job_class, whole=True), note


async def _editable(operator: Viewer, dashboard: Dashboard, job_id: UUID) -> JobView:
    """The job, if its arguments can be edited here. Raises `Refused`."""
    if not operator.sees_args:
        raise Refused(403, "Arguments are not shown", "You may not see arguments here, so not edit them (DASHBOARD_ARGS).")
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
    """Seconds of the last run, once it ended."""
    if job.started_at is None or job.ended_at is None:
        return None
    return max((job.ended_at - job.started_at).total_seconds(), 0.0)
