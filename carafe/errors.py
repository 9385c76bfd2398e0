"""The base class of the library's errors, and the errors about a database that cannot be used.

Every class has a ``code``, which is the same in Python, in the type of the HTTP API's problem and in the command line's exit
message. It also has the HTTP ``status`` with which the API answers.
"""

from carafe.postgres_away import words


class CarafeError(Exception):
    """The base class of all errors that the library raises to its callers."""

    code = "error"
    status = 500


class Unavailable(CarafeError):
    """Postgres cannot be used; nothing was accepted. Try again after ``retry_after`` seconds."""

    code = "unavailable"
    status = 503
    retry_after = 1

    def __init__(self, cause: BaseException | str) -> None:
        """`cause`: the exception that was raised, or the reason as text. This error's text never repeats the exception's
        message; `carafe.postgres_away.details` returns that."""
        self.cause = None if isinstance(cause, str) else cause
        what = cause if isinstance(cause, str) else f"the database {words(cause)}"
        super().__init__(f"{what}; nothing was changed, try again")


class Busy(Unavailable):
    """Postgres answers, but the statement failed: it waited too long for a lock, was itself too slow, or conflicted with
    another transaction. Nothing was stored."""

    code = "busy"


class NotMigrated(Unavailable):
    """The database lacks tables, columns or functions that this release needs: run ``carafe migrate``. Nothing was
    stored."""

    code = "not-migrated"
    retry_after = 5

    def __init__(self, cause: BaseException) -> None:
        """`cause`: the driver's error, of whichever driver."""
        self.cause = cause
        CarafeError.__init__(self, f"the database {words(self)}; nothing was changed")


class OutcomeUnknown(Unavailable):
    """The connection was lost during a commit, or the answer to the commit did not come: the change may or may not have been
    made."""

    code = "outcome-unknown"

    def __init__(self, cause: BaseException, *, action: bool = False) -> None:
        """`action`: whether the change is anything other than an enqueue. Only an enqueue can be repeated safely, with its
        idempotency key."""
        message = (
            "it is not known whether the job was stored; repeat with the same Idempotency-Key (idempotency_key=), so that "
            "it is stored only once"
        )
        if action:
            message = "it is not known whether this was done; check before you repeat it"
        self.cause = cause
        what = "the database has not answered in time" if isinstance(cause, TimeoutError) else "the connection was lost"
        CarafeError.__init__(self, f"{what} at the commit: {message}")


class AnotherLoop(CarafeError):
    """A connection was used on another event loop than the one on which it was made."""

    code = "another-event-loop"

    def __init__(self) -> None:
        super().__init__(
            "these connections belong to another event loop: await them there (asyncio.run_coroutine_threadsafe), or open "
            "your own with this loop"
        )


class TransactionEnded(CarafeError):
    """The application's code has committed or rolled back a session that Carafe only lent to that code, such as a hook's
    session."""

    code = "transaction-ended"

    def __init__(self) -> None:
        super().__init__(
            "a hook or handler must not end the job's transaction itself: return from the hook, or leave the block, "
            "to commit; raise to roll back"
        )


class StatementFailed(CarafeError):
    """A SQL statement of the application's code failed in the job's own transaction, but the code caught the error and
    continued. Postgres can no longer commit such a transaction."""

    code = "statement-failed"

    def __init__(self, error: BaseException | None) -> None:
        said = "" if error is None else f" ({type(error).__name__}: {error})"[:1000]
        super().__init__(
            f"a statement in the job's own transaction has failed{said}, but the code continued: Postgres then commits "
            "nothing of the transaction. Run a statement that may fail inside `async with session.begin_nested()`"
        )
