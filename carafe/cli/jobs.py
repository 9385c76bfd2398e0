"""`enqueue`, `jobs …`, `queues` and `kinds`: what the Python client does, for people and scripts."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, Literal
from uuid import UUID

from carafe.cli.arguments import job_arguments, moment_of, past_of, span_of
from carafe.cli.connecting import actor, connected, declared
from carafe.cli.exits import Exit, Failure, report, say
from carafe.cli.output import clean, clean_lines, moment, show_fields, show_json, show_table, span
from carafe.jobs import CarafeError, Client, JobRecord, QueueRecord, State
from carafe.jobs.definition import REDACTED, Job, build, job_class, kinds
from carafe.jobs.records import AttemptRecord
from carafe.jobs.stored_json import written
from carafe.settings import Settings

_FOLDED = 3
"""Lines of a traceback's end that `jobs show` prints without --full."""


def enqueue(
    kind: str,
    words: Sequence[str],
    *,
    json_args: str | None,
    run_at: str | None,
    delay: str | None,
    unique_key: str | None,
    idempotency_key: str | None,
    as_json: bool,
) -> Exit:
    """Accepts one job, and says its id."""
    due = None if run_at is None else moment_of(run_at, "--run-at")
    seconds = None if delay is None else span_of(delay, "--delay")
    declared()
    job = build(kind, job_arguments(job_class(kind), words, json_args))

    async def go() -> Exit:
        async with connected() as client:
            answer = await client.enqueue(
                job,
                run_at=due,
                delay=seconds,
                unique_key=unique_key,
                idempotency_key=idempotency_key,
                scope="cli",
                created_by="carafe enqueue",
                by=actor(),
            )
        if as_json:
            show_json(answer._asdict())
        else:
            print(answer.id)
            if answer.existing:
                say(f"a live job already holds the unique key {unique_key!r}: nothing new was enqueued")
            elif answer.replayed:
                say(f"the idempotency key {idempotency_key!r} was used before: nothing new was enqueued")
        return Exit.OK

    return asyncio.run(go())


def list_jobs(
    *, states: Sequence[State], kind: str | None, since: str | None, limit: int, cursor: str | None, as_json: bool
) -> Exit:
    """Prints a page of jobs, newest first."""
    begin = None if since is None else past_of(since, "--since")

    async def go() -> Exit:
        async with connected() as client:
            page = await client.find(states=states, kind=kind, since=begin, limit=limit, cursor=cursor)
        if as_json:
            show_json(page)
            return Exit.OK
        if not page.jobs:
            say("no jobs")
            return Exit.OK
        show_table(
            ("ID", "KIND", "STATE", "ATTEMPT", "CREATED", "ENDED", "WHAT"),
            [
                (
                    str(job.id),
                    job.kind,
                    job.state,
                    f"{job.attempt}/{job.max_attempts}",
                    moment(job.created_at),
                    moment(job.ended_at),
                    _gist(job),
                )
                for job in page.jobs
            ],
        )
        if page.next_cursor:
            say(f"more: --cursor {page.next_cursor}")
        return Exit.OK

    return asyncio.run(go())


def _gist(job: JobRecord) -> str:
    """What a reader wants to know of a job in this state, in a few words."""
    match job.state:
        case State.DEAD | State.CANCELLED | State.RETRYING if job.error:
            return f"{job.error_class}: {job.error}" if job.error_class else job.error
        case State.SCHEDULED | State.RETRYING:
            return f"due {moment(job.due_at)}"
        case State.RUNNING:
            return _progress(job)
        case _:
            return ""


def _progress(job: JobRecord) -> str:
    share = "" if job.progress is None else f"{job.progress:.0%}"
    asked = "asked to stop" if job.cancel_requested_at else ""
    return " ".join(part for part in (share, job.progress_note or "", asked) if part)


