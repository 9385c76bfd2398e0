"""Celery's remote control, kept true and kept small: `inspect` ping, active, reserved and stats look at the engine, and
`revoke` cancels the job. All other commands are refused:
any client that writes to Redis could send them, unnamed and untraced.

Guarantees: what is done so is in the audit; a message is read by its form, never decompressed, and dropped if its form is
not that of a command; nothing in one can make the worker write elsewhere than to the queue of answers.
Must never: cost anything on the hot path.
"""

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID, uuid4

import orjson
from celery.worker.control import Panel, control_command, inspect_command, nok, ok

from carafe.engine.refusals import Refusals
from carafe.jobs.hints import TASK

ANSWERED = ("ping", "active", "dump_active", "reserved", "dump_reserved", "stats", "dump_stats", "revoke")
"""The commands that remain, with Celery's own names for the same."""

ANSWERS = "reply.celery.pidbox"
"""Celery's exchange for answers: the only one that a command may name."""

REVOKED_AT_ONCE = 1000
"""Ids in one `revoke`."""

LONGEST_PATTERN = 200
"""Characters of a pattern of worker names."""

Revoke = Callable[[list[UUID]], None]


class Refused(ValueError):
    """A message that is no command which this worker would look at; says why."""


def read(raw: bytes, longest: int) -> dict[str, Any]:
    """A remote control message in its only form that Celery's clients send, made anew from what is known of it.

    Raises `Refused`.
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
        raise Refused("malformed: no method with arguments")
    call: dict[str, Any] = {"method": method, "arguments": {k: v for k, v in arguments.items() if k != "state"}}
    if destination := command.get("destination"):
        call["destination"] = [name for name in destination if type(name) is str]
    pattern, matcher = command.get("pattern"), command.get("matcher")
    if pattern or matcher:
        # Celery's other matcher is a regular expression, which can be made to take for ever.
        if matcher != "glob" or type(pattern) is not str or len(pattern) > LONGEST_PATTERN or pattern.count("*") > 5:
            raise Refused("a pattern that is not matched here: name the workers, or use a short glob")
        call |= {"pattern": pattern, "matcher": matcher}
    if reply := command.get("reply_to"):
        if reply["exchange"] != ANSWERS or type(reply["routing_key"]) is not str:
            raise Refused("wants its answer elsewhere than in the queue of answers")
        call |= {"reply_to": {"exchange": ANSWERS, "routing_key": reply["routing_key"]}, "ticket": str(command["ticket"])}
    return call


class _Commands(dict[str, Callable[..., Any]]):
    """Commands by name; any other name finds a refusal."""

    def __init__(self, known: Mapping[str, Callable[..., Any]]) -> None:
        super().__init__({name: known[name] for name in ANSWERED if name in known})
        self._refusals = Refusals("refused a remote control command")

    def __missing__(self, name: str) -> Callable[..., Any]:
        def refuse(state: Any, **_: Any) -> Any:
            self._refusals.refuse(name)
            return nok(f"a Carafe worker does not take {name[:100]!r} from Celery's remote control: {_INSTEAD}")

        return refuse


_INSTEAD = "use `carafe` (jobs, queues, workers) or the dashboard, where it is known who acts"


def install(engine: Any, revoke_jobs: Revoke) -> None:
    """Point this process's remote control commands at `engine`, and refuse all others; `revoke_jobs` cancels by id."""

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
        """List of jobs in hand that no slot has begun."""
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
                pass  # some Celery task's id: no job of ours
        if jobs:
            revoke_jobs(jobs)
        return ok(f"cancel requested for {len(jobs)} jobs")

    Panel.data = _Commands(Panel.data)
