"""The exit codes of all commands, and how an expected error is printed: as one readable block, never as a traceback."""

import sys
from enum import IntEnum

from carafe.plain_text import one_line


class Exit(IntEnum):
    """Exit codes, the same for every command; docs/command-line.md lists them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    NOT_ALLOWED = 4
    UNAVAILABLE = 5
    DEAD = 6
    CANCELLED = 7
    NOT_ENDED = 8
    NOT_ANSWERED = 9
    INTERRUPTED = 130


class Failure(Exception):
    """Ends the command with `code` and, on standard error, `message`."""

    def __init__(self, message: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.code = code


def say(message: str) -> None:
    """Writes a message to standard error. The answer of a command goes to standard output, everything else through here.

    Characters that would control the terminal, for example in texts of jobs, are made harmless.
    """
    print("\n".join(map(one_line, message.split("\n"))), file=sys.stderr, flush=True)


def report(error: BaseException) -> Exit | None:
    """Prints an expected error on standard error and returns its exit code. Returns None for an unexpected error."""
    code, message = _explained(error)
    if code is None:
        return None
    first, *more = message.splitlines() or [type(error).__name__]
    say("\n".join([f"error: {first}", *(f"  {line}" for line in more)]))
    return code


def _explained(error: BaseException) -> tuple[Exit | None, str]:
    # Imported late, so that commands that do not need these never import them.
    if isinstance(error, Failure):
        return error.code, str(error)
    if isinstance(error, KeyboardInterrupt):
        return Exit.INTERRUPTED, "interrupted"
    from carafe.settings.local_servers import NoServers
    from carafe.settings.settings import SettingsError

    if isinstance(error, NoServers):
        return Exit.UNAVAILABLE, str(error)
    if isinstance(error, SettingsError):
        number = len(error.faults)
        return Exit.USAGE, str(error) if number == 1 else f"{number} faulty settings\n{error}"
    if isinstance(error, ModuleNotFoundError) and error.name == "psutil":
        return Exit.USAGE, str(error)  # raised by carafe.dev.embedded
    if "carafe.dev.folder" in sys.modules:
        from carafe.dev.folder import RunsAlready

        if isinstance(error, RunsAlready):
            return Exit.FAILED, str(error)
    if "carafe.dev.embedded" in sys.modules:
        from carafe.dev.embedded import EmbeddedServerError

        if isinstance(error, EmbeddedServerError):
            return Exit.FAILED, str(error)
    if "asyncpg" in sys.modules:
        found = _of_postgres(error)
        if found is not None:
            return found
    if "carafe.errors" in sys.modules:
        found = _of_jobs(error)
        if found is not None:
            return found
    if "celery.exceptions" in sys.modules:
        from celery.exceptions import ImproperlyConfigured

        if isinstance(error, ImproperlyConfigured):
            return Exit.USAGE, str(error)
    if "carafe.web.server" in sys.modules:
        from carafe.web.server import CannotServe

        if isinstance(error, CannotServe):
            return Exit.USAGE, str(error)
    if isinstance(error, BrokenPipeError):
        return Exit.FAILED, "the program that read the output has closed the pipe"
    return None, ""


def _of_jobs(error: BaseException) -> tuple[Exit, str] | None:
    from carafe.jobs import errors
    from carafe.jobs.modules import ModuleNotUsable

    if isinstance(error, errors.InvalidArguments):
        lines = [f"{fault.path}: {fault.message}" if fault.path else fault.message for fault in error.faults]
        return Exit.USAGE, "\n".join([f"the arguments of {error.kind!r} are not valid", *lines])
    if isinstance(error, errors.UnknownKind):
        from carafe.settings.application_folder import application_elsewhere

        return Exit.USAGE, "\n".join(filter(None, [str(error), application_elsewhere()]))
    if isinstance(error, errors.Unavailable) and error.cause is not None:
        from carafe.postgres_away import details

        return Exit.UNAVAILABLE, f"{error}\n{details(error)}"
    meanings: list[tuple[type[BaseException], Exit]] = [
        (errors.JobNotFound, Exit.NOT_FOUND),
        (errors.QueueNotFound, Exit.NOT_FOUND),
        (errors.KindNotFound, Exit.NOT_FOUND),
        (errors.WorkerNotFound, Exit.NOT_FOUND),
        (errors.BulkActionNotFound, Exit.NOT_FOUND),
        (errors.BulkActionEnded, Exit.NOT_ALLOWED),
        (errors.NotAllowedInState, Exit.NOT_ALLOWED),
        (errors.IdempotencyConflict, Exit.NOT_ALLOWED),
        (errors.Unavailable, Exit.UNAVAILABLE),
        (errors.UnknownKind, Exit.USAGE),
        (errors.PayloadTooLarge, Exit.USAGE),
        (errors.InvalidOption, Exit.USAGE),
        (errors.BulkInvalid, Exit.USAGE),
        (ModuleNotUsable, Exit.USAGE),
        (errors.CarafeError, Exit.FAILED),
    ]
    return next(((code, str(error)) for kind, code in meanings if isinstance(error, kind)), None)


def _of_postgres(error: BaseException) -> tuple[Exit, str] | None:
    import asyncpg

    from carafe.errors import NotMigrated
    from carafe.postgres_away import details
    from carafe.postgres_url import NotWritable, UrlFault
    from carafe.store.database import OLDER_SCHEMA, Refused
    from carafe.store.revisions import MigrationFailed

    if isinstance(error, MigrationFailed):
        return None  # it says itself what Postgres has refused, and to which revision
    cause: BaseException | None = error
    while cause is not None:  # SQLAlchemy wraps the driver's error in others
        match cause:
            case _ if isinstance(cause, OLDER_SCHEMA):
                return Exit.UNAVAILABLE, f"{NotMigrated(cause)}\n{details(cause)}"
            case asyncpg.InvalidAuthorizationSpecificationError() | asyncpg.InvalidCatalogNameError():
                return Exit.UNAVAILABLE, f"DATABASE_URL: Postgres refuses: {cause}"
            case UrlFault():
                return Exit.USAGE, "\n".join(["DATABASE_URL cannot be used", *cause.faults])
            case Refused():
                return Exit.UNAVAILABLE, f"DATABASE_URL: Postgres refuses: {cause.__cause__}"
            case NotWritable():
                return Exit.UNAVAILABLE, f"DATABASE_URL: {cause}; nothing was done"
            case asyncpg.InsufficientPrivilegeError():
                return Exit.FAILED, f"the Postgres user of DATABASE_URL lacks a permission: {cause}"
        cause = cause.__cause__
    return None
