"""The main module of a child process: imports the modules, waits for one job, runs it, answers, exits.

Its two pipes are its own: processes that the handler starts do not inherit them, and no lock is held for good by a thread of
ours, so that a handler may fork as it likes. Standard input is empty; a handler may read it, close it, or replace it.
"""

import asyncio
import contextlib
import importlib
import inspect
import logging
import os
import resource
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson

from carafe import forks
from carafe.database import Database
from carafe.engine.attempts import AttemptContext, progress_values
from carafe.engine.captured_logs import Sending
from carafe.engine.hiding import Hiding, loaded
from carafe.engine.results import ResultNotUsable, encode_result
from carafe.jobs.delays import delay_of
from carafe.jobs.errors import InvalidArguments, PayloadTooLarge
from carafe.jobs.handlers import handlers
from carafe.jobs.modules import load_handlers, load_jobs
from carafe.jobs.outcomes import Cancel, Discard, Outcome, Retry, Snooze
from carafe.kubernetes.pod import in_pod
from carafe.texts import class_name, describe, in_words, reason_of


class ChildContext:
    """The context of a plain function inside a child; see `carafe.jobs.context.SyncContext`. It is killed, never asked."""

    cancelled = False

    def __init__(self, row: dict[str, Any], answers: "Answers") -> None:
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
        self._answers.say({"progress": [values["fraction"], self._answers.shown(values["note"] or "")]})


def answer(request: dict[str, Any], answers: "Answers") -> dict[str, Any]:
    """Run the job of a request; the answer is its result or how it failed."""
    handler = handlers()[request["kind"]]
    # Its time starts here. The monotonic clock is the machine's, so that the parent's can be compared with it.
    late = timedelta(seconds=max(0.0, time.monotonic() - request["sent"]))
    deadline = datetime.fromisoformat(request["deadline_at"]) + late
    row = {**request, "id": UUID(request["id"]), "deadline_at": deadline}
    completed = False
    what: Any
    try:
        job = loaded(handler.job, row, answers)
        if inspect.iscoroutinefunction(handler.function):
            what, completed = asyncio.run(_run_async(handler.function, job, row, answers))
        else:
            what = handler.function(job, ChildContext(row, answers))
        if completed:
            return {"completed": True}
        if not issubclass(type(what), Outcome):  # by its true type: what it says of its class may be anything
            result = encode_result(what, request["result_limit"])
            return {"result": result if result is None or answers.hiding is None else answers.hiding.json(result)}
    except BaseException as error:
        what = error
    try:
        return _told(what, request["memory_limit"], answers.shown)
    except BaseException as failure:
        text = f"the attempt ended with {class_name(what)}, and its end could not be made: {in_words(failure, 500)}"
        return {"cause": "error", "error": answers.shown((class_name(what), text, None))}


def _told(what: Any, memory_limit: int | None, shown: Callable[[Any], Any]) -> dict[str, Any]:
    """The answer for an outcome or an error; its attributes may be anything. `shown` gives a text as it may be shown."""
    _give_room()
    if sys.getrecursionlimit() < _RECURSION_LIMIT:
        sys.setrecursionlimit(_RECURSION_LIMIT)
    kind = type(what)
    reason = shown(reason_of(getattr(what, "reason", None))) if issubclass(kind, Outcome) else ""
    if issubclass(kind, Retry):
        after = getattr(what, "after", None)
        delay = None if after is None else delay_of("Retry(after=)", after)
        return {"outcome": "retry", "reason": reason, "after": delay}
    if issubclass(kind, Snooze):
        return {"outcome": "snooze", "for": delay_of("Snooze()", getattr(what, "for_", None))}
    if issubclass(kind, Discard):
        return {"outcome": "discard", "reason": reason}
    if issubclass(kind, Cancel):
        return {"outcome": "cancel", "reason": reason}
    name, message, trace = describe(what)
    cause = "error"
    if issubclass(kind, ResultNotUsable | PayloadTooLarge):
        cause = "result"
    elif issubclass(kind, InvalidArguments):
        cause = "validation"
    elif issubclass(kind, MemoryError):
        message = _out_of_memory(message, memory_limit)
    return {"cause": cause, "error": shown((name, message, trace))}


_RECURSION_LIMIT = sys.getrecursionlimit()


