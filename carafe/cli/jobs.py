"""The commands `enqueue`, `jobs …`, `queues` and `kinds`: the methods of the Python client as commands."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast
from uuid import UUID

from carafe import CarafeError, JobFilter, JobRecord, StackRecord, State
from carafe.cli.arguments import job_arguments, moment_of, option_of, span_of
from carafe.cli.connecting import actor, connected, declared
from carafe.cli.exits import Exit, Failure, report, say
from carafe.cli.output import clean, clean_lines, moment, show_fields, show_json, show_table
from carafe.cli.pauses import say_pauses, since
from carafe.durations import measured
from carafe.jobs.actions import ActionName
from carafe.jobs.definition import Job, build, is_redacted, job_class, kinds
from carafe.jobs.new_job import Limits
from carafe.jobs.options import CLASS_OPTIONS, ENQUEUE_OPTIONS, EnqueueOptions
from carafe.jobs.records import AttemptRecord, shown_options
from carafe.jobs.stored_json import written
from carafe.settings.settings import Settings
from carafe.store.humanize import attempt_number, counted

PATIENCE = 5.0
"""Seconds after which `jobs wait` without a timeout says why the job waits."""

_FOLDED = 3
"""How many of a traceback's last lines `jobs show` prints without --full."""


def enqueue(
    kind: str,
    words: Sequence[str],
    *,
    json_args: str | None,
    options: Mapping[str, str],
    idempotency_key: str | None,
    as_json: bool,
) -> Exit:
    """Enqueues one job and prints its id. `options` are the options of `EnqueueOptions` that were typed, as text."""
    read = {name: option_of(ENQUEUE_OPTIONS[name], name, text) for name, text in options.items()}
    declared()
    job = build(kind, job_arguments(job_class(kind), words, json_args))

    async def go() -> Exit:
        async with connected() as client:
            answer = await client.enqueue(
                job,
                idempotency_key=idempotency_key,
                scope="cli",
                created_by="carafe enqueue",
                by=actor(),
                **cast(EnqueueOptions, read),
            )
            if as_json:
                show_json(answer._asdict())
            else:
                print(answer.id)
                if answer.existing:
                    say(f"a live job already holds the unique key {options.get('unique_key')!r}: nothing new was enqueued")
                elif answer.replayed:
                    say(f"the idempotency key {idempotency_key!r} was used before: nothing new was enqueued")
            await say_pauses(client, {kind})
        return Exit.OK

    return asyncio.run(go())


def list_jobs(wanted: JobFilter, *, limit: int, cursor: str | None, as_json: bool) -> Exit:
    """Prints a page of jobs, newest first."""

    async def go() -> Exit:
        async with connected() as client:
            page = await client.find(wanted, limit=limit, cursor=cursor)
        if not page.jobs:
            say_none(wanted, so_far=page.searched_to is not None)
        if as_json:
            show_json(page)
            return Exit.OK
        if page.jobs:
            show_table(tuple(COLUMNS), [[cell(job) for cell in COLUMNS.values()] for job in page.jobs])
        if page.searched_to is not None:
            say(f"searched back to {moment(page.searched_to)}")
        if page.next_cursor:
            say(f"more: --cursor {page.next_cursor}")
        return Exit.OK

    return asyncio.run(go())


def say_none(wanted: JobFilter, *, so_far: bool = False) -> None:
    """Says on standard error that no job matches, as a warning if there is a filter, which may be misspelt."""
    if wanted == JobFilter():
        say("no jobs")
    else:
        say(f"warning: no job matches the filter{' so far' if so_far else ''}")


def _gist(job: JobRecord) -> str:
    """Returns a short note on a job, depending on its state: its error, when it is due, or its progress."""
    match job.state:
        case State.DEAD | State.CANCELLED | State.RETRYING if job.error:
            return f"{job.error_class}: {job.error}" if job.error_class else job.error
        case State.SCHEDULED | State.RETRYING:
            return f"due {moment(job.due_at)}"
        case State.RUNNING:
            return _progress(job)
        case _:
            return ""


