"""Everything that Carafe asks of Redis: each command with the keys and channels it touches, and who needs it.

The one list that the check of a worker tries, that docs/deploy.md and the users in deploy/kustomize are made from, and that
a test runs a worker under. Whoever adds a command to the code adds it here; that test fails otherwise.

Trying changes nothing: commands are queued in a transaction that is then discarded. Redis judges each when it is queued
(rights, its role, its memory, its disk) and executes none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError, ResponseError

from carafe.jobs.hints import QUEUE
from carafe.jobs.redis_away import code

RUNNING = "carafe:running"
BUSY = "carafe:busy"
"""The sorted sets that the autoscaler counts beside the list; deploy/keda names them too, and a test compares."""

CANCELS = "carafe:cancels"
"""The pub/sub channel that says: look at your running jobs, somebody wants one cancelled."""

BINDINGS = "_kombu.*"
PIDBOXES = "*.celery.pidbox"
"""Keys of Celery's consumer: its tables of queues, and the inboxes and answers of its remote control."""

CONTROL = "/{database}.celery.pidbox"
"""The channel of Celery's remote control. The right to it must name the database: a subscription by pattern, as Celery's is,
is compared letter by letter."""


@dataclass(frozen=True, slots=True)
class Use:
    """One command as it is sent, to be tried. `why`: what cannot be done without it."""

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
"""What whoever enqueues and acts on jobs needs."""

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
        "answer Celery's remote control",
        f"PSUBSCRIBE {CONTROL}",
        f"PUNSUBSCRIBE {CONTROL}",
        "LLEN check.celery.pidbox",
        "LPUSH check.celery.pidbox x",
        "PEXPIRE check.celery.pidbox 1",
        "DEL check.celery.pidbox",
    ),
)

_STEWARD = (
    *_uses("find lost hints", f"LINDEX {QUEUE} -1"),
    *_uses("export what the autoscaler counts", f"ZCARD {RUNNING}", f"ZCARD {BUSY}", "INFO memory"),
)

_INSPECTING = _uses(
    "ask by Celery's remote control",
    f"PUBLISH {CONTROL} x",
    "BLMPOP 1 1 check.celery.pidbox RIGHT COUNT 1",
)

_EVERYBODY = (*_CONNECTING, *PUSHING, *_TAKING, *_CELERY, *_STEWARD, *_INSPECTING)


def everybody(database: int = 0) -> tuple[Use, ...]:
    """What the user of web processes, workers and the command line needs, in the database of this number."""
    return tuple(Use(use.why, tuple(part.format(database=database) for part in use.command)) for use in _EVERYBODY)


_NOT_QUEUED = ("HELLO", "SELECT")
"""What a connection has done by the time that anything is tried."""

_TRANSACTION = ("MULTI", "EXEC", "DISCARD")


def acl(database: int = 0) -> str:
    """The rules of ``ACL SETUSER`` that allow exactly this much."""
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
    """A use that Redis refuses, and its answer."""

    use: Use
    error: RedisError

    @property
    def code(self) -> str | None:
        """See `carafe.jobs.redis_away.code`."""
        return code(self.error)


async def refused(redis: Any, uses: Sequence[Use]) -> list[Refused]:
    """What of this Redis would refuse now, for this client's user. Nothing is executed.

    Raises what the client raises when it cannot be asked at all.
    """
    uses = [use for use in uses if use.command[0] not in _NOT_QUEUED]
    connection = await redis.connection_pool.get_connection()
    try:
        # First alone: without a transaction the server would do what follows.
        begun = await _asked(connection, [("MULTI",), ("PING",)])
        for answer in begun:
            if isinstance(answer, RedisError):
                raise answer
        if begun[1] not in (b"QUEUED", "QUEUED"):
            raise ResponseError("this server keeps no transaction")
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
    """The answers, errors among them. Raises what a lost connection raises."""
    await connection.send_packed_command(connection.pack_commands(commands))
    answers: list[Any] = []
    for _ in commands:
        try:
            answers.append(await connection.read_response())
        except ResponseError as error:
            answers.append(error)
    return answers
