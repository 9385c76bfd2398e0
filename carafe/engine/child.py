"""The main module of a child process: imports the modules, waits for one job, runs it, answers, exits."""

import asyncio
import importlib
import inspect
import logging
import os
import resource
import select
import sys
import threading
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from carafe.database import Database
from carafe.engine.attempts import AttemptContext, progress_values
from carafe.engine.captured_logs import Sending
from carafe.engine.results import ResultNotUsable, encode_result
from carafe.jobs.definition import load
from carafe.jobs.errors import InvalidArguments, PayloadTooLarge
from carafe.jobs.handlers import handlers
from carafe.jobs.modules import load_handlers, load_jobs
from carafe.jobs.outcomes import Cancel, Discard, Outcome, Retry, Snooze
from carafe.kubernetes.pod import in_pod
from carafe.texts import describe


class ChildContext:
    """The context of a plain function inside a child; see `carafe.jobs.context.SyncContext`. It is killed, never asked."""

    cancelled = False

    def __init__(self, row: dict[str, Any], answers: Any) -> None:
        self._answers = answers
        self.job_id: UUID = row["id"]
        self.kind: str = row["kind"]
        self.attempt: int = row["attempt"] + 1
        self.max_attempts: int = row["max_attempts"]
        self.timeout: float = row["timeout"]
        self.deadline: datetime = row["deadline_at"]

    def progress(self, fraction: float, note: str = "") -> None:
        """Say how far the attempt is."""
        values = progress_values(fraction, note)
        _say(self._answers, {"progress": [values["fraction"], values["note"] or ""]})


def answer(request: dict[str, Any], answers: Any) -> dict[str, Any]:
    """Run the job of a request; the answer is its result or how it failed."""
    handler = handlers()[request["kind"]]
    row = {**request, "id": UUID(request["id"]), "deadline_at": datetime.fromisoformat(request["deadline_at"])}
    completed = False
    try:
        job = load(handler.job, row["args"], row["version"])
        if inspect.iscoroutinefunction(handler.function):
            value, completed = asyncio.run(_run_async(handler.function, job, row))
        else:
            value = handler.function(job, ChildContext(row, answers))
        if completed:
            return {"completed": True}
        if isinstance(value, Outcome):
            raise value
        return {"result": encode_result(value, request["result_limit"])}
    except Retry as outcome:
        return {"outcome": "retry", "reason": outcome.reason, "after": outcome.after}
    except Snooze as outcome:
        return {"outcome": "snooze", "for": outcome.for_}
    except Discard as outcome:
        return {"outcome": "discard", "reason": outcome.reason}
    except Cancel as outcome:
        return {"outcome": "cancel", "reason": outcome.reason}
    except (ResultNotUsable, PayloadTooLarge) as error:
        return {"cause": "result", "error": describe(error)}
    except InvalidArguments as error:
        return {"cause": "validation", "error": describe(error)}
    except BaseException as error:
        _give_room()
        name, message, traceback = describe(error)
        if isinstance(error, MemoryError):
            message = _out_of_memory(message, request["memory_limit"])
        return {"cause": "error", "error": (name, message, traceback)}


async def _run_async(function: Any, job: Any, row: dict[str, Any]) -> tuple[Any, bool]:
    """Run an ``async def`` handler with the context it would have in the worker, on connections of the child's own."""
    database = Database(row["database_url"], pool_size=2, name="carafe child")
    context = AttemptContext(row, None, database, row["result_limit"])
    try:
        return await function(job, context), context.completed
    except Exception:
        if context.completed:
            return None, True
        raise
    finally:
        await database.close()


_saying = threading.Lock()


def _say(answers: Any, message: dict[str, Any]) -> None:
    line = orjson.dumps(message) + b"\n"
    with _saying:  # any of the handler's threads may log
        answers.write(line)
        answers.flush()


def _log_as_the_worker(settings: Sequence[Any]) -> None:
    """Log lines look and go as the worker's own."""
    if settings:
        from carafe.logging import configure_logging
        from carafe.settings import Settings

        configure_logging(Settings.model_construct(log_level=settings[0], log_format=settings[1]))


def _name_in_log(request: dict[str, Any]) -> None:
    from carafe.logging import annotate

    job = {"job_id": request["id"], "kind": request["kind"], "attempt": request["attempt"] + 1}
    annotate("job", lambda: job)


def _trace(request: dict[str, Any], answers: Any) -> None:
    """The handler's own spans belong to the attempt's, which is the parent's to end."""
    if trace := request.get("trace"):
        from carafe.tracing import parse
        from carafe.tracing.tracer import begin_in_child

        place = parse(trace)
        assert place is not None
        begin_in_child(place, lambda message: _say(answers, message))


def _parent_is_gone() -> bool:
    """Whether standard input has ended: after the request that is all that can be read there."""
    return bool(select.select([sys.stdin.fileno()], [], [], 0)[0])


def _end_with_parent() -> None:
    """Nothing more ever comes on standard input: its end is the parent's end."""
    sys.stdin.buffer.read()
    os._exit(1)


ROOM = 32 << 20
"""Bytes beyond the limit that are left to say how the job failed: what it filled the memory with may still be there."""


def _limit_memory(limit: int | None) -> None:
    if limit is None:
        return
    with open("/proc/self/statm") as statm:
        now = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + limit, now + limit + ROOM))


def _give_room() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def _out_of_memory(message: str, limit: int | None) -> str:
    reached = "" if limit is None else f"the job's process may grow by {limit / (1 << 20):.0f} MiB"
    return f"out of memory: {'; '.join(part for part in (message, reached) if part) or 'MemoryError'}{in_pod()}"


def main() -> None:
    """``python -m carafe.engine.child FD MODULES``: the JSON of what `Children` takes."""
    answers = os.fdopen(int(sys.argv[1]), "wb")
    job_modules, handler_modules, logged, ahead = orjson.loads(sys.argv[2])
    load_jobs(job_modules)
    load_handlers(handler_modules)
    for module in ahead:
        importlib.import_module(module)
    _log_as_the_worker(logged)
    line = sys.stdin.buffer.readline()
    if not line:
        return
    if _parent_is_gone():
        # It died while we were starting: its job may be another's by now, and must not begin here.
        return
    request = orjson.loads(line)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _limit_memory(request["memory_limit"])
    logging.getLogger().addHandler(Sending(lambda message: _say(answers, message)))
    _name_in_log(request)
    _trace(request, answers)
    _say(answers, answer(request, answers))
    # No teardown: whatever the handler left running (threads, atexit hooks) must not hold the slot.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
