"""The root of the errors that the library raises at its callers, and those of a database that is away.

Every class carries a ``code`` that is the same in Python, in the HTTP API's problem type and in the command line's exit
message, and the HTTP ``status`` that stands for it.
"""


class CarafeError(Exception):
    """The root of all errors that the library raises at its callers."""

    code = "error"
    status = 500


class Unavailable(CarafeError):
    """Postgres cannot be reached; nothing was accepted. Try again after ``retry_after`` seconds."""

    code = "unavailable"
    status = 503
    retry_after = 1

    def __init__(self, cause: BaseException | str) -> None:
        what = cause if isinstance(cause, str) else type(cause).__name__
        super().__init__(f"the database cannot be reached ({what}); nothing was stored, try again")


class OutcomeUnknown(Unavailable):
    """The connection was lost while committing: the job may or may not be stored. Repeat with the same key."""

    code = "outcome-unknown"

    def __init__(self, cause: BaseException) -> None:
        CarafeError.__init__(
            self,
            f"the connection was lost at commit ({type(cause).__name__}), whether the job was stored is not known; "
            "repeat with the same Idempotency-Key (idempotency_key=), then it is stored once",
        )
