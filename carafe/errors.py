"""The root of the errors that the library raises at its callers, and those of a database that is away.

Every class carries a ``code`` that is the same in Python, in the HTTP API's problem type and in the command line's exit
message, and the HTTP ``status`` that stands for it.
"""

from carafe.postgres_away import words


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
        """`cause`: what was raised, or what holds in words. `details` of `carafe.postgres_away` has its own message."""
        self.cause = None if isinstance(cause, str) else cause
        what = cause if isinstance(cause, str) else f"the database {words(cause)}"
        super().__init__(f"{what}; nothing was changed, try again")


class Busy(Unavailable):
    """Postgres answers, and something else was in the way for too long: a lock, a slow statement, a conflict. Nothing was
    stored."""

    code = "busy"


class OutcomeUnknown(Unavailable):
    """The connection was lost while committing, or the answer did not come: what was asked for may or may not be done."""

    code = "outcome-unknown"

    def __init__(self, cause: BaseException, *, action: bool = False) -> None:
        """`action`: not a job that was enqueued, where a key makes the repetition safe."""
        message = (
            "whether the job was stored is not known; repeat with the same Idempotency-Key (idempotency_key=), then it is "
            "stored once"
        )
        if action:
            message = "whether this was done is not known; look before you repeat it"
        self.cause = cause
        what = "the database has not answered in time" if isinstance(cause, TimeoutError) else "the connection was lost"
        CarafeError.__init__(self, f"{what} at the commit: {message}")
