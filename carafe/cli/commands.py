"""The commands and their options, as typer reads them; what they do stands in the modules beside this one."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

import typer

from carafe.cli.exits import Exit

app = typer.Typer(
    name="carafe",
    help="Background jobs: enqueue, follow and act on them; run the web process and the workers.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

jobs = typer.Typer(help="Look at jobs and act on them.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(jobs, name="jobs")

queues = typer.Typer(
    help="Show every queue in numbers; pause and resume one.", invoke_without_command=True, rich_markup_mode=None
)
app.add_typer(queues, name="queues")

bulk = typer.Typer(
    help="Retry, cancel, discard or run now many jobs at once; without a command: the newest of these.",
    invoke_without_command=True,
    rich_markup_mode=None,
)
app.add_typer(bulk, name="bulk")

workers = typer.Typer(help="Show the workers; drain one.", invoke_without_command=True, rich_markup_mode=None)
app.add_typer(workers, name="workers")

dashboard = typer.Typer(
    help="Let people in to the dashboard: passwords and keys for the settings.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(dashboard, name="dashboard")

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def run(arguments: Sequence[str]) -> int:
    """Runs one command line; returns the exit code."""
    try:
        code = app(args=list(arguments), prog_name="carafe", standalone_mode=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(Exit.OK if end.code is None else Exit.FAILED)
    return int(code or 0)


@app.command()
def serve(
    worker: Annotated[bool, typer.Option("--worker", help="Run a worker instead of the web process.")] = False,
    dashboard: Annotated[
        bool, typer.Option("--dashboard", help="Run the dashboard alone instead of the web process, which has it too.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Only see that a worker would run; code 1 if not.")] = False,
) -> None:
    """Run the web process, or with --worker a worker, or with --dashboard the dashboard, until SIGTERM or Ctrl-C."""
    if worker and dashboard:
        raise typer.BadParameter("one process is either a worker or the dashboard", param_hint="--dashboard")
    if check:
        from carafe.cli.serving import check_worker

        if not worker:
            raise typer.BadParameter("goes with --worker: `carafe serve --worker --check`", param_hint="--check")
        raise typer.Exit(check_worker())
    from carafe.cli.serving import serve_dashboard, serve_web, serve_worker

    raise typer.Exit(serve_worker() if worker else serve_dashboard() if dashboard else serve_web())


@app.command()
def dev() -> None:
    """Run everything in one process: Postgres and Valkey (unless their URLs are set), web and worker."""
    from carafe.dev import run_dev
    from carafe.settings import load_api_settings

    raise typer.Exit(run_dev(load_api_settings()))


@app.command()
def migrate(as_json: Json = False) -> None:
    """Upgrade the schema to what this version needs; harmless when it is, and when several do it at once.

    Needs Postgres alone. Waits for locks a second at a time, and says who holds them.
    """
    from carafe.cli.exits import say
    from carafe.cli.output import show_json
    from carafe.cli.serving import migrate as upgrade
    from carafe.development import with_servers
    from carafe.settings import load_schema_settings

    done = upgrade(with_servers(load_schema_settings(), needed=("database_url",)), tell=say)
    if as_json:
        show_json({"applied": done})
    else:
        print("\n".join(f"applied {step}" for step in done) or "nothing to do: the schema is current")


# The names of carafe.jobs.State, which would be slow to import for a `--help`; a test compares the two.
StateName = StrEnum("StateName", ["scheduled", "queued", "running", "retrying", "succeeded", "dead", "cancelled"])


@app.command()
def enqueue(
    kind: Annotated[str, typer.Argument(help="The job's kind; `carafe kinds` lists them.", show_default=False)],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=VALUE]...", help="Its arguments; JSON where the job does not take text."),
    ] = None,
    json_args: Annotated[str | None, typer.Option(help="All arguments as one JSON object.")] = None,
    run_at: Annotated[str | None, typer.Option(help="When to run it, such as 2026-01-31T12:00:00Z.")] = None,
    delay: Annotated[str | None, typer.Option(help="How long to wait first, such as 30 (seconds), 5m, 2h.")] = None,
    unique_key: Annotated[str | None, typer.Option(help="At most one live job holds a key.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="The same request twice is one job.")] = None,
    as_json: Json = False,
) -> None:
    """Enqueue a job; prints its id once it is committed."""
    from carafe.cli import jobs as work

    code = work.enqueue(
        kind,
        arguments or [],
        json_args=json_args,
        run_at=run_at,
        delay=delay,
        unique_key=unique_key,
        idempotency_key=idempotency_key,
        as_json=as_json,
    )
    raise typer.Exit(code)


@jobs.command("list")
def list_jobs(
    state: Annotated[list[StateName] | None, typer.Option(help="Only this state; may be repeated.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only this kind.")] = None,
    since: Annotated[
        str | None,
        typer.Option(help="Created (ended ones: ended) since then, such as 2h or 2026-01-31T12:00:00Z."),
    ] = None,
    limit: Annotated[int, typer.Option(help="How many, from 1 to 500.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Where the page before ended.")] = None,
    as_json: Json = False,
) -> None:
    """List jobs, newest first."""
    from carafe.cli import jobs as work
    from carafe.jobs import State

    states = [State(name) for name in state or []]
    raise typer.Exit(work.list_jobs(states=states, kind=kind, since=since, limit=limit, cursor=cursor, as_json=as_json))


@jobs.command("show")
def show_job(
    job_id: Annotated[UUID, typer.Argument(metavar="ID", show_default=False)],
    full: Annotated[bool, typer.Option("--full", help="Tracebacks as a whole.")] = False,
    as_json: Json = False,
) -> None:
    """Show a job and its failed attempts, secrets redacted."""
    from carafe.cli import jobs as work

    raise typer.Exit(work.show_job(job_id, full=full, as_json=as_json))


Ids = Annotated[list[UUID], typer.Argument(metavar="ID", show_default=False)]


Why = Annotated[str | None, typer.Option("--reason", help="Why, for those who find it later; the audit has it.")]


@jobs.command("retry")
def retry_jobs(ids: Ids, reason: Why = None, as_json: Json = False) -> None:
    """Run dead jobs again, and scheduled or retrying ones at once."""
    from carafe.cli import jobs as work

    raise typer.Exit(work.act("retry", ids, reason=reason, as_json=as_json))


@jobs.command("run-now")
def run_jobs_now(ids: Ids, reason: Why = None, as_json: Json = False) -> None:
    """Run scheduled and retrying jobs at once."""
    from carafe.cli import jobs as work

    raise typer.Exit(work.act("run now", ids, reason=reason, as_json=as_json))


@jobs.command("cancel")
def cancel_jobs(
    ids: Ids,
    reason: Annotated[str | None, typer.Option(help="What the jobs, and the audit, keep as the reason.")] = None,
    as_json: Json = False,
) -> None:
    """Cancel jobs; a running one is asked to stop."""
    from carafe.cli import jobs as work

    raise typer.Exit(work.act("cancel", ids, reason=reason, as_json=as_json))


@jobs.command("discard")
def discard_jobs(
    ids: Ids,
    reason: Annotated[str, typer.Option(help="Why they are given up; kept with the jobs.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Give dead jobs up: they count no more, and stay findable until their retention."""
    from carafe.cli import jobs as work

    raise typer.Exit(work.act("discard", ids, reason=reason, as_json=as_json))