async def _run_async(function: Any, job: Any, row: dict[str, Any], answers: "Answers") -> tuple[Any, bool]:
    """Run an ``async def`` handler with the context it would have in the worker, on connections of the child's own."""
    database = Database(row["database_url"], pool_size=2, name="carafe child")
    context = AttemptContext(row, None, database, row["result_limit"])
    context.hiding, context.tell = answers.hiding, lambda yes: answers.say({"completes": yes})
    try:
        return await function(job, context), context.completed
    except Exception:
        if context.completed:
            return None, True
        raise
    finally:
        await database.close()


class Answers:
    """The pipe to the parent: messages, a line each. Any of the handler's threads may say something.

    A message has words of ours, by which the parent reads it, and texts of the handler's: these go through `shown`.
    """

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._descriptor = descriptor
        self._saying = threading.Lock()
        self.hiding: Hiding | None = None
        """What none of the messages shows, from when it is known."""
        forks.keep_to_ourselves(descriptors=[descriptor])
        forks.after_fork(self._be_silent)

    def shown(self, value: Any) -> Any:
        """A text, or a value with texts in it, as the parent may be told: without the job's secrets."""
        return value if self.hiding is None else self.hiding.value(value)

    def log(self, at: float, level: str, text: str) -> None:
        """Pass on a line that was logged; see `captured_logs.line_of`. Raises as `say`."""
        self.say({"log": [at, level, self.shown(text)]})

    def say(self, message: dict[str, Any]) -> None:
        """Send a message. Raises `OSError` when the parent is gone, or the handler has closed the pipe."""
        data = memoryview(orjson.dumps(message) + b"\n")
        with self._saying:
            while data and self._descriptor >= 0:
                data = data[os.write(self._descriptor, data) :]

    def _be_silent(self) -> None:
        """In what was forked from us: the pipe is closed, and a thread that is not there may hold the lock."""
        self._descriptor = -1
        self._saying = threading.Lock()


def _log_as_the_worker(settings: Sequence[Any]) -> None:
    """Log lines look and go as the worker's own."""
    if settings:
        from carafe.logging import configure_logging
        from carafe.settings import Settings

        configure_logging(Settings.model_construct(log_level=settings[0], log_format=settings[1]))


def _name_in_log(request: dict[str, Any], answers: Answers) -> None:
    from carafe.logging import annotate, hide

    job = {"job_id": request["id"], "kind": request["kind"], "attempt": request["attempt"] + 1}
    annotate("job", lambda: job)
    hide(lambda: None if answers.hiding is None else answers.hiding.value)


def _trace(request: dict[str, Any], answers: Answers) -> None:
    """The handler's own spans belong to the attempt's, which is the parent's to end."""
    if trace := request.get("trace"):
        from carafe.tracing import parse
        from carafe.tracing.tracer import begin_in_child

        place = parse(trace)
        assert place is not None
        begin_in_child(place, answers.say, answers.shown)


def _asked(descriptor: int) -> dict[str, Any] | None:
    """The request; None when the parent has gone before it asked for anything, or while we were starting."""
    line = b""
    while not line.endswith(b"\n"):
        chunk = os.read(descriptor, 1 << 16)
        if not chunk:
            return None
        line += chunk
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if poll.poll(0):
        # After the request only its end can be read there: the job may be another's by now, and must not begin here.
        return None
    request: dict[str, Any] = orjson.loads(line)
    return request


def _end_with_parent(descriptor: int) -> None:
    """Nothing more ever comes on that pipe: its end is the parent's end, and so ours and that of all that we started."""
    try:
        while os.read(descriptor, 1):
            pass
    except OSError:
        return  # the handler has closed it
    os.killpg(0, signal.SIGKILL)


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
    """``python -m carafe.engine.child ASKING ANSWERING MODULES``: two pipes, and the JSON of what `Children` takes."""
    asking, answers = int(sys.argv[1]), Answers(int(sys.argv[2]))
    os.set_inheritable(asking, False)
    forks.keep_to_ourselves(descriptors=[asking])
    job_modules, handler_modules, logged, ahead = orjson.loads(sys.argv[3])
    load_jobs(job_modules)
    load_handlers(handler_modules)
    for module in ahead:
        importlib.import_module(module)
    _log_as_the_worker(logged)
    request = _asked(asking)
    if request is None:
        return
    threading.Thread(target=_end_with_parent, args=(asking,), daemon=True).start()
    _limit_memory(request["memory_limit"])
    logging.getLogger().addHandler(Sending(answers.log))
    _name_in_log(request, answers)
    _trace(request, answers)
    answers.say({"begun": True})
    answers.say(answer(request, answers))
    # No teardown: whatever the handler left running (threads, atexit hooks) must not hold the slot.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # the handler's own by now, or closed
            stream.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
