"""Makes the texts that say why Postgres cannot be used. `carafe.queue.redis_away` does the same for Redis.

Guarantees: every process uses the same words for the same error; no password is in any of them.
"""

from collections.abc import Iterator

_READ_ONLY = "does not accept writes: it is a standby, or read-only"
_SLOW = "could not do this in time"
_OLDER_SCHEMA = "does not have the tables of this release: run `carafe migrate`"

SAYS = {
    "NotWritable": _READ_ONLY,
    "ReadOnlySQLTransactionError": _READ_ONLY,
    "DiskFullError": "is full: no space is left on its disk",
    "OutOfMemoryError": "is short of memory",
    "TooManyConnectionsError": "has reached its maximum number of connections (max_connections)",
    "InsufficientResourcesError": "is short of what it needs: disk, memory or connections",
    "PostgresSystemError": "cannot read or write its disk",
    "LockNotAvailableError": "is locked: another session has held a lock that this needs for too long",
    "QueryCanceledError": f"{_SLOW}: a statement was too slow",
    "DeadlockDetectedError": f"{_SLOW}: other sessions were in the way",
    "SerializationError": f"{_SLOW}: other sessions were in the way",
    "NotMigrated": _OLDER_SCHEMA,
    "UndefinedTableError": _OLDER_SCHEMA,
    "UndefinedColumnError": _OLDER_SCHEMA,
    "UndefinedFunctionError": _OLDER_SCHEMA,
    "InvalidColumnReferenceError": _OLDER_SCHEMA,
    "InvalidSchemaNameError": _OLDER_SCHEMA,
    "InsufficientPrivilegeError": "refuses this to the user of DATABASE_URL; `carafe doctor` says which right is missing",
    "InvalidAuthorizationSpecificationError": "does not accept the user and password of DATABASE_URL",
    "InvalidCatalogNameError": "has no database of the name in DATABASE_URL",
    "CannotConnectNowError": "is starting or stopping",
    "AdminShutdownError": "is stopping",
    "CrashShutdownError": "is stopping after a crash of one of its processes",
    "Refused": "refuses the connection: see the user, the password and the parameters of DATABASE_URL",
    "TimeoutError": "has not answered in time",
}
"""What is wrong with the server, by the name of the error's class. Each text continues a sentence that begins with "the
database". The keys are names instead of classes because asyncpg is slow to import."""


def words(error: BaseException) -> str:
    """A text that says what is wrong with Postgres ("cannot be reached"). Anybody may read the text: it contains no address,
    no user and no message of the server."""
    # The innermost error says most; the others wrap it.
    for cause in reversed(list(chain(error))):
        for kind in type(cause).__mro__:
            if kind.__name__ in SAYS:
                return SAYS[kind.__name__]
    return "cannot be reached"


def details(error: BaseException) -> str:
    """The class and message of the driver's or the server's own error, and the host that was contacted, for logs and
    operators."""
    # A deadline of asyncio cancels what takes too long, and its TimeoutError comes from that: nobody has cancelled anything.
    cause = [error, *(one for one in chain(error) if type(one).__name__ != "CancelledError")][-1]
    notes = "".join(f" {note}" for note in dict.fromkeys(getattr(cause, "__notes__", ())))
    return f"{type(cause).__name__}: {cause}".removesuffix(": ") + notes


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yields the error, then its cause, then the cause of that error, and so on, as far as they are known."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = getattr(cause, "cause", None) or getattr(cause, "orig", None) or cause.__cause__