COLUMNS: Mapping[str, Callable[[JobRecord], str]] = {
    "ID": lambda job: str(job.id),
    "KIND": lambda job: job.kind,
    "STATE": lambda job: job.state,
    "ATTEMPT": lambda job: f"{attempt_number(job)}/{job.max_attempts}",
    "CREATED": lambda job: moment(job.created_at),
    "ENDED": lambda job: moment(job.ended_at),
    "WHAT": _gist,
}
"""The columns of `jobs list`."""


def _progress(job: JobRecord) -> str:
    share = "" if job.progress is None else f"{job.progress:.0%}"
    asked = "asked to stop" if job.cancel_requested_at and not job.state.ended else ""
    return " ".join(part for part in (share, job.progress_note or "", asked) if part)


def show_job(job_id: UUID, *, full: bool, as_json: bool) -> Exit:
    """Prints everything known about a job, with its failed attempts."""

    async def go() -> Exit:
        async with connected() as client:
            job = await client.get(job_id)
        if as_json:
            show_json(job)
        else:
            _show(job, full)
        return Exit.OK

    return asyncio.run(go())


def _show(job: JobRecord, full: bool) -> None:
    show_fields(
        [
            ("id", str(job.id)),
            ("kind", job.kind + (f" (version {job.version})" if job.version != 1 else "")),
            ("queue", job.queue),
            ("state", job.state),
            ("note", job.note or ""),
            ("attempt", f"{attempt_number(job)} of {job.max_attempts}, {measured(job.timeout)} each"),
            ("snoozes", str(job.snoozes or "")),
            ("releases", str(job.releases or "")),
            *((label, text) for _, label, text in shown_options(job)),
            ("created", moment(job.created_at) + (f" by {job.created_by}" if job.created_by else "")),
            ("due", moment(job.due_at)),
            ("started", moment(job.started_at)),
            ("deadline", moment(job.deadline_at)),
            ("ended", moment(job.ended_at)),
            ("discarded", _resolved(job)),
            ("progress", _progress(job)),
            ("args", _json(job.args)),
            ("result", "" if job.result is None else _json(job.result)),
            ("error", ": ".join(part for part in (job.error_class, job.error) if part)),
        ]
    )
    for attempt in job.attempts:
        print()
        for line in _attempt(attempt, full):
            print(line)


def _resolved(job: JobRecord) -> str:
    if job.resolved_at is None:
        return ""
    return f"{moment(job.resolved_at)} by {job.resolved_by}: {job.resolved_reason}"


def _attempt(attempt: AttemptRecord, full: bool) -> Iterator[str]:
    where = f" on {attempt.worker}" if attempt.worker else ""
    yield clean(f"{moment(attempt.ended_at)}{where}: {attempt.summary}")
    yield "  " + clean(": ".join(part for part in (attempt.error_class, attempt.error) if part))
    lines = clean_lines(attempt.traceback or "").splitlines()
    if not full and len(lines) > _FOLDED + 1:
        yield f"  | … {len(lines) - _FOLDED} more lines of the traceback (--full shows them)"
        lines = lines[-_FOLDED:]
    for line in lines:
        yield f"  | {line}"


def _json(value: Any) -> str:
    return written(value).decode()


def act(action: ActionName, ids: Sequence[UUID], *, reason: str | None = None, as_json: bool) -> Exit:
    """Carries out an action on each job. Continues when one is refused: every refusal is printed, and the exit code is that
    of the first."""
    declared()

    async def go() -> Exit:
        code = Exit.OK
        done: list[dict[str, Any]] = []
        waiting: set[str] = set()
        async with connected() as client:
            for job_id in dict.fromkeys(ids):
                try:
                    job = await client.act(action, job_id, reason=reason, by=actor())
                except CarafeError as error:
                    done.append({"id": job_id, "error": {"code": error.code, "message": str(error)}})
                    said = report(error) or Exit.FAILED
                    code = code or said
                    continue
                done.append({"id": job_id, "state": job.state})
                waiting |= {job.kind} if job.state is State.QUEUED else set()
                if not as_json:
                    asked = ", asked to stop" if job.cancel_requested_at and not job.state.ended else ""
                    print(f"{job_id}  {job.state}{asked}")
            if waiting:
                await say_pauses(client, waiting)
        if as_json:
            show_json(done)
        return code

    return asyncio.run(go())


