"""Everything that Carafe asks of Redis: each command with the keys and channels it touches, and who needs it.

The one list that the check of a worker tries, that docs/deploy.md and the users in deploy/kustomize are made from, and that
a test runs a worker under. Whoever adds a command to the code adds it here; that test fails otherwise.

Trying changes nothing: commands are queued in a transaction that is then discarded. Redis judges each when it is queued
(rights, its role, its memory, its disk) and executes none.
"""

from collections.abc import Iterable, Sequence
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

CONTROL = "/*.celery.pidbox"
"""The channel of Celery's remote control; it begins with the number of the database."""


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
        "PSUBSCRIBE /0.celery.pidbox",
        "PUNSUBSCRIBE /0.celery.pidbox",
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
    "PUBLISH /0.celery.pidbox x",
    "BLMPOP 1 1 check.celery.pidbox RIGHT COUNT 1",
)

WORKER: tuple[Use, ...] = (*_CONNECTING, *PUSHING, *_TAKING, *_CELERY, *_STEWARD)
"""What a worker needs; it carries a steward, and its handlers may enqueue."""

EVERYBODY: tuple[Use, ...] = (*WORKER, *_INSPECTING)
"""What the user of web, workers and the command line needs."""

_NOT_QUEUED = ("HELLO", "SELECT")
"""What a connection has done by the time that anything is tried."""

_TRANSACTION = ("MULTI", "EXEC", "DISCARD")


def acl(uses: Iterable[Use] = EVERYBODY) -> str:
    """The rules of ``ACL SETUSER`` that allow exactly this much."""
    names = {_name(use.command) for use in uses} | {name.lower() for name in _TRANSACTION}
    keys = (QUEUE, RUNNING, BUSY, BINDINGS, PIDBOXES)
    return " ".join(
        (
            *(f"~{key}" for key in keys),
            "resetchannels",
            *(f"&{channel}" for channel in (CANCELS, CONTROL)),
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
        commands = [("MULTI",), *(use.command for use in uses), ("DISCARD",)]
        await connection.send_packed_command(connection.pack_commands(commands))
        answers: list[RedisError | None] = []
        for _ in commands:
            try:
                await connection.read_response()
                answers.append(None)
            except ResponseError as error:
                answers.append(error)
        begun = answers[0]
        if begun is not None:
            raise begun
        return [Refused(use, answer) for use, answer in zip(uses, answers[1:-1], strict=True) if answer is not None]
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    finally:
        await redis.connection_pool.release(connection)