@jobs.command("edit")
def edit_job(
    job_id: Annotated[UUID, typer.Argument(metavar="ID", show_default=False)],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="What is other than in the stored arguments.")
    ] = None,
    json_args: Annotated[str | None, typer.Option(help="All arguments anew, as one JSON object.")] = None,
    run_at: Annotated[str | None, typer.Option(help="When to run it, such as 2026-01-31T12:00:00Z.")] = None,
    as_json: Json = False,
) -> None:
    """Run a job again with other arguments, as a new job; prints its id. Secrets that are not given are kept."""
    from carafe.cli import jobs as work

    code = work.edit_and_run(job_id, arguments or [], json_args=json_args, run_at=run_at, as_json=as_json)
    raise typer.Exit(code)


@jobs.command("wait")
def wait_for_job(
    job_id: Annotated[UUID, typer.Argument(metavar="ID", show_default=False)],
    timeout: Annotated[str | None, typer.Option(help="How long to wait at most, such as 30 (seconds), 5m.")] = None,
    as_json: Json = False,
) -> None:
    """Follow a job to its end. Exit code 0: succeeded, 6: dead, 7: cancelled, 8: not ended in time."""
    from carafe.cli import jobs as work

    raise typer.Exit(work.wait(job_id, timeout=timeout, as_json=as_json))


@queues.callback()
def show_queues(context: typer.Context, as_json: Json = False) -> None:
    """Show every queue in numbers; pause and resume one."""
    if context.invoked_subcommand is not None:
        return
    from carafe.cli import jobs as work

    raise typer.Exit(work.queues(as_json=as_json))


