"""Declares the commands and their options for typer. The other modules of `carafe.cli` do the work."""

from collections.abc import Sequence
from typing import Annotated, Literal
from uuid import UUID

import typer

from carafe.cli import completing
from carafe.cli.exits import Exit
from carafe.cli.filtering import filtered
from carafe.cli.job_options import with_job_options
from carafe.jobs.actions import ACTIONS, Action, ActionName
from carafe.jobs.states import State
from carafe.store.filters import JobFilter

app = typer.Typer(
    name="carafe",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

jobs = typer.Typer(help="Look at jobs and act on them.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(jobs, name="jobs")

queues = typer.Typer(
    help="Show the number of jobs in each queue; pause or resume a queue.",
    invoke_without_command=True,
    rich_markup_mode=None,
)
app.add_typer(queues, name="queues")

kinds = typer.Typer(
    help="Show the kinds that JOB_MODULES declare; pause and resume one.", invoke_without_command=True, rich_markup_mode=None
)
app.add_typer(kinds, name="kinds")

bulk = typer.Typer(
    help="Act on many jobs at once. Without a command: list the newest bulk actions.",
    invoke_without_command=True,
    rich_markup_mode=None,
)
app.add_typer(bulk, name="bulk")

workers = typer.Typer(help="Show the workers; drain one.", invoke_without_command=True, rich_markup_mode=None)
app.add_typer(workers, name="workers")

dashboard = typer.Typer(
    help="Create passwords and keys for the dashboard's settings.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(dashboard, name="dashboard")

ExportFormat = Literal["jsonl", "csv"]

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def run(arguments: Sequence[str]) -> int:
    """Runs the command that `arguments` give, and returns its exit code."""
    try:
        code = app(args=list(arguments), prog_name="carafe", standalone_mode=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(Exit.OK if end.code is None else Exit.FAILED)
    return int(code or 0)


def _print_version(wanted: bool) -> None:
    if wanted:
        from carafe.cli.configuring import show_version

        raise typer.Exit(show_version(as_json=False))


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Background jobs: enqueue, follow and act on them; run the web process and the workers."""


@app.command()
def init(
    name: Annotated[str, typer.Argument(help="The application's name, that of its folder and package.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Write a new application into the folder NAME: a job, its handler, a route that enqueues it, and a test."""
    from carafe.cli.init import init as work

    raise typer.Exit(work(name, as_json=as_json))


@app.command()
def serve(
    worker: Annotated[bool, typer.Option("--worker", help="Run a worker instead of the web process.")] = False,
    dashboard: Annotated[
        bool, typer.Option("--dashboard", help="Run only the dashboard, instead of the web process, which includes it.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Only check that a worker could run; exit code 1 if not.")] = False,
) -> None:
    """Run the web process, or with --worker a worker, or with --dashboard the dashboard, until SIGTERM or Ctrl-C."""
    if worker and dashboard:
        raise typer.BadParameter("one process is either a worker or the dashboard", param_hint="--dashboard")
    if check:
        from carafe.cli.serving import check_worker

        if not worker:
            raise typer.BadParameter("needs --worker: `carafe serve --worker --check`", param_hint="--check")
        raise typer.Exit(check_worker())
    from carafe.cli.serving import serve_dashboard, serve_web, serve_worker

    raise typer.Exit(serve_worker() if worker else serve_dashboard() if dashboard else serve_web())


@app.command()
def dev(
    reload: Annotated[
        bool, typer.Option("--reload", help="Start web and worker again when the application's files change.")
    ] = False,
    servers: Annotated[bool, typer.Option("--servers", help="Run only Postgres and Valkey, and print their URLs.")] = False,
    port: Annotated[int | None, typer.Option(help="The web port, in place of PORT; 0: a free one.")] = None,
    dashboard_port: Annotated[
        int | None, typer.Option(help="The dashboard's port, in place of DASHBOARD_PORT; 0: a free one.")
    ] = None,
    stopped_by: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run everything for development: web, dashboard and worker, and Postgres and Valkey unless their URLs are set."""
    from carafe.cli.developing import run

    raise typer.Exit(run(reload=reload, servers=servers, port=port, dashboard_port=dashboard_port, stopped_by=stopped_by))


@app.command()
def migrate(
    new: Annotated[
        str | None,
        typer.Option("--new", metavar="MESSAGE", help="Write a revision for a package of MIGRATIONS instead of upgrading."),
    ] = None,
    package: Annotated[
        str | None, typer.Option(help="With --new: the package that gets the revision, if MIGRATIONS names several.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Upgrade the schema to what this version needs, and print the revisions that were applied.

    Does nothing when the schema is current. May run several times at once. Needs only Postgres. Waits for locks a second
    at a time, and says who holds them. With --new, the revision contains what the database lacks of the package's
    `target_metadata`; if the package names none, the revision is empty.
    """
    from carafe.cli import migrating as work

    if package is not None and new is None:
        raise typer.BadParameter("goes with --new", param_hint="--package")
    raise typer.Exit(work.migrate(as_json=as_json) if new is None else work.write(new, package, as_json=as_json))


@app.command()
@with_job_options
def enqueue(
    kind: Annotated[
        str,
        typer.Argument(
            help="The job's kind; `carafe kinds` lists them.", show_default=False, autocompletion=completing.kinds
        ),
    ],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=VALUE]...",
            help="The job's arguments, as JSON where the job does not take text.",
        ),
    ] = None,
    json_args: Annotated[str | None, typer.Option(help="All arguments as one JSON object.")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="Repeating the command with the same key enqueues no second job.")
    ] = None,
    as_json: Json = False,
    **options: str,
) -> None:
    """Enqueue a job, and print its id after the commit."""
    from carafe.cli import jobs as work

    code = work.enqueue(
        kind,
        arguments or [],
        json_args=json_args,
        options=options,
        idempotency_key=idempotency_key,
        as_json=as_json,
    )
    raise typer.Exit(code)


JobId = Annotated[UUID, typer.Argument(metavar="ID", show_default=False, autocompletion=completing.jobs_in())]


@jobs.command("list")
@filtered
def list_jobs(
    wanted: JobFilter,
    limit: Annotated[
        int | None, typer.Option(help="How many, from 1 to 500; default: 50. With --format any number; default: all.")
    ] = None,
    cursor: Annotated[str | None, typer.Option(help="`next_cursor` of the previous page.")] = None,
    as_json: Json = False,
    export: Annotated[
        ExportFormat | None,
        typer.Option("--format", help="Print every job that matches, as JSON lines or as CSV, instead of one page."),
    ] = None,
) -> None:
    """List the jobs that match every option given, newest first."""
    if export is not None:
        from carafe.cli.exporting import export_jobs

        if as_json:
            raise typer.BadParameter("--json prints one page, --format every job: leave one out", param_hint="--format")
        raise typer.Exit(export_jobs(wanted, export, limit=limit, cursor=cursor))
    from carafe.cli import jobs as work

    raise typer.Exit(work.list_jobs(wanted, limit=50 if limit is None else limit, cursor=cursor, as_json=as_json))


@jobs.command("show")
def show_job(
    job_id: JobId,
    full: Annotated[bool, typer.Option("--full", help="Print whole tracebacks.")] = False,
    as_json: Json = False,
) -> None:
    """Show a job and its failed attempts, secrets redacted."""
    from carafe.cli import jobs as work

    raise typer.Exit(work.show_job(job_id, full=full, as_json=as_json))


Why = Annotated[str | None, typer.Option("--reason", help="The reason; stored in the audit.")]


def _add_command(action: Action) -> None:
    """Add the command ``jobs NAME`` for an action. Its option --reason is required if the action needs a reason."""
    needed = typer.Option("--reason", help=f"Why; {action.reason_needed}.", show_default=False)
    jobs_of_it = typer.Argument(metavar="ID", show_default=False, autocompletion=completing.jobs_in(action.states))

    def act(ids: Annotated[list[UUID], jobs_of_it], reason: Why = None, as_json: Json = False) -> None:
        from carafe.cli import jobs as work

        raise typer.Exit(work.act(action.name, ids, reason=reason, as_json=as_json))

    def act_for_a_reason(
        ids: Annotated[list[UUID], jobs_of_it], reason: Annotated[str, needed], as_json: Json = False
    ) -> None:
        act(ids, reason, as_json)

    command = jobs.command(action.name, help=f"{action.summary}. {action.description}")
    command(act_for_a_reason if action.reason_needed else act)


for _action in ACTIONS.values():
    _add_command(_action)


@jobs.command("edit")
def edit_job(
    job_id: JobId,
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="Arguments to change; the others stay as stored.")
    ] = None,
    json_args: Annotated[str | None, typer.Option(help="All arguments as one JSON object, instead of the old ones.")] = None,
    run_at: Annotated[str | None, typer.Option(help="When to run it, such as 2026-01-31T12:00:00Z.")] = None,
    as_json: Json = False,
) -> None:
    """Run a job again with other arguments, as a new job; prints its id. Secrets that are not given are kept."""
    from carafe.cli import jobs as work

    code = work.edit_and_run(job_id, arguments or [], json_args=json_args, run_at=run_at, as_json=as_json)
    raise typer.Exit(code)


