"""Everything that Carafe uses in Redis: each command, the keys and channels that the command touches, and what it is needed
for.

A worker's start-up check tries the commands of this list. docs/deploy.md and the users in deploy/kustomize are made from it,
and a test runs a worker that has only these rights. Anyone who adds a command to the code must add it here too; otherwise
that test fails.

Trying a command changes nothing: commands are queued in a transaction that is then discarded. Redis checks each command when
it is queued (rights, the server's role, memory and disk) and executes none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carafe.jobs.queue_name import QUEUE
from carafe.queue.redis_away import code

if TYPE_CHECKING:
    from redis.exceptions import RedisError

RUNNING = "carafe:running"
BUSY = "carafe:busy"
"""The keys of two sorted sets, of running jobs and of busy workers. The autoscaler adds their sizes to the length of the
list of hints. deploy/keda contains the same names, and a test compares them."""

COUNTS_FOR = 10
"""Seconds for which a member of these sorted sets counts after it was last published. No member's score is further in the
future than that."""

CANCELS = "carafe:cancels"
"""The pub/sub channel on which workers are notified that somebody wants a running job cancelled."""

BINDINGS = "_kombu.*"
PIDBOXES = "*.celery.pidbox"
"""Patterns of the keys that Celery's consumer uses: its tables of queues (`BINDINGS`), and the inboxes and replies of its
remote control (`PIDBOXES`)."""

CONTROL = "/{database}.celery.pidbox"
"""The channel of Celery's remote control, for a database's number. Celery subscribes to a pattern, and Redis allows this
only if a right contains exactly the same pattern, so the right must contain the database's number."""


@dataclass(frozen=True, slots=True)
class Use:
    """One command with example arguments, so that it can be tried. `why` says what does not work without the command."""

    why: str
    command: tuple[str, ...]


def _uses(why: str, *commands: str) -> tuple[Use, ...]:
    return tuple(Use(why, tuple(command.split(" "))) for command in commands)


_CONNECTING = _uses(
    "connect",
    "HELLO 3",
    "CLIENT SETNAME carafe",
    "CLIENT SETINFO LIB-NAME carafe",
    "SELECT 0",
    "PING",
)

PUSHING = (
    *_uses("push hints", f"LPUSH {QUEUE} x", f"LLEN {QUEUE}"),
    *_uses("empty the list of a paused queue", f"UNLINK {QUEUE}"),
    *_uses("announce cancellations", f"PUBLISH {CANCELS} x"),
)
"""The commands that a process needs if it enqueues jobs and acts on them."""

_TAKING = (
    *_uses("take hints", f"BLMPOP 1 1 {QUEUE} RIGHT COUNT 1", "CLIENT ID", "CLIENT UNBLOCK 0"),
    *_uses("give hints back", f"RPUSH {QUEUE} x"),
    *_uses("hear of cancellations", f"SUBSCRIBE {CANCELS}", f"UNSUBSCRIBE {CANCELS}"),
    *_uses(
        "tell the autoscaler what runs",
        "EVAL x 0",
        "TIME",
        *(f"ZREMRANGEBYSCORE {key} 0 0" for key in (RUNNING, BUSY)),
        *(f"ZREM {key} x" for key in (RUNNING, BUSY)),
        *(f"ZADD {key} 0 x" for key in (RUNNING, BUSY)),
        *(f"EXPIRE {key} 1" for key in (RUNNING, BUSY)),
    ),
)

_CELERY = (
    *_uses(
        "start Celery's consumer",
        "SADD _kombu.binding.check x",
        "SADD _kombu.binding_permanent.check x",
        "SREM _kombu.binding.check x",
        "SREM _kombu.binding_permanent.check x",
        "EXISTS _kombu.binding.check",
        "SMEMBERS _kombu.binding.check",
        "ZADD _kombu.binding_deadlines 0 x",
        "ZRANGEBYSCORE _kombu.binding_deadlines 0 0",
        "ZREM _kombu.binding_deadlines x",
        "DEL _kombu.binding.check",
        "PEXPIRE _kombu.binding.check 1",
        "EVALSHA 0 0",
        "SCRIPT EXISTS 0",
        "SCRIPT LOAD x",
    ),
    *_uses(
        "answer commands of Celery's remote control",
        f"PSUBSCRIBE {CONTROL}",
        f"PUNSUBSCRIBE {CONTROL}",
        "LLEN check.celery.pidbox",
        "LPUSH check.celery.pidbox x",
        "PEXPIRE check.celery.pidbox 1",
        "DEL check.celery.pidbox",
    ),
)

