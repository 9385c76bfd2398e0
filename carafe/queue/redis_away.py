"""Decides when Redis counts as away: it cannot be reached, or it answers but cannot be used (it is a replica, full, loading,
or a right is missing).

Guarantees: every process decides by the list in this module, and uses the same words. The client library is imported only at
the first error: in a process that never uses Redis, such as the child process of a job, it would be a third of all imports.
Must never: make an enqueue fail. Code that catches `errors()` continues without Redis, and the steward pushes the missed
hints.
"""

from functools import cache

REFUSALS = {
    "READONLY": "it is a replica and does not accept writes; REDIS_URL must name the primary",
    "UNBLOCKED": "it has ended the commands that waited, as it does when its role changes",
    "LOADING": "it is loading its data",
    "MASTERDOWN": "it is a replica without its primary",
    "OOM": "it is full: raise maxmemory, or let workers empty the queue",
    "NOPERM": "its user lacks a right; `carafe doctor` says which",
    "NOAUTH": "it wants a password, and REDIS_URL has none",
    "WRONGPASS": "it does not accept the user and password of REDIS_URL",
    "CLUSTERDOWN": "it is a cluster that is down; Carafe needs a single server",
    "MOVED": "it is a cluster; Carafe needs a single server",
    "ASK": "it is a cluster; Carafe needs a single server",
    "CROSSSLOT": "it is a cluster; Carafe needs a single server",
    "MISCONF": "it cannot save its data, and refuses writes until it can",
    "NOREPLICAS": "it has too few replicas, and refuses writes",
    "BUSY": "a script blocks it",
    "MAXCLIENTS": "it has reached its maximum number of clients (maxclients)",
    "WRONGTYPE": "another program uses one of Carafe's keys; `carafe doctor` names the key",
}
"""For each code with which an error of Redis begins: a text about what the error says about the server. Carafe itself adds
the code MAXCLIENTS, for an error that has no code in Redis."""

_NO_PASSWORD = ("Authentication required", "client already authenticated")
"""Parts of the messages that Redis sends to a client without a password: the first answers any command, the second HELLO,
which is the first command of a connection."""


@cache
def errors() -> tuple[type[Exception], ...]:
    """The exceptions that the client library raises when Redis is away, for ``except redis_away.errors()``. They include
    every error reply of Redis, since a server that can be used never replies to our commands with an error."""
    from redis.exceptions import RedisError

    return RedisError, OSError, TimeoutError


@cache
def _by_class() -> tuple[tuple[type[Exception], str], ...]:
    """Those exception classes of the client library whose messages no longer contain Redis's code, each with this code."""
    from redis import exceptions

    return (
        (exceptions.ReadOnlyError, "READONLY"),
        (exceptions.OutOfMemoryError, "OOM"),
        (exceptions.BusyLoadingError, "LOADING"),
        (exceptions.NoPermissionError, "NOPERM"),
        (exceptions.MasterDownError, "MASTERDOWN"),
        (exceptions.ClusterDownError, "CLUSTERDOWN"),
        (exceptions.MovedError, "MOVED"),
        (exceptions.AskError, "ASK"),
        (exceptions.ClusterCrossSlotError, "CROSSSLOT"),
    )


def code(error: BaseException) -> str | None:
    """The code with which Redis replied, if it is one of `REFUSALS`. Returns None for any other error, also when there was
    no reply at all."""
    from redis import exceptions

    for kind, name in _by_class():
        if isinstance(error, kind):
            return name
    text = str(error)
    if isinstance(error, exceptions.AuthenticationError):
        return "NOAUTH" if any(said in text for said in _NO_PASSWORD) else "WRONGPASS"
    if "max number of clients" in text:
        return "MAXCLIENTS"
    first = text.partition(" ")[0]
    return first if isinstance(error, exceptions.ResponseError) and first in REFUSALS else None


def words(error: BaseException) -> str:
    """A text that says why Redis cannot be used. Anybody may read the text: it contains no address, no user and no message
    of the server."""
    from redis import exceptions

    found = code(error)
    if found is not None:
        return REFUSALS[found]
    if isinstance(error, TimeoutError | exceptions.TimeoutError):
        return "no answer in time"
    if isinstance(error, exceptions.ResponseError):
        return "it refuses Carafe's commands"
    return "it cannot be reached"


def details(error: BaseException) -> str:
    """Why Redis cannot be used (`words`), with the client's own message, for logs and operators."""
    return f"{words(error)} ({type(error).__name__}: {error})".replace(": )", ")")