def show_job(job_id: UUID, *, full: bool, as_json: bool) -> Exit:
    """Prints all that is known of a job, with its failed attempts."""

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
            ("state", job.state + (f", {job.note}" if job.note else "")),
            ("attempt", f"{job.attempt} of {job.max_attempts}, {span(job.timeout)} each"),
            ("snoozes", str(job.snoozes or "")),
            ("releases", str(job.releases or "")),
            ("unique key", job.unique_key or ""),
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
        for line in _attempt(attempt, job.max_attempts, full):
            print(line)


def _resolved(job: JobRecord) -> str:
    if job.resolved_at is None:
        return ""
    return f"{moment(job.resolved_at)} by {job.resolved_by}: {job.resolved_reason}"


def _attempt(attempt: AttemptRecord, of: int, full: bool) -> Iterator[str]:
    took = f", after {span((attempt.ended_at - attempt.started_at).total_seconds())}" if attempt.started_at else ""
    where = f" on {attempt.worker}" if attempt.worker else ""
    yield clean(f"attempt {attempt.attempt} of {of}: {attempt.cause} at {moment(attempt.ended_at)}{took}{where}")
    yield "  " + clean(": ".join(part for part in (attempt.error_class, attempt.error) if part))
    lines = clean_lines(attempt.traceback or "").splitlines()
    if not full and len(lines) > _FOLDED + 1:
        yield f"  | … {len(lines) - _FOLDED} lines more of the traceback: --full"
        lines = lines[-_FOLDED:]
    for line in lines:
        yield f"  | {line}"


def _json(value: Any) -> str:
    return written(value).decode()


Action = Literal["retry", "cancel", "run now", "discard"]


def act(action: Action, ids: Sequence[UUID], *, reason: str | None = None, as_json: bool) -> Exit:
    """Does it to each job; goes on after one that it cannot be done to, and exits with the first such one's code."""
    declared()

    async def go() -> Exit:
        code = Exit.OK
        done: list[dict[str, Any]] = []
        async with connected() as client:
            for job_id in dict.fromkeys(ids):
                try:
                    job = await _done(client, action, job_id, reason)
                except CarafeError as error:
                    done.append({"id": job_id, "error": {"code": error.code, "message": str(error)}})
                    code = code or report(error) or Exit.FAILED
                    continue
                done.append({"id": job_id, "state": job.state})
                if not as_json:
                    asked = ", asked to stop" if job.cancel_requested_at and not job.state.ended else ""
                    print(f"{job_id}  {job.state}{asked}")
        if as_json:
            show_json(done)
        return code

    return asyncio.run(go())


async def _done(client: Client, action: Action, job_id: UUID, reason: str | None) -> JobRecord:
    match action:
        case "retry":
            return await client.retry(job_id, reason=reason, by=actor())
        case "cancel":
            return await client.cancel(job_id, reason=reason, by=actor())
        case "run now":
            return await client.run_now(job_id, reason=reason, by=actor())
        case "discard":
            return await client.discard(job_id, reason=reason or "", by=actor())


def edit_and_run(job_id: UUID, words: Sequence[str], *, json_args: str | None, run_at: str | None, as_json: bool) -> Exit:
    """Enqueues a job's kind again with some arguments changed, and says the new job's id."""
    due = None if run_at is None else moment_of(run_at, "--run-at")
    declared()

    async def go() -> Exit:
        async with connected() as client:
            old = await client.get(job_id)
            given = job_arguments(job_class(old.kind), words, json_args)
            # Words change the stored arguments; --json-args takes their place.
            arguments = given if json_args is not None or not isinstance(old.args, dict) else {**old.args, **given}
            kept = [pointer for pointer in old.secrets if _is_redacted(arguments, pointer)]
            answer = await client.edit_and_run(job_id, arguments, kept, run_at=due, by=actor())
        if as_json:
            show_json({"id": answer.id, "kind": answer.kind, "state": answer.state, "origin": job_id})
        else:
            print(answer.id)
        return Exit.OK

    return asyncio.run(go())


def _is_redacted(arguments: Any, pointer: str) -> bool:
    """Whether the placeholder that `jobs show` prints still stands there: then the stored secret is meant."""
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(arguments, list) and key.isdecimal() and int(key) < len(arguments):
            arguments = arguments[int(key)]
        elif isinstance(arguments, dict) and key in arguments:
            arguments = arguments[key]
        else:
            return False
    return bool(arguments == REDACTED)