_STEWARD = (
    *_uses("find lost hints", "EVAL x 0", f"LINDEX {QUEUE} -1"),
    *_uses(
        "export what the autoscaler counts",
        "EVAL x 0",
        "TIME",
        *(
            f"{command} {key}{bounds}"
            for key in (RUNNING, BUSY)
            for command, bounds in (("ZREMRANGEBYSCORE", " 0 0"), ("ZCARD", ""))
        ),
        "INFO memory",
    ),
)

_INSPECTING = _uses(
    "send commands by Celery's remote control",
    f"PUBLISH {CONTROL} x",
    "BLMPOP 1 1 check.celery.pidbox RIGHT COUNT 1",
)

_EVERYBODY = (*_CONNECTING, *PUSHING, *_TAKING, *_CELERY, *_STEWARD, *_INSPECTING)


def everybody(database: int = 0) -> tuple[Use, ...]:
    """The commands that web processes, workers and the command line need, all with the same Redis user. `database` is the
    number of the Redis database."""
    return tuple(Use(use.why, tuple(part.format(database=database) for part in use.command)) for use in _EVERYBODY)


_NOT_QUEUED = ("HELLO", "SELECT")
"""Commands that are not tried in a transaction, because every connection has already run them."""

_TRANSACTION = ("MULTI", "EXEC", "DISCARD")


def acl(database: int = 0) -> str:
    """The rules for ``ACL SETUSER`` that allow the commands of this list, and no others."""
    names = {_name(use.command) for use in _EVERYBODY} | {name.lower() for name in _TRANSACTION}
    return " ".join(
        (
            "resetkeys",
            *(f"~{key}" for key in (QUEUE, RUNNING, BUSY, BINDINGS, PIDBOXES)),
            "resetchannels",
            *(f"&{channel.format(database=database)}" for channel in (CANCELS, CONTROL)),
            "-@all",
            *(f"+{name}" for name in sorted(names)),
        )
    )


_WITH_SUBCOMMANDS = frozenset({"CLIENT", "SCRIPT"})


def _name(command: Sequence[str]) -> str:
    return ("|".join(command[:2]) if command[0] in _WITH_SUBCOMMANDS else command[0]).lower()


@dataclass(frozen=True, slots=True)
class Refused:
    """A command that Redis refuses, and the error with which it replied."""

    use: Use
    error: "RedisError"

    @property
    def code(self) -> str | None:
        """The code of the error; see `carafe.queue.redis_away.code`."""
        return code(self.error)


async def refused(redis: Any, uses: Sequence[Use]) -> list[Refused]:
    """Those commands in `uses` that Redis would now refuse to this client's user. None of them is executed.

    Raises the client's error when Redis cannot be reached or used at all.
    """
    from redis.exceptions import RedisError, ResponseError

    uses = [use for use in uses if use.command[0] not in _NOT_QUEUED]
    connection = await redis.connection_pool.get_connection()
    try:
        # MULTI is sent alone first: on a server without transactions, the commands after it would be executed.
        begun = await _asked(connection, [("MULTI",), ("PING",)])
        for answer in begun:
            if isinstance(answer, RedisError):
                raise answer
        if begun[1] not in (b"QUEUED", "QUEUED"):
            raise ResponseError("this server does not support transactions")
        *answers, discarded = await _asked(connection, [*(use.command for use in uses), ("DISCARD",)])
        if isinstance(discarded, RedisError):
            raise discarded
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    finally:
        await redis.connection_pool.release(connection)
    return [Refused(use, answer) for use, answer in zip(uses, answers, strict=True) if isinstance(answer, RedisError)]


async def _asked(connection: Any, commands: Sequence[tuple[str, ...]]) -> list[Any]:
    """Sends the commands and returns the replies; an error reply is returned as one of them. Raises the client's error when
    the connection is lost."""
    from redis.exceptions import ResponseError

    await connection.send_packed_command(connection.pack_commands(commands))
    answers: list[Any] = []
    for _ in commands:
        try:
            answers.append(await connection.read_response())
        except ResponseError as error:
            answers.append(error)
    return answers
