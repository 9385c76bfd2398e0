"""The main module of a child process: it imports the application's modules, waits for one job, runs it, answers and exits.

Processes that the handler starts do not inherit the two pipes to the parent. A handler may fork its process, since no lock
in Carafe's code stays locked in the fork. Standard input is empty; a handler may read it, close it, or replace it.
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
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import orjson

import carafe.telemetry.structlog_alone  # noqa: F401  # before any other import of ours
from carafe import forks
from carafe.engine import borrowed_loop
from carafe.engine.captured_logs import Sending
from carafe.engine.children import START
from carafe.engine.completions import read_outcome
from carafe.engine.failures import failure_of
from carafe.engine.lifespans import LifespanFailed, Lifespans, Values, value_of
from carafe.engine.progress import progress_values
from carafe.engine.results import encode_result
from carafe.jobs.handlers import handlers
from carafe.jobs.hiding import Hiding, loaded
from carafe.jobs.modules import load_handlers, load_jobs
from carafe.jobs.outcomes import Outcome
from carafe.jobs.worker_lifespan import WorkerLifespan, worker_lifespans
from carafe.kubernetes.pod import in_pod
from carafe.process import stacks
from carafe.texts import class_name, in_words

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from carafe.engine.child_transactions import OwnTransactions
    from carafe.engine.contexts import AttemptContext


T = TypeVar("T")


class ChildContext:
    """The context of a plain function inside a child process; see `carafe.jobs.context.SyncContext`. `cancelled` is always
    False, since a child process is not asked to stop when its job is cancelled: it is killed."""

    __slots__ = (
        "_answers",
        "_own",
        "_row",
        "_shared",
        "attempt",
        "deadline",
        "job_id",
        "kind",
        "max_attempts",
        "result",
        "timeout",
    )

    cancelled = False

    def __init__(self, row: dict[str, Any], answers: "Answers", shared: Values) -> None:
        self._row, self._answers, self._shared = row, answers, shared
        self._own: OwnTransactions | None = None
        self.result: Any = None
        self.job_id: UUID = row["id"]
        self.kind: str = row["kind"]
        self.attempt: int = row["attempt"] + 1
        self.max_attempts: int = row["max_attempts"]
        self.timeout: float = row["timeout"]
        self.deadline: datetime = row["deadline_at"]

    def progress(self, fraction: float, note: str = "") -> None:
        """Report the attempt's progress: `fraction` from 0 to 1, and a short note."""
        values = progress_values(fraction, note)
        self._answers.say({"progress": [values["fraction"], self._answers.shown(values["note"] or "")]})

    def lifespan(self, of: WorkerLifespan[T]) -> T:
        """See `SyncContext.lifespan`."""
        return value_of(self._shared, of)

    @contextmanager
    def transaction(self) -> "Iterator[Session]":
        """See `SyncContext.transaction`."""
        if self._own is None:
            from carafe.engine.child_transactions import OwnTransactions

            self._own = OwnTransactions(self._row, self._shared, self._answers.hiding, self._answers.completes)
        before = self.result
        try:
            with self._own.transaction() as (session, attempt):
                yield session
                attempt.result = self.result
        except BaseException:
            self.result = before
            raise

    def too_late(self, what: Any) -> tuple[bool, str | None]:
        """Returns whether the handler's own transaction has ended the job, and, if so, what `AttemptContext.too_late` says
        of `what`, which the handler then raised or returned."""
        if self._own is None or not self._own.attempt.completed:
            return False, None
        self._own.attempt.result = self.result
        return True, self._own.attempt.too_late(what)

    def close(self) -> None:
        """Close the connections that the handler has used."""
        if self._own is not None:
            self._own.close()