@jobs.command("wait")
def wait_for_job(
    job_id: JobId,
    timeout: Annotated[str | None, typer.Option(help="Maximum wait, such as 30 (seconds) or 5m.")] = None,
    as_json: Json = False,
) -> None:
    """Follow a job to its end. Exit code 0: succeeded, 6: dead, 7: cancelled, 8: not ended in time."""
    from carafe.cli import jobs as work

    raise typer.Exit(work.wait(job_id, timeout=timeout, as_json=as_json))


@jobs.command("stack")
def show_stack(
    job_id: Annotated[
        UUID, typer.Argument(metavar="ID", show_default=False, autocompletion=completing.jobs_in([State.RUNNING]))
    ],
    as_json: Json = False,
) -> None:
    """Show where a running job is: its lines of code, as its worker says. Exit code 9: the worker has not answered."""
    from carafe.cli import jobs as work

    raise typer.Exit(work.stack(job_id, as_json=as_json))


@queues.callback()
def show_queues(context: typer.Context, as_json: Json = False) -> None:
    """Show the number of jobs in each queue; pause or resume a queue."""
    if context.invoked_subcommand is not None:
        return
    from carafe.cli import jobs as work

    raise typer.Exit(work.queues(as_json=as_json))


QueueName = Annotated[str, typer.Argument(metavar="[QUEUE]", help="The queue's name; `carafe queues` lists the queues.")]