def wait(job_id: UUID, *, timeout: str | None, as_json: bool) -> Exit:
    """Follows a job to its end, and prints it; the exit code says which end it was."""
    limit = None if timeout is None else span_of(timeout, "--timeout")

    async def go() -> Exit:
        async with connected() as client:
            try:
                job = await client.wait(job_id, timeout=limit)
            except TimeoutError:
                raise Failure(f"job {job_id} has not ended within {span(limit or 0)}", Exit.NOT_ENDED) from None
        if as_json:
            show_json(job)
        else:
            _show(job, full=False)
        return {State.DEAD: Exit.DEAD, State.CANCELLED: Exit.CANCELLED}.get(job.state, Exit.OK)

    return asyncio.run(go())


def queues(*, as_json: bool) -> Exit:
    """Prints every queue in numbers."""

    async def go() -> Exit:
        async with connected() as client:
            found = await client.queues()
        if as_json:
            show_json(found)
            return Exit.OK
        show_table(
            ("QUEUE", "QUEUED", "RUNNING", "SCHEDULED", "RETRYING", "DEAD", "OLDEST WAIT", "PAUSED"),
            [
                (
                    queue.name,
                    str(queue.queued),
                    str(queue.running),
                    str(queue.scheduled),
                    str(queue.retrying),
                    str(queue.dead),
                    span(queue.oldest_wait or 0) if queue.queued else "",
                    _paused(queue),
                )
                for queue in found
            ],
        )
        return Exit.OK

    return asyncio.run(go())


def _paused(queue: QueueRecord) -> str:
    if queue.paused_at is None:
        return ""
    by = f" by {queue.paused_by}" if queue.paused_by else ""
    return f"since {moment(queue.paused_at)}{by}" + (f": {queue.paused_reason}" if queue.paused_reason else "")


def pause(queue: str, *, reason: str | None, as_json: bool) -> Exit:
    """Pauses a queue, and says since when it is."""

    async def go() -> Exit:
        async with connected() as client:
            record = await client.pause(queue, reason=reason, by=actor())
        if as_json:
            show_json(record)
        else:
            print(clean(f"{record.name}  paused {_paused(record)}"))
        return Exit.OK

    return asyncio.run(go())


def resume(queue: str, *, reason: str | None, as_json: bool) -> Exit:
    """Resumes a queue, and says what waits in it."""

    async def go() -> Exit:
        async with connected() as client:
            record = await client.resume(queue, reason=reason, by=actor())
        if as_json:
            show_json(record)
        else:
            waiting = "its jobs were not counted in time" if record.queued is None else f"{record.queued} queued"
            print(clean(f"{record.name}  resumed, {waiting}"))
        return Exit.OK

    return asyncio.run(go())


def show_kinds(*, as_json: bool) -> Exit:
    """Prints the kinds that JOB_MODULES declare, with their options and arguments. Asks no server."""
    settings = declared()
    found = [job for _, job in sorted(kinds().items())]
    if as_json:
        show_json([_kind(job, settings) for job in found])
        return Exit.OK
    if not found:
        say(f"no kinds: JOB_MODULES ({', '.join(settings.job_modules) or 'empty'}) declares none")
        return Exit.OK
    rows = []
    for job in found:
        kind = _kind(job, settings)
        rows.append((kind["kind"], str(kind["version"]), span(kind["timeout"]), str(kind["max_retries"]), _arguments(job)))
    show_table(("KIND", "VERSION", "TIMEOUT", "RETRIES", "ARGUMENTS"), rows)
    return Exit.OK


def _kind(job: type[Job], settings: Settings) -> dict[str, Any]:
    options = job.job_options
    return {
        "kind": options.kind,
        "version": options.version,
        "timeout": settings.job_timeout if options.timeout is None else options.timeout,
        "max_retries": settings.job_max_retries if options.max_retries is None else options.max_retries,
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