def answer(request: dict[str, Any], answers: "Answers", entered: "Entered") -> dict[str, Any]:
    """Run the job that a request from the parent process describes. Returns the answer to send: the job's result, or how the
    job failed."""
    handler = handlers()[request["kind"]]
    # Its time starts here. The monotonic clock is the machine's, so that the parent's can be compared with it.
    late = timedelta(seconds=max(0.0, time.monotonic() - request["sent"]))
    deadline = datetime.fromisoformat(request["deadline_at"]) + late
    row = {**request, "id": UUID(request["id"]), "deadline_at": deadline}
    what: Any
    try:
        job = loaded(handler.job, row, answers)
        if inspect.iscoroutinefunction(handler.function):
            what, context = entered.run(_run_async(handler.function, job, row, answers, entered.values))
            if context.completed:
                return {"completed": True, "too_late": answers.shown(context.too_late(what))}
            if what is None:
                what = context.result
        else:
            what, completed, words = _run_plain(handler.function, job, row, answers, entered.values)
            if completed:
                return {"completed": True, "too_late": answers.shown(words)}
        if not issubclass(type(what), Outcome):  # by its true type: what it says of its class may be anything
            result = encode_result(what, request["result_limit"])
            return {"result": result if result is None or answers.hiding is None else answers.hiding.json(result)}
    except BaseException as error:
        what = error
    try:
        return _told(what, request["memory_limit"], answers.shown)
    except BaseException as failure:
        text = f"the attempt ended with {class_name(what)}, but its outcome could not be read: {in_words(failure, 500)}"
        return {"cause": "error", "error": answers.shown((class_name(what), text, None))}


def _told(what: Any, memory_limit: int | None, shown: Callable[[Any], Any]) -> dict[str, Any]:
    """Returns the answer to send to the parent for `what`, the outcome or exception with which the handler ended. The
    attributes of `what` may have any values. The function `shown` removes the job's secrets from texts."""
    _give_room()
    if sys.getrecursionlimit() < _RECURSION_LIMIT:
        sys.setrecursionlimit(_RECURSION_LIMIT)
    said = read_outcome(what)
    if said is not None:
        return {"outcome": said.word, "reason": shown(said.reason), "delay": said.delay}
    cause, name, message, trace = failure_of(what)
    if issubclass(type(what), MemoryError):
        message = _out_of_memory(message, memory_limit)
    return {"cause": cause, "error": shown((name, message, trace))}


_RECURSION_LIMIT = sys.getrecursionlimit()


_tasks: list["asyncio.Task[Any]"] = []
"""The task of an ``async def`` handler, once it runs. Empty for a plain function."""


def where() -> list[str]:
    """The lines of code at which this process's job is now: those of the handler's task or, of a plain function, of the main
    thread. Callable from any thread."""
    for task in _tasks:
        return stacks.of_coroutine(task.get_coro())
    return borrowed_loop.where(threading.main_thread().ident or 0)


async def _run_async(
    function: Any, job: Any, row: dict[str, Any], answers: "Answers", shared: Values
) -> "tuple[Any, AttemptContext]":
    """Run an ``async def`` handler with the same kind of context as in the worker, but with this process's own connections.
    Returns the handler's value and the context. If the handler raised after its own transaction had ended the job, returns
    the exception as the value."""
    # Of all that a child imports these take longest, after pydantic: `main` has done so where a handler may need them.
    from carafe.engine.contexts import AttemptContext
    from carafe.store.database import Database

    task = asyncio.current_task()
    assert task is not None
    _tasks.append(task)
    database = Database(row["database_url"], pool_size=2, name="carafe child")
    context = AttemptContext(row, None, database, row["result_limit"], shared)
    context.hiding, context.tell = answers.hiding, answers.completes
    try:
        return await function(job, context), context
    except BaseException as error:
        if context.completed:
            return error, context
        raise
    finally:
        await database.close()


def _run_plain(
    function: Any, job: Any, row: dict[str, Any], answers: "Answers", shared: Values
) -> tuple[Any, bool, str | None]:
    """Run a plain handler. Returns its value, whether its own transaction has ended the job, and what then came too late, in
    words. Raises what the handler raises, unless the job has ended before."""
    context = ChildContext(row, answers, shared)
    what: Any
    try:
        what = borrowed_loop.run(partial(function, job, context))
    except BaseException as error:
        what = error
    try:
        completed, words = context.too_late(what)
        if completed:
            return None, True, words
    finally:
        context.close()
    if issubclass(type(what), BaseException) and not issubclass(type(what), Outcome):
        raise what
    return (context.result if what is None else what), False, None