@queues.command("pause")
def pause_queue(
    queue: QueueName = "default",
    reason: Annotated[str | None, typer.Option(help="The reason; shown while the queue is paused.")] = None,
    as_json: Json = False,
) -> None:
    """Start no more jobs of a queue until it is resumed; running jobs finish, and jobs are still accepted."""
    from carafe.cli import jobs as work

    raise typer.Exit(work.pause(queue, reason=reason, as_json=as_json))


@queues.command("resume")
def resume_queue(queue: QueueName = "default", reason: Why = None, as_json: Json = False) -> None:
    """Start the jobs of a paused queue again."""
    from carafe.cli import jobs as work

    raise typer.Exit(work.resume(queue, reason=reason, as_json=as_json))


@bulk.callback()
def show_bulk_actions(
    context: typer.Context,
    limit: Annotated[int, typer.Option(help="How many, from 1 to 500.")] = 20,
    as_json: Json = False,
) -> None:
    """Act on many jobs at once. Without a command: list the newest bulk actions."""
    if context.invoked_subcommand is not None:
        return
    from carafe.cli import bulk as work

    raise typer.Exit(work.show_all(limit=limit, as_json=as_json))


@bulk.command("start")
@filtered
def start_bulk_action(
    action: Annotated[ActionName, typer.Argument(show_default=False)],
    wanted: JobFilter,
    everything: Annotated[bool, typer.Option("--all", help="All jobs that the action applies to.")] = False,
    rate: Annotated[
        float | None, typer.Option(help="Maximum jobs per second; default for a retry of more than 1,000 jobs: 50.")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="The reason; stored in the audit. Required for a discard.")] = None,
    wait: Annotated[
        bool,
        typer.Option("--wait", help="Wait until it has ended. Exit code 1: some jobs failed."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Start an action on all jobs that match the filter now. The steward carries it out. Prints the bulk action's id."""
    from carafe.cli import bulk as work

    code = work.start(action, wanted, everything=everything, rate=rate, reason=reason, wait=wait, as_json=as_json)
    raise typer.Exit(code)


BulkId = Annotated[UUID, typer.Argument(metavar="ID", show_default=False, autocompletion=completing.bulk_actions)]


@bulk.command("show")
def show_bulk_action(bulk_id: BulkId, as_json: Json = False) -> None:
    """Show how far a bulk action has come, and how many jobs could not be changed."""
    from carafe.cli import bulk as work

    raise typer.Exit(work.show(bulk_id, as_json=as_json))


@bulk.command("pause")
def pause_bulk_action(bulk_id: BulkId, as_json: Json = False) -> None:
    """Pause a bulk action after its current batch, until it is resumed."""
    from carafe.cli import bulk as work

    raise typer.Exit(work.steer(bulk_id, "pause", as_json=as_json))


@bulk.command("resume")
def resume_bulk_action(bulk_id: BulkId, as_json: Json = False) -> None:
    """Let a paused bulk action continue."""
    from carafe.cli import bulk as work

    raise typer.Exit(work.steer(bulk_id, "resume", as_json=as_json))


@bulk.command("cancel")
def cancel_bulk_action(bulk_id: BulkId, as_json: Json = False) -> None:
    """Stop a bulk action for good. Jobs that it has already changed stay changed."""
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
    worker_id: Annotated[
        UUID,
        typer.Argument(
            metavar="ID", help="`carafe workers` lists them.", show_default=False, autocompletion=completing.workers
        ),
    ],
    reason: Why = None,
    as_json: Json = False,
) -> None:
    """Drain a worker as SIGTERM does: it claims no new jobs, finishes running ones, and exits."""
    from carafe.cli import operators as work

    raise typer.Exit(work.drain(worker_id, reason=reason, as_json=as_json))


@app.command()
def audit(
    target: Annotated[str | None, typer.Option(help="Only what was done to this job, worker, queue or bulk action.")] = None,
    limit: Annotated[int, typer.Option(help="How many, from 1 to 500.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="`next_cursor` of the previous page.")] = None,
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be deleted.")] = False,
    as_json: Json = False,
) -> None:
    """Delete, now, everything that has outlived its retention. The steward does the same every minute."""
    from carafe.cli.pruning import prune as work

    raise typer.Exit(work(dry_run=dry_run, as_json=as_json))


@kinds.callback()
def show_kinds(context: typer.Context, as_json: Json = False) -> None:
    """List the kinds of jobs that JOB_MODULES declare, with their arguments; pause and resume one."""
    if context.invoked_subcommand is not None:
        return
    from carafe.cli import jobs as work

    raise typer.Exit(work.show_kinds(as_json=as_json))


@kinds.command("pause")
def pause_kind(
    kind: Annotated[
        str,
        typer.Argument(metavar="KIND", help="The kind; `carafe kinds` lists them.", autocompletion=completing.kinds),
    ],
    reason: Annotated[str | None, typer.Option(help="The reason; shown while the kind is paused.")] = None,
    as_json: Json = False,
) -> None:
    """Start no more jobs of a kind until it is resumed; running jobs finish, and jobs are still accepted."""
    from carafe.cli import kinds as work

    raise typer.Exit(work.pause(kind, reason=reason, as_json=as_json))


@kinds.command("resume")
def resume_kind(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND", help="The kind; `carafe kinds paused` lists them.", autocompletion=completing.paused_kinds
        ),
    ],
    reason: Why = None,
    as_json: Json = False,
) -> None:
    """Start the jobs of a paused kind again."""
    from carafe.cli import kinds as work

    raise typer.Exit(work.resume(kind, reason=reason, as_json=as_json))


@kinds.command("paused")
def show_paused_kinds(as_json: Json = False) -> None:
    """List the kinds that are paused, since when, by whom and why."""
    from carafe.cli import kinds as work

    raise typer.Exit(work.show_paused(as_json=as_json))


@app.command()
def config(
    as_json: Json = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the documentation of every setting instead, the application's too.")
    ] = False,
) -> None:
    """Print each setting's value (secrets redacted), and where the value comes from."""
    from carafe.cli.configuring import show_config, show_settings_table

    raise typer.Exit(show_settings_table() if markdown else show_config(as_json=as_json))


