"""The root of the errors that the library raises at its callers, and those of a database that is away.

Every class carries a ``code`` that is the same in Python, in the HTTP API's problem type and in the command line's exit
message, and the HTTP ``status`` that stands for it.
"""


class CarafeError(Exception):
    """The root of all errors that the library raises at its callers."""

    code = "error"
    status = 500


class Unavailable(CarafeError):
    """Postgres cannot be used; nothing was accepted. Try again after ``retry_after`` seconds."""

    code = "unavailable"
    status = 503
    retry_after = 1

    def __init__(self, cause: BaseException | str) -> None:
        what = cause if isinstance(cause, str) else type(cause).__name__
        fault = "the database may not be written now" if what in READ_ONLY else "the database cannot be reached"
        if what == "Refused":
            what = type(cause.__cause__).__name__ if isinstance(cause, BaseException) else what
            fault = "Postgres refuses the connection: see the user, the password and the parameters of DATABASE_URL"
        if isinstance(cause, TimeoutError):
            fault = "the database has not answered in time"
        super().__init__(f"{fault} ({what}); nothing was stored, try again")


READ_ONLY = ("NotWritable", "ReadOnlySQLTransactionError")
"""The errors of a server that answers and may not be written, by name: their classes are slow to import."""


class Busy(Unavailable):
    """Postgres answers, and something else was in the way for too long: a lock, a slow statement, a conflict. Nothing was
    stored."""

    code = "busy"

    def __init__(self, cause: BaseException) -> None:
        CarafeError.__init__(
            self, f"the database did not get to this in time ({type(cause).__name__}); nothing was stored, try again"
        )


class OutcomeUnknown(Unavailable):
    """The connection was lost while committing: what was asked for may or may not be done."""

    code = "outcome-unknown"

    def __init__(self, cause: BaseException, *, action: bool = False) -> None:
        """`action`: not a job that was enqueued, where a key makes the repetition safe."""
        message = (
            "whether the job was stored is not known; repeat with the same Idempotency-Key (idempotency_key=), then it is "
            "stored once"
        )
        if action:
            message = "whether this was done is not known; look before you repeat it"
        CarafeError.__init__(self, f"the connection was lost at commit ({type(cause).__name__}), {message}")