QueueName = Annotated[str, typer.Argument(metavar="[QUEUE]", help="Which; `carafe queues` lists them.")]


@queues.command("pause")
def pause_queue(
    queue: QueueName = "default",
    reason: Annotated[str | None, typer.Option(help="Why, for those who find it paused.")] = None,
    as_json: Json = False,
) -> None:
    """Start no more jobs of a queue until it is resumed; what runs goes on, and jobs are still accepted."""
    from carafe.cli import jobs as work

    raise typer.Exit(work.pause(queue, reason=reason, as_json=as_json))


@queues.command("resume")
def resume_queue(queue: QueueName = "default", reason: Why = None, as_json: Json = False) -> None:
    """Start what waits in a paused queue again."""
    from carafe.cli import jobs as work

    raise typer.Exit(work.resume(queue, reason=reason, as_json=as_json))


@bulk.callback()
def show_bulk_actions(
    context: typer.Context,
    limit: Annotated[int, typer.Option(help="How many, from 1 to 500.")] = 20,
    as_json: Json = False,
) -> None:
    """Retry, cancel, discard or run now many jobs at once; without a command: the newest of these."""
    if context.invoked_subcommand is not None:
        return
    from carafe.cli import bulk as work

    raise typer.Exit(work.show_all(limit=limit, as_json=as_json))


@bulk.command("start")
def start_bulk_action(
    action: Annotated[Literal["retry", "cancel", "discard", "run_now"], typer.Argument(show_default=False)],
    everything: Annotated[bool, typer.Option("--all", help="All jobs that this can be done to.")] = False,
    state: Annotated[list[StateName] | None, typer.Option(help="Only this state; may be repeated.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only this kind.")] = None,
    error_class: Annotated[str | None, typer.Option(help="Only this class of error, such as ConnectTimeout.")] = None,
    fingerprint: Annotated[str | None, typer.Option(help="Only this group of dead jobs.")] = None,
    text: Annotated[str | None, typer.Option(help="Only errors that hold this text.")] = None,
    arg: Annotated[str | None, typer.Option(metavar="NAME=VALUE", help="Only this value of an argument.")] = None,
    worker: Annotated[UUID | None, typer.Option(help="Only what ran or runs there.")] = None,
    since: Annotated[str | None, typer.Option(help="Ended (live ones: created) since then, such as 2h.")] = None,
    until: Annotated[str | None, typer.Option(help="Ended (live ones: created) before then.")] = None,
    resolved: Annotated[
        bool | None, typer.Option("--resolved/--unresolved", help="Only dead jobs that are given up, or are not.")
    ] = None,
    job_id: Annotated[list[UUID] | None, typer.Option("--id", help="Only this job; may be repeated.")] = None,
    rate: Annotated[
        float | None, typer.Option(help="Jobs a second at most; a retry of more than 1,000 gets 50 by default.")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Why, for those who find it later; a discard needs one.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it to its end. Exit code 1: some jobs failed.")] = False,
    as_json: Json = False,
) -> None:
    """Do it to all jobs that meet the filter now; the steward works it off. Prints the bulk action's id."""
    from carafe.cli import bulk as work

    options = {
        "state": [one.value for one in state or []],
        "kind": [kind] if kind else [],
        "error_class": [error_class] if error_class else [],
        "fingerprint": [fingerprint] if fingerprint else [],
        "text": [text] if text else [],
        "worker": [str(worker)] if worker else [],
        "resolved": [] if resolved is None else ["true" if resolved else "false"],
        "id": [str(one) for one in job_id or []],
    }
    jobs_wanted = work.wanted(options, argument=arg, since=since, until=until)
    code = work.start(action, jobs_wanted, everything=everything, rate=rate, reason=reason, wait=wait, as_json=as_json)
    raise typer.Exit(code)


BulkId = Annotated[UUID, typer.Argument(metavar="ID", show_default=False)]


@bulk.command("show")
def show_bulk_action(bulk_id: BulkId, as_json: Json = False) -> None:
    """Show how far a bulk action has come, and what could not be done."""
    from carafe.cli import bulk as work

    raise typer.Exit(work.show(bulk_id, as_json=as_json))


@bulk.command("pause")
def pause_bulk_action(bulk_id: BulkId, as_json: Json = False) -> None:
    """Stop a bulk action after the batch under way, until it is resumed."""
    from carafe.cli import bulk as work

    raise typer.Exit(work.steer(bulk_id, "pause", as_json=as_json))


@bulk.command("resume")
def resume_bulk_action(bulk_id: BulkId, as_json: Json = False) -> None:
    """Let a paused bulk action go on."""
    from carafe.cli import bulk as work

    raise typer.Exit(work.steer(bulk_id, "resume", as_json=as_json))


@bulk.command("cancel")
def cancel_bulk_action(bulk_id: BulkId, as_json: Json = False) -> None:
    """End a bulk action: what is done stays done."""
    from carafe.cli import bulk as work

    raise typer.Exit(work.steer(bulk_id, "cancel", as_json=as_json))


@workers.callback()
def show_workers(context: typer.Context, as_json: Json = False) -> None:
    """Show the workers; drain one."""
    if context.invoked_subcommand is not None:
        return
    from carafe.cli import operators as work

    raise typer.Exit(work.workers(as_json=as_json))


@workers.command("drain")
def drain_worker(
    worker_id: Annotated[UUID, typer.Argument(metavar="ID", help="`carafe workers` lists them.", show_default=False)],
    reason: Why = None,
    as_json: Json = False,
) -> None:
    """Let a worker finish what it runs, take nothing more, and end, as at SIGTERM."""
    from carafe.cli import operators as work

    raise typer.Exit(work.drain(worker_id, reason=reason, as_json=as_json))


@app.command()
def audit(
    target: Annotated[str | None, typer.Option(help="Only what was done to this job, worker, queue or bulk action.")] = None,
    limit: Annotated[int, typer.Option(help="How many, from 1 to 500.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Where the page before ended.")] = None,
    as_json: Json = False,
) -> None:
    """List what operators did, newest first."""
    from carafe.cli import operators as work

    raise typer.Exit(work.audit(target=target, limit=limit, cursor=cursor, as_json=as_json))


@app.command()
def steward() -> None:
    """Run the upkeep alone (promote, repair, rescue, prune, sample), until SIGTERM or Ctrl-C."""
    from carafe.cli.serving import serve_steward

    raise typer.Exit(serve_steward())


@app.command()
def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: Json = False,
) -> None:
    """Delete now what has outlived its retention; the steward does it by itself every minute."""
    from carafe.cli.pruning import prune as work

    raise typer.Exit(work(dry_run=dry_run, as_json=as_json))