@app.command()
def token(
    name: Annotated[str, typer.Argument(help="The owner's name, which logs and jobs show.", show_default=False)],
    role: Annotated[Literal["view", "operate"], typer.Argument(show_default=False)],
    as_json: Json = False,
) -> None:
    """Make a token for the HTTP API, and its entry for API_TOKENS. The token is shown only once."""
    from carafe.cli.configuring import make_token

    raise typer.Exit(make_token(name, role, as_json=as_json))


@dashboard.command("hash-password")
def hash_password(
    name: Annotated[
        str, typer.Argument(help="The user's name; the audit records their actions under it.", show_default=False)
    ],
    role: Annotated[Literal["view", "operate"], typer.Argument(show_default=False)],
    as_json: Json = False,
) -> None:
    """Make a user's entry for DASHBOARD_USERS. Asks for the password, or reads it from standard input."""
    from carafe.cli.configuring import make_dashboard_user

    raise typer.Exit(make_dashboard_user(name, role, as_json=as_json))


@dashboard.command("secret-key")
def secret_key(as_json: Json = False) -> None:
    """Make a key for DASHBOARD_SECRET_KEYS."""
    from carafe.cli.configuring import make_secret_key

    raise typer.Exit(make_secret_key(as_json=as_json))


@app.command()
def doctor(as_json: Json = False) -> None:
    """Report what is reachable and what is misconfigured, and how to fix it. Exit code 1: something is broken."""
    from carafe.cli.configuring import show_findings

    raise typer.Exit(show_findings(as_json=as_json))


@app.command()
def version(as_json: Json = False) -> None:
    """Print the version."""
    from carafe.cli.configuring import show_version

    raise typer.Exit(show_version(as_json=as_json))