def edit_and_run(job_id: UUID, words: Sequence[str], *, json_args: str | None, run_at: str | None, as_json: bool) -> Exit:
    """Enqueues a job of the same kind with some arguments changed, and prints the new job's id."""
    due = None if run_at is None else moment_of(run_at, "--run-at")
    declared()

    async def go() -> Exit:
        async with connected() as client:
            old = await client.get(job_id)
            given = job_arguments(job_class(old.kind), words, json_args)
            # Words change the stored arguments; --json-args takes their place.
            arguments = given if json_args is not None or not isinstance(old.args, dict) else {**old.args, **given}
            kept = [pointer for pointer in old.secrets if is_redacted(arguments, pointer)]
            answer = await client.edit_and_run(job_id, arguments, kept, run_at=due, by=actor())
            if as_json:
                show_json({"id": answer.id, "kind": answer.kind, "state": answer.state, "origin": job_id})
            else:
                print(answer.id)
            await say_pauses(client, {answer.kind})
        return Exit.OK

    return asyncio.run(go())


def wait(job_id: UUID, *, timeout: str | None, as_json: bool) -> Exit:
    """Waits until a job has ended, and prints it. The exit code says how it ended. Without `timeout`, says after `PATIENCE`
    seconds why the job waits.

    Raises `Failure` with the code NOT_ENDED, and the same reason, when `timeout` passes first.
    """
    limit = None if timeout is None else span_of(timeout, "--timeout")

    async def go() -> Exit:
        async with connected() as client:
            try:
                job = await client.wait(job_id, timeout=PATIENCE if limit is None else limit)
            except TimeoutError:
                note = (await client.get(job_id)).note
                if limit is not None:
                    text = f"job {job_id} has not ended within {measured(limit)}"
                    raise Failure(f"{text}: {note}" if note else text, Exit.NOT_ENDED) from None
                if note:
                    say(note)
                job = await client.wait(job_id)
        if as_json:
            show_json(job)
        else:
            _show(job, full=False)
        return {State.DEAD: Exit.DEAD, State.CANCELLED: Exit.CANCELLED}.get(job.state, Exit.OK)

    return asyncio.run(go())


def stack(job_id: UUID, *, as_json: bool) -> Exit:
    """Prints the lines of code at which a running job is. The exit code says whether its worker has answered."""

    async def go() -> Exit:
        async with connected() as client:
            record = await client.stack(job_id)
        if record.answered_at is None:
            raise Failure(f"{_worker(record)} has not answered where job {job_id} is: {_why(record)}", Exit.NOT_ANSWERED)
        if as_json:
            show_json(record)
        elif record.lines:
            say(f"{_worker(record)} answered at {moment(record.answered_at)}:")
            print(clean_lines("\n".join(record.lines)))
        else:
            say("the attempt was over before its worker could answer")
        return Exit.OK

    return asyncio.run(go())


SILENT = 3.0
"""Seconds without a heartbeat after which a silent worker is said to be frozen or gone. It sends one per second."""


def _worker(record: StackRecord) -> str:
    return f"worker {record.worker}" if record.worker else "its worker"


def _why(record: StackRecord) -> str:
    if record.heartbeat_age is None:
        return "it is not known any more"
    if record.heartbeat_age < SILENT:
        return "it sends heartbeats; the job's child process is in a function of C, or the job has just ended: ask again"
    what = "it is frozen, cut off from Postgres, or gone; its jobs run again once it counts as lost"
    return f"its last heartbeat is {measured(record.heartbeat_age)} old: {what}"