class Entered:
    """The worker lifespans of this process. `values` are theirs; `failure` is the error of one that failed at its start.
    `run` runs a coroutine on the event loop on which they were entered."""

    def __init__(self, asking: int, answers: "Answers") -> None:
        """Enter the lifespans, and tell the parent the name of each. If the parent ends meanwhile (`asking` is the pipe from
        it), this process ends too."""

        def enters(name: str) -> None:
            with contextlib.suppress(OSError):  # the parent has ended
                answers.say({"entering": name})

        self._lifespans = Lifespans(worker_lifespans(), within=START, enters=enters)
        self._leaving = threading.Event()
        self.values = self._lifespans.values
        self.failure: LifespanFailed | None = None
        self._runner: asyncio.Runner | None = None
        if self._lifespans.entering is not None:
            # Now, since the job may use up the memory that a thread needs.
            threading.Thread(target=_end_after, args=(self._leaving,), daemon=True).start()
            self._runner, done = asyncio.Runner(), threading.Event()
            threading.Thread(target=_end_if_orphaned, args=(asking, done), daemon=True).start()
            try:
                self._runner.run(self._lifespans.enter())
            except LifespanFailed as failure:
                self.failure = failure
            finally:
                done.set()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run the coroutine to its end, and return its result."""
        return asyncio.run(coroutine) if self._runner is None else self._runner.run(coroutine)

    def leave(self) -> None:
        """Leave the lifespans. If they take too long, the parent process kills this one (`children.GRACE`). Where no parent
        is left, it kills itself."""
        if self._runner is not None:
            self._leaving.set()
            self._runner.run(self._lifespans.leave(LEAVING))


LEAVING = 5.0
"""Seconds that leaving the lifespans may take where no parent process ends it sooner."""


def _end_after(leaving: threading.Event) -> None:
    """Kill this process and its whole process group if it still lives some seconds after `leaving` is set, whatever holds up
    its event loop."""
    leaving.wait()
    threading.Event().wait(LEAVING + 1)
    os.killpg(0, signal.SIGKILL)


class Answers:
    """The pipe to the parent, which carries messages: one line of JSON each. Any thread may send one.

    The keys of a message are chosen by Carafe. Texts in it may come from the handler; these must go through `shown` first.
    """

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._descriptor = descriptor
        self._saying = threading.Lock()
        self.hiding: Hiding | None = None
        """Removes the job's secrets from messages. None while the secrets are not known yet, and for a job without
        secrets."""
        forks.keep_to_ourselves(descriptors=[descriptor])
        forks.after_fork(self._be_silent)

    def shown(self, value: Any) -> Any:
        """Returns `value`, a text or a value that contains texts, with the job's secrets removed."""
        return value if self.hiding is None else self.hiding.value(value)

    def log(self, at: float, level: str, text: str) -> None:
        """Send a line that the handler has logged to the parent. The arguments are the values that `captured_logs.line_of`
        returns. Raises `OSError` in the same cases as `say`."""
        self.say({"log": [at, level, self.shown(text)]})

    def completes(self, yes: bool) -> None:
        """Tell the parent whether the handler's own transaction is about to end the job. Raises `OSError` in the same cases
        as `say`."""
        self.say({"completes": yes})

    def say(self, message: dict[str, Any]) -> None:
        """Send a message to the parent. Raises `OSError` when the parent is gone or the handler has closed the pipe."""
        data = memoryview(orjson.dumps(message) + b"\n")
        with self._saying:
            while data and self._descriptor >= 0:
                data = data[os.write(self._descriptor, data) :]

    def _be_silent(self) -> None:
        """Send nothing more. Called in a process that the handler has forked, where the pipe is closed. Replaces the lock,
        since it may be held by a thread that was not copied into the fork."""
        self._descriptor = -1
        self._saying = threading.Lock()


def _log_as_the_worker(settings: Sequence[Any]) -> None:
    """Configure logging as in the worker. `settings` are LOG_LEVEL and LOG_FORMAT; when empty, logging stays as it is."""
    if settings:
        from carafe.telemetry.logging import LogSettings, configure_logging

        configure_logging(LogSettings(*settings))