@app.command()
def kinds(as_json: Json = False) -> None:
    """List the kinds of jobs that JOB_MODULES declare, with their arguments."""
    from carafe.cli import jobs as work

    raise typer.Exit(work.show_kinds(as_json=as_json))


@app.command()
def config(as_json: Json = False) -> None:
    """Print the effective settings, secrets redacted, and where each comes from."""
    from carafe.cli.configuring import show_config

    raise typer.Exit(show_config(as_json=as_json))


@app.command()
def token(
    name: Annotated[str, typer.Argument(help="Whose token it is; logs and jobs show it.", show_default=False)],
    role: Annotated[Literal["view", "operate"], typer.Argument(show_default=False)],
    as_json: Json = False,
) -> None:
    """Make a token for the HTTP API, and its entry for API_TOKENS. The token is shown this once."""
    from carafe.cli.configuring import make_token

    raise typer.Exit(make_token(name, role, as_json=as_json))


@dashboard.command("hash-password")
def hash_password(
    name: Annotated[str, typer.Argument(help="Who signs in; what they do is written down under it.", show_default=False)],
    role: Annotated[Literal["view", "operate"], typer.Argument(show_default=False)],
    as_json: Json = False,
) -> None:
    """Make somebody's entry for DASHBOARD_USERS. Asks for the password, or reads it from standard input."""
    from carafe.cli.configuring import make_dashboard_user

    raise typer.Exit(make_dashboard_user(name, role, as_json=as_json))


@dashboard.command("secret-key")
def secret_key(as_json: Json = False) -> None:
    """Make a key for DASHBOARD_SECRET_KEYS."""
    from carafe.cli.configuring import make_secret_key

    raise typer.Exit(make_secret_key(as_json=as_json))


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what is reachable and what is misconfigured, with what to do. Exit code 1: something is broken."""
    from carafe.cli.configuring import show_findings

    raise typer.Exit(show_findings(as_json=as_json))


@app.command()
def version(as_json: Json = False) -> None:
    """Print the version."""
    from carafe.cli.configuring import show_version

    raise typer.Exit(show_version(as_json=as_json))
