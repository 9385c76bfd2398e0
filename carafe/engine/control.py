"""The few remote control commands of Celery that a Carafe worker executes. The `inspect` commands ping, active, reserved and
stats report on the engine, and `revoke` cancels jobs. All other commands are refused, since any client that can write to
Redis could send them without leaving its name.

Guarantees: each `revoke` is recorded in the audit; a message is never decompressed, and is dropped if it does not have the
form of a command; no message can make the worker write to Redis anywhere but into the queue of answers.
Must never: cost anything while jobs are claimed and run.
"""

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID, uuid4

import orjson
from celery.worker.control import Panel, control_command, inspect_command, nok, ok

from carafe.engine.refusals import Refusals
from carafe.queue.hints import TASK
from carafe.texts import in_words

ANSWERED = ("ping", "active", "dump_active", "reserved", "dump_reserved", "stats", "dump_stats", "revoke")
"""The names of the commands that are executed. Some have a second name in Celery, which is listed too."""

ANSWERS = "reply.celery.pidbox"
"""The name of Celery's exchange for answers. A command that names another exchange for its answer is refused."""

REVOKED_AT_ONCE = 1000
"""The maximum number of ids in one `revoke`."""

LONGEST_PATTERN = 200
"""The maximum number of characters in a pattern of worker names."""

Revoke = Callable[[list[UUID]], None]


class Refused(ValueError):
    """Raised if a message is not a valid command. The text says why it is not."""


def read(raw: bytes, longest: int) -> dict[str, Any]:
    """Returns the remote control message in `raw`, rebuilt from those of its fields that are known. Accepts only the form
    that Celery's clients send.

    `longest` is the maximum number of bytes of a message. Raises `Refused` when the message is not a valid command.
    """
    if len(raw) > longest:
        raise Refused(f"longer than {longest} bytes")
    try:
        message = orjson.loads(raw)
        headers = message["headers"]
        plain = message["content-type"] == "application/json" and message["properties"]["body_encoding"] == "base64"
        if not plain or "compression" in headers:
            raise Refused("compressed, or not JSON")
        command = orjson.loads(b64decode(message["body"], validate=True))
        call = _call(command)
    except Refused:
        raise
    except Exception as error:
        raise Refused(f"malformed: {type(error).__name__}") from None
    return {
        "body": b64encode(orjson.dumps(call)).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {},
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": str(uuid4()),
            "delivery_info": {"exchange": "celery.pidbox", "routing_key": ""},
        },
    }


def _call(command: Mapping[str, Any]) -> dict[str, Any]:
    method, arguments = command["method"], command.get("arguments") or {}
    if type(method) is not str or type(arguments) is not dict:
        raise Refused("malformed: `method` must be a text and `arguments` an object")
    call: dict[str, Any] = {"method": method, "arguments": {k: v for k, v in arguments.items() if k != "state"}}
    if destination := command.get("destination"):
        call["destination"] = [name for name in destination if type(name) is str]
    pattern, matcher = command.get("pattern"), command.get("matcher")
    if pattern or matcher:
        # Celery's other matcher is a regular expression, which can be made to take forever.
        if matcher != "glob" or type(pattern) is not str or len(pattern) > LONGEST_PATTERN or pattern.count("*") > 5:
            raise Refused(f"pattern: must be a glob of at most {LONGEST_PATTERN} characters and 5 `*`; or name the workers")
        call |= {"pattern": pattern, "matcher": matcher}
    if reply := command.get("reply_to"):
        if reply["exchange"] != ANSWERS or type(reply["routing_key"]) is not str:
            raise Refused("asks for its answer outside the queue of answers")
        call |= {"reply_to": {"exchange": ANSWERS, "routing_key": reply["routing_key"]}, "ticket": str(command["ticket"])}
    return call


class _Commands(dict[str, Callable[..., Any]]):
    """The commands by name. A command with another name, or with arguments that do not fit, is answered with a refusal and
    logged; a flood of such commands is logged only now and then."""

    def __init__(self, known: Mapping[str, Callable[..., Any]]) -> None:
        super().__init__({name: self._refusing(name, known[name]) for name in ANSWERED if name in known})
        self._refusals = Refusals("refused a remote control command")

    def _refusing(self, name: str, command: Callable[..., Any]) -> Callable[..., Any]:
        def answer(state: Any, **arguments: Any) -> Any:
            try:
                return command(state, **arguments)
            except Exception as error:  # kombu would log each with its traceback
                self._refusals.refuse(f"{name}: {in_words(error, 150)}")
                return nok(f"{name!r} was not done: {in_words(error, 150)}")

        return answer

    def __missing__(self, name: str) -> Callable[..., Any]:
        def refuse(state: Any, **_: Any) -> Any:
            self._refusals.refuse(name)
            return nok(f"a Carafe worker does not take {name[:100]!r} from Celery's remote control: {_INSTEAD}")

        return refuse


_INSTEAD = "use `carafe` (jobs, queues, workers) or the dashboard, which record who acts"


def install(engine: Any, revoke_jobs: Revoke) -> None:
    """Make Celery's remote control commands in this process report on `engine`, and make it refuse all commands that are not
    in `ANSWERED`. The function `revoke_jobs` cancels jobs by id."""

    @inspect_command(alias="dump_active")
    def active(state: Any, safe: bool = False, **_: Any) -> list[dict[str, Any]]:
        """List of jobs currently being executed."""
        return [
            {
                "id": str(claim.id),
                "name": TASK,
                "type": claim.kind,
                "args": [],
                "kwargs": {},
                "hostname": state.hostname,
                "time_start": claim.row["started_at"].timestamp(),
                "running_for": round(seconds, 3),
                "acknowledged": True,
                "delivery_info": {"routing_key": "default", "redelivered": False},
                "worker_pid": None,
                "attempt": claim.attempt,
                "slot": slot.index,
            }
            for slot, claim, seconds in engine.running()
        ]

    @inspect_command(alias="dump_reserved")
    def reserved(state: Any, **_: Any) -> list[dict[str, Any]]:
        """List the claimed jobs that no slot has started."""
        return [{"id": str(claim.id), "name": TASK, "type": claim.kind} for claim in list(engine.runner.ready)]

    @control_command(variadic="task_id", signature="[id1 [id2 [... [idN]]]]")
    def revoke(state: Any, task_id: Any, terminate: bool = False, signal: Any = None, **_: Any) -> Any:
        """Cancel jobs by id, as the client's cancel does."""
        ids = task_id if isinstance(task_id, list | tuple) else [task_id]
        if len(ids) > REVOKED_AT_ONCE:
            return nok(f"{len(ids)} ids: revoke at most {REVOKED_AT_ONCE} at once, or use `carafe bulk start cancel`")
        jobs = []
        for text in ids:
            try:
                jobs.append(UUID(text))
            except (ValueError, TypeError, AttributeError):
                pass  # the id of some Celery task, not of a job
        if jobs:
            revoke_jobs(jobs)
        return ok(f"cancel requested for {len(jobs)} jobs")

    Panel.data = _Commands(Panel.data)