def queues(*, as_json: bool) -> Exit:
    """Prints each queue with its numbers of jobs, its oldest wait, and whether it is paused."""

    async def go() -> Exit:
        async with connected() as client:
            found = await client.queues()
        if as_json:
            show_json(found)
            return Exit.OK
        show_table(
            ("QUEUE", "QUEUED", "HELD", "RUNNING", "SCHEDULED", "RETRYING", "DEAD", "OLDEST WAIT", "PAUSED"),
            [
                (
                    queue.name,
                    str(queue.queued),
                    str(queue.held),
                    str(queue.running),
                    str(queue.scheduled),
                    str(queue.retrying),
                    str(queue.dead),
                    measured(queue.oldest_wait or 0) if queue.queued else "",
                    since(queue),
                )
                for queue in found
            ],
        )
        if held := sum(queue.held or 0 for queue in found):
            verb = "belongs to a paused kind" if held == 1 else "belong to paused kinds"
            say(f"{counted(held, 'queued job')} {verb}; `carafe kinds paused` lists the kinds")
        return Exit.OK

    return asyncio.run(go())


def pause(queue: str, *, reason: str | None, as_json: bool) -> Exit:
    """Pauses a queue, and prints who paused it, when and why."""

    async def go() -> Exit:
        async with connected() as client:
            record = await client.pause(queue, reason=reason, by=actor())
        if as_json:
            show_json(record)
        else:
            print(clean(f"{record.name}  {'was paused already, ' if record.unchanged else 'paused '}{since(record)}"))
            if record.unchanged and reason:
                say("nothing changed: a pause keeps its first reason; resume the queue, then pause it for another")
        return Exit.OK

    return asyncio.run(go())


def resume(queue: str, *, reason: str | None, as_json: bool) -> Exit:
    """Resumes a queue, and prints how many jobs wait in it."""

    async def go() -> Exit:
        async with connected() as client:
            record = await client.resume(queue, reason=reason, by=actor())
        if as_json:
            show_json(record)
        else:
            held = f", {record.held} of them of paused kinds" if record.held else ""
            waiting = "counting its jobs took too long" if record.queued is None else f"{record.queued} queued{held}"
            print(clean(f"{record.name}  {'was not paused' if record.unchanged else 'resumed'}, {waiting}"))
        return Exit.OK

    return asyncio.run(go())


def show_kinds(*, as_json: bool) -> Exit:
    """Prints the kinds that JOB_MODULES declare, with their options and arguments. Needs neither Postgres nor Redis."""
    settings = declared()
    found = [job for _, job in sorted(kinds().items())]
    if as_json:
        show_json([_kind(job, settings) for job in found])
        return Exit.OK
    if not found:
        say(f"no kinds: JOB_MODULES ({', '.join(settings.job_modules) or 'empty'}) declares none")
        return Exit.OK
    rows: list[tuple[str, ...]] = []
    said = tuple(CLASS_OPTIONS.items())
    for job in found:
        kind = _kind(job, settings)
        options = [measured(kind[name]) if option.what == "duration" else str(kind[name]) for name, option in said]
        rows.append((kind["kind"], str(kind["version"]), *options, _arguments(job)))
    show_table(("KIND", "VERSION", *(option.label.upper() for _, option in said), "ARGUMENTS"), rows)
    return Exit.OK


def _kind(job: type[Job], settings: Settings) -> dict[str, Any]:
    options = job.job_options
    return {
        "kind": options.kind,
        "version": options.version,
        **Limits.of(settings).resolve(options),
        "schema": job.model_json_schema(),
    }


def _arguments(job: type[Job]) -> str:
    schema = job.model_json_schema()
    required = set(schema.get("required", ()))
    return " ".join(
        f"{name}={_type(part)}" if name in required else f"[{name}={_type(part)}]"
        for name, part in schema.get("properties", {}).items()
    )


def _type(part: dict[str, Any]) -> str:
    if "$ref" in part:
        return str(part["$ref"]).rpartition("/")[2]
    if "anyOf" in part:
        return "|".join(_type(choice) for choice in part["anyOf"])
    return str(part.get("format") or part.get("type") or "any")
