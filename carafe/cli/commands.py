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
    check: Annotated[bool, typer.Option("--check", help="Only see that a worker would run; code 1 if not.")] = False,
) -> None:
    """Run the web process, or with --worker a worker, until SIGTERM or Ctrl-C."""
    if check:
        from carafe.cli.serving import check_worker

        if not worker:
            raise typer.BadParameter("goes with --worker: `carafe serve --worker --check`", param_hint="--check")
        raise typer.Exit(check_worker())
    from carafe.cli.serving import serve_web, serve_worker

    raise typer.Exit(serve_worker() if worker else serve_web())


@app.command()
def dev() -> None:
    """Run everything in one process: Postgres and Valkey (unless their URLs are set), web and worker."""
    from carafe.dev import run_dev
    from carafe.settings import load_settings

    raise typer.Exit(run_dev(load_settings()))


@app.command()
def migrate(as_json: Json = False) -> None:
    """Upgrade the schema to what this version needs; harmless when it is, and when several do it at once."""
    from carafe.cli.output import show_json
    from carafe.cli.serving import migrate as upgrade
    from carafe.development import with_servers
    from carafe.settings import load_settings

    done = upgrade(with_servers(load_settings()))
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


@jobs.command("retry")
def retry_jobs(ids: Ids, as_json: Json = False) -> None:
    """Run dead jobs again, and scheduled or retrying ones at once."""
    from carafe.cli import jobs as work

    raise typer.Exit(work.act("retry", ids, as_json=as_json))


@jobs.command("cancel")
def cancel_jobs(
    ids: Ids,
    reason: Annotated[str, typer.Option(help="What the jobs keep as the reason.")] = "cancelled by an operator",
    as_json: Json = False,
) -> None:
    """Cancel jobs; a running one is asked to stop."""
    from carafe.cli import jobs as work

    raise typer.Exit(work.act("cancel", ids, reason=reason, as_json=as_json))


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
def resume_queue(queue: QueueName = "default", as_json: Json = False) -> None:
    """Start what waits in a paused queue again."""
    from carafe.cli import jobs as work

    raise typer.Exit(work.resume(queue, as_json=as_json))


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