def _name_in_log(request: dict[str, Any], answers: Answers) -> None:
    from carafe.telemetry.logging import annotate, hide

    job = {"job_id": request["id"], "kind": request["kind"], "attempt": request["attempt"] + 1}
    annotate("job", lambda: job)
    hide(lambda: None if answers.hiding is None else answers.hiding.value)


def _trace(request: dict[str, Any], answers: Answers) -> None:
    """Make the handler's own spans children of the attempt's span, which the parent process ends."""
    if trace := request.get("trace"):
        from carafe.tracing import parse
        from carafe.tracing.tracer import begin_in_child

        place = parse(trace)
        assert place is not None
        begin_in_child(place, answers.say, answers.shown)


def _asked(descriptor: int) -> dict[str, Any] | None:
    """Wait for the parent's request and return it. Returns None if the parent has ended, even if it had sent a request
    before."""
    line = b""
    while not line.endswith(b"\n"):
        chunk = os.read(descriptor, 1 << 16)
        if not chunk:
            return None
        line += chunk
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if poll.poll(0):
        # After the request only the end of the pipe can be read, when the parent has ended: another may have the job by now.
        return None
    request: dict[str, Any] = orjson.loads(line)
    return request


def _end_if_orphaned(descriptor: int, until: threading.Event) -> None:
    """Kill this process and its whole process group if its parent ends before `until` is set. Reads nothing from the
    pipe."""
    poll = select.poll()
    poll.register(descriptor, 0)  # the pipe's end alone
    while not until.is_set():
        if poll.poll(LOOK) and not until.is_set():
            os.killpg(0, signal.SIGKILL)


LOOK = 1000
"""Milliseconds between two looks whether `_end_if_orphaned` is still needed."""


def _end_with_parent(descriptor: int, answers: Answers) -> None:
    """Wait until the pipe from the parent is closed at the parent's side, which means that the parent has ended. Then kill
    this process and its whole process group, and so all processes that the handler started in it. Until then, each byte that
    the parent writes asks where the job is. Returns only if the handler has closed the pipe on this side."""
    try:
        while os.read(descriptor, 1):
            with contextlib.suppress(Exception):  # no memory left, or the pipe to the parent is closed
                answers.say({"where": where()})
    except OSError:
        return  # the handler has closed it
    os.killpg(0, signal.SIGKILL)


ROOM = 32 << 20
"""Bytes beyond the job's memory limit that this process may use to report the job's failure, since the job's data may still
fill its memory."""


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
    """Run ``python -m carafe.engine.child ASKING ANSWERING MODULES``. The first two arguments are descriptors of pipes, the
    third is JSON from `Children` with four lists: job modules, handler modules, log settings, and other modules to
    import."""
    asking, answers = int(sys.argv[1]), Answers(int(sys.argv[2]))
    os.set_inheritable(asking, False)
    forks.keep_to_ourselves(descriptors=[asking])
    job_modules, handler_modules, logged, ahead = orjson.loads(sys.argv[3])
    load_jobs(job_modules)
    load_handlers(handler_modules)
    if any(found.mode == "process" and inspect.iscoroutinefunction(found.function) for found in handlers().values()):
        ahead = [*ahead, "carafe.engine.contexts"]
    for module in ahead:
        importlib.import_module(module)
    _log_as_the_worker(logged)
    entered = Entered(asking, answers)
    request = _asked(asking)
    if request is not None:
        threading.Thread(target=_end_with_parent, args=(asking, answers), daemon=True).start()
        if entered.failure is None:
            _begin(request, answers, entered)
        else:
            answers.say({"not_begun": str(entered.failure)})
    entered.leave()
    # No teardown: whatever the handler left running (threads, atexit hooks) must not hold the slot.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # the handler's own by now, or closed
            stream.flush()
    os._exit(0)


def _begin(request: dict[str, Any], answers: Answers, entered: Entered) -> None:
    _limit_memory(request["memory_limit"])
    logging.getLogger().addHandler(Sending(answers.log))
    _name_in_log(request, answers)
    _trace(request, answers)
    answers.say({"begun": True})
    answers.say(answer(request, answers, entered))


if __name__ == "__main__":
    main()
