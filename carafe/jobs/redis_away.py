"""When Redis is away: it cannot be reached, or it answers and cannot be used (a replica, full, loading, a right is missing).

Guarantees: every process judges it by this one list, and says it in the same words; a connection over which a server has
said that it cannot be used is not used again, since the name may lead to another server by now.
Must never: fail an enqueue. What catches `AWAY` goes on without Redis, and the steward pushes what was missed.
"""

from typing import Any, cast

from redis import Redis as BlockingRedis
from redis import exceptions
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

AWAY: tuple[type[Exception], ...] = (exceptions.RedisError, OSError, TimeoutError)
"""What the client raises when Redis is away. Every answer that is an error counts: no command of ours earns one from a
server that can be used."""

REFUSALS = {
    "READONLY": "it is a replica and cannot be written; REDIS_URL must name the primary",
    "UNBLOCKED": "it has ended the commands that waited, as at a change of its role",
    "LOADING": "it is loading its data",
    "MASTERDOWN": "it is a replica without its primary",
    "OOM": "it is full: raise maxmemory, or let workers empty the queue",
    "NOPERM": "its user lacks a right; docs/deploy.md lists them",
    "NOAUTH": "it wants a password, and REDIS_URL has none",
    "WRONGPASS": "it does not accept the user and password of REDIS_URL",
    "CLUSTERDOWN": "it is a cluster that is down, and a single server is needed",
    "MOVED": "it is a cluster, and a single server is needed",
    "ASK": "it is a cluster, and a single server is needed",
    "CROSSSLOT": "it is a cluster, and a single server is needed",
    "MISCONF": "it cannot save its data, and refuses writes until it can",
    "NOREPLICAS": "it has too few replicas, and refuses writes",
    "BUSY": "a script holds it up",
    "MAXCLIENTS": "it has as many clients as it may (maxclients)",
    "WRONGTYPE": "somebody else uses a key of ours for something else; `carafe doctor` names it",
}
"""Codes that Redis begins an error with, and what each says of the server. MAXCLIENTS is our name for one without a code."""

_BY_CLASS: tuple[tuple[type[Exception], str], ...] = (
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
"""The client's classes for the errors whose code it takes away."""

_NO_PASSWORD = ("Authentication required", "client already authenticated")
"""Of the answers to a client without a password: to any command, and to HELLO, the first of a connection."""


def code(error: BaseException) -> str | None:
    """The code of `REFUSALS` that Redis has answered with; None for anything else, such as no answer at all."""
    for kind, name in _BY_CLASS:
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
    """Why Redis cannot be used, for anybody to read: no address, no user, no message of the server."""
    found = code(error)
    if found is not None:
        return REFUSALS[found]
    if isinstance(error, TimeoutError | exceptions.TimeoutError):
        return "no answer in time"
    if isinstance(error, exceptions.ResponseError):
        return "it refuses what is asked of it"
    return "it cannot be reached"


def details(error: BaseException) -> str:
    """The same with the client's own message, for logs and operators."""
    return f"{words(error)} ({type(error).__name__}: {error})".replace(": )", ")")


class Blocking(BlockingRedis):
    """A client that drops a connection over which the server said that it cannot be used."""

    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        """Read one reply. Raises what the reply says."""
        try:
            return super().parse_response(connection, command_name, **options)  # type: ignore[no-untyped-call]
        except exceptions.RedisError as error:
            if code(error) is not None:
                connection.disconnect()
            raise


class Asynchronous(AsyncRedis):
    """The same for asyncio."""

    async def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        """Read one reply. Raises what the reply says."""
        try:
            return await super().parse_response(connection, command_name, **options)
        except exceptions.RedisError as error:
            if code(error) is not None:
                await connection.disconnect()
            raise


def connect(url: str, *, timeout: float, name: str) -> Blocking:
    """A client that neither retries nor waits for longer than `timeout` seconds, for connecting and for each reply."""
    client = Blocking.from_url(
        url,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
        client_name=name,
    )
    return cast(Blocking, client)


def connect_asynchronously(url: str, *, timeout: float, name: str) -> Asynchronous:
    """The same for asyncio; bound to the event loop that first uses it."""
    client = Asynchronous.from_url(
        url,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=AsyncRetry(NoBackoff(), 0),
        client_name=name,
    )
    return cast(Asynchronous, client)
