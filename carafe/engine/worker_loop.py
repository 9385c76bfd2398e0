"""The event loop of a worker: the engine's services and ``async def`` handlers share it, in a thread of its own.

There is only one loop, because measurements have shown that handing each job to another thread and back costs as much as
everything else about a job. So a handler that blocks the loop holds up its worker: `carafe.engine.loop_watch` sees that from
another thread and names the handler. In every other respect, this module isolates handlers from the engine and from each
other.
Guarantees: the loop turns until `end` is called, even if code on it raises (``SystemExit`` in a task, ``KeyboardInterrupt``
in a callback) or tries to stop it; no handler or hook can cancel a task of the engine or of another running job, neither
directly nor because it awaits that task and is cancelled itself; methods of the loop that would disturb other handlers raise
an error, or do nothing but log a warning.
"""

import asyncio
import os
import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from pathlib import Path
from typing import Any

import uvloop

import carafe
from carafe.engine.captured_logs import running
from carafe.engine.claim import Claim
from carafe.engine.to_threads import TO_THREAD, ToThreads
from carafe.jobs.hooks import HookRun, hooks_run
from carafe.process import stacks
from carafe.telemetry.loggers import get_logger
from carafe.texts import class_name, in_words

log = get_logger("carafe.runner")

SHOWN = 8
"""The number of innermost stack frames that the log shows for a blocked loop. If all of these belong to libraries, the log
also shows the innermost frame of the application's own code."""

GRACE = 0.5
"""When the loop ends, tasks that still run have this many seconds to end."""


Owner = Claim | HookRun
"""The owner of running code: an attempt (as its claim), or a hook that the engine itself runs."""


def whose(context: Context | None = None) -> Owner | None:
    """Returns the owner of the code that runs in this context; None for the engine's own code. Without an argument it looks
    at the current context."""
    if context is None:
        return running.get() or hooks_run.get()
    return context.get(running) or context.get(hooks_run)


class GuardedTask(asyncio.Task[Any]):
    """A task that knows its owner: the engine, an attempt or a hook. Handlers and hooks cannot cancel a task of the engine,
    or of another owner that still runs. They can cancel tasks that a finished job left behind: a later job may close a
    client that an earlier job made.
    """

    __slots__ = ("owner",)
    owner: Owner | None
    """The owner of the code that runs in the task, or that created it. None for tasks of the engine."""

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the task as usual. If the calling code may not cancel it, log that and return False."""
        by = whose()
        if by is not None and by is not self.owner and (self.owner is None or not self.owner.over):
            _spared(by)
            return False
        return super().cancel(msg)

    def stop(self) -> None:
        """Cancel the task on behalf of its owner. If the task awaits a task of another owner, Python would cancel that one
        too; here it continues. Called by the engine; never raises."""
        context = Context()
        context.run(_act_for, self.owner)
        said = self.owner is None or self.owner.spares
        try:
            if self.owner is not None:
                self.owner.spares = True  # it does not do this itself
            context.run(super().cancel)
        except BaseException as error:  # what it waits for has a `cancel` of the application's
            log.warning("a task could not be cancelled", task=self.get_name(), error=class_name(error))
        finally:
            if self.owner is not None:
                self.owner.spares = said

    def where(self) -> list[str]:
        """Returns the lines of code at which the task is now. Callable from any thread; never raises."""
        return stacks.of_coroutine(self.get_coro())

    @property
    def deaf(self) -> bool:
        """Whether the task was cancelled but cannot notice that, because it awaits something that refuses to be
        cancelled."""
        waiter = getattr(self, "_fut_waiter", None)
        return waiter is not None and bool(getattr(self, "_must_cancel", False)) and not waiter.done()


def _act_for(owner: Owner | None) -> None:
    if isinstance(owner, Claim):
        running.set(owner)
    else:
        hooks_run.set(owner)


class SharedLoop(uvloop.Loop):
    """The event loop that the engine and all handlers of a worker share. No handler may stop it or change it for the
    others."""

    _first: Context | None = None
    _step: Callable[[], object] | None = None
    _made = False

    def __init__(self) -> None:
        super().__init__()
        self._made = True
        self._stand_in = self._aside
        super().set_default_executor(ToThreads())

    def create_task(
        self,
        coro: Any,
        *,
        name: str | None = None,
        context: Context | None = None,
        eager_start: bool | None = None,
    ) -> asyncio.Task[Any]:
        """Create a task as usual, and note its owner. If a handler creates it, the task is also recorded in the handler's
        claim, so that tasks left running can be found later. `eager_start` is ignored: the task never begins at once."""
        owner = whose(context)
        task = GuardedTask(coro, loop=self, name=name, context=context)
        task.owner = owner
        if type(owner) is Claim:
            _remember(owner, task)
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:  # type: ignore[override]
        """Call a function in a thread as usual. A handler's function is called in a copy of its context, as
        ``asyncio.to_thread`` does: what it logs is the job's, without the job's secrets."""
        if (executor is None or isinstance(executor, ThreadPoolExecutor)) and running.get() is not None:
            return super().run_in_executor(executor, copy_context().run, func, *args)
        return super().run_in_executor(executor, func, *args)

    def begin(self, coroutine: Coroutine[Any, Any, None], owner: Claim, context: Context) -> GuardedTask:
        """Create a task and run its first step at once. So a task that never waits needs no turn of the event loop (and no
        switch of Python's lock). Must not be called from within a task. `context` must belong to this task alone.

        Python 3.12 can begin a task at once by itself (``eager_start``), older versions cannot. So the first step of the new
        task, which the task passes to `call_soon`, is intercepted and run here. The step is recognised by its context: other
        code may run at that very moment (a destructor, another thread), and its calls of `call_soon` go their usual way.
        """
        ours = self.__dict__
        self._first = context
        ours["call_soon"] = self._stand_in
        try:
            task = GuardedTask(coroutine, loop=self, name=owner.kind, context=context)
        finally:
            del ours["call_soon"]
            self._first = None
        task.owner = owner
        owner.task = task
        step, self._step = self._step, None
        if step is not None:
            context.run(step)
        return task

    def _aside(self, step: Callable[..., object], *arguments: Any, context: Context | None = None) -> Any:
        if context is None or context is not self._first:
            return super().call_soon(step, *arguments, context=context)
        self._first = None
        self._step = step
        return None

    def stop(self) -> None:
        """Always raises ``RuntimeError``: the loop must go on for the other handlers."""
        raise _refused("stop")

    def close(self) -> None:
        """Always raises ``RuntimeError``: the loop must stay open for the other handlers."""
        raise _refused("close")

    def run_forever(self) -> None:
        """Always raises ``RuntimeError``: the worker runs the loop."""
        raise _refused("run")

    def run_until_complete(self, future: Any) -> Any:
        """Always raises ``RuntimeError``: the worker runs the loop. If `future` is a coroutine, it is closed, since it will
        never run."""
        if asyncio.iscoroutine(future):
            future.close()
        raise _refused("run")

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Always raises ``RuntimeError``: without these threads, ``asyncio.to_thread`` would fail in other handlers."""
        raise _refused("shut down the threads of")

    async def shutdown_asyncgens(self) -> None:
        """Always raises ``RuntimeError``: after that, asynchronous generators of other handlers would cause warnings."""
        raise _refused("shut down the generators of")

    def set_default_executor(self, executor: Any) -> None:
        """Does nothing but log a warning: all handlers share the threads."""
        _left_undone("set_default_executor")

    def set_exception_handler(self, handler: Any) -> None:
        """Does nothing but log a warning: all handlers share the loop."""
        _left_undone("set_exception_handler")

    def set_task_factory(self, factory: Any) -> None:
        """Does nothing but log a warning: all handlers share the loop."""
        _left_undone("set_task_factory")

    def set_debug(self, enabled: bool) -> None:
        """Does nothing but log a warning: all handlers share the loop."""
        if self._made:  # uvloop itself calls this while it makes the loop
            _left_undone("set_debug")

    # For the loop's owner alone.

    def turn(self) -> None:
        """Run the loop until `halt` is called. Raises errors such as ``SystemExit`` that code on the loop raises."""
        super().run_forever()

    def halt(self) -> None:
        """Make `turn` return."""
        super().stop()

    def discard(self) -> None:
        """Close the loop."""
        super().close()


def _refused(what: str) -> RuntimeError:
    return RuntimeError(f"a handler cannot {what} the event loop that it runs on: all handlers of its worker share it")


def _spared(by: Owner) -> None:
    if not by.spares:
        by.spares = True
        who = "a handler" if type(by) is Claim else "a hook"
        log.warning(
            f"{who} has tried to cancel tasks that are not its own: the tasks go on", job_id=str(by.id), kind=by.kind
        )


_said: set[str] = set()


def _left_undone(what: str) -> None:
    if what not in _said:
        _said.add(what)
        log.warning(
            f"a handler called loop.{what}, which does nothing here: all handlers of a worker share their event loop"
        )


def _remember(claim: Claim, task: asyncio.Task[Any]) -> None:
    tasks = claim.left
    if tasks is None:
        claim.left = [task]
        return
    tasks.append(task)
    # For a handler that makes tasks for hours: each time the set doubles, ended tasks are removed.
    if len(tasks) >= 64 and len(tasks) & (len(tasks) - 1) == 0:
        claim.left = [task for task in tasks if not task.done()]


_LIBRARIES = tuple(
    {sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    | {str(Path(carafe.__file__).parent) + os.sep, "<frozen "}
)
"""A file whose name begins with one of these texts belongs to Python, to a library or to Carafe, and not to the
application."""


def shown(stack: traceback.StackSummary) -> str:
    """Returns the innermost frames of a stack as text. If all of them belong to libraries, the application's own innermost
    frame comes before them."""
    last = stack[-SHOWN:]
    if all(frame.filename.startswith(_LIBRARIES) for frame in last):
        own = [frame for frame in stack[:-SHOWN] if not frame.filename.startswith(_LIBRARIES)]
        last = [*own[-1:], *last]
    return "".join(traceback.format_list(last))


class WorkerLoop:
    """The event loop of a worker, in a thread of its own."""

    def __init__(self) -> None:
        self.loop = SharedLoop()
        self._thread = threading.Thread(target=self._main, name="carafe engine", daemon=True)
        self._begun = threading.Event()
        self._ending = False
        self._asked: float | None = None

    def start(self) -> None:
        """Start the thread. Returns when the loop turns."""
        self.loop.call_soon(self._begun.set)
        self._thread.start()
        self._begun.wait()

    @property
    def alive(self) -> bool:
        """Whether the loop's thread runs."""
        return self._thread.is_alive()

    @property
    def held_up(self) -> bool:
        """Whether the loop's thread or a thread of ``asyncio.to_thread`` still runs. Python waits for the threads of
        ``asyncio.to_thread`` at exit."""
        return self.alive or any(thread.name.startswith(TO_THREAD) for thread in threading.enumerate())

    def call(self, function: Callable[..., Any], *arguments: Any) -> bool:
        """Call a function on the loop, soon. Callable from any thread. Returns False when the loop is closed."""
        try:
            self.loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            return False
        return True

    def standing(self, now: float) -> float:
        """Returns the number of seconds since the loop last turned. `now` is the present in monotonic seconds. Only one
        thread may call this, and it must call it repeatedly."""
        asked = self._asked
        if asked is None:
            self._asked = now
            self.call(self._turned)
            return 0.0
        return now - asked

    def _turned(self) -> None:
        self._asked = None

    def blocker(self) -> tuple[Owner | None, str]:
        """Returns the owner of the code that runs on the loop at this moment, if known, and the stack of the loop's thread.
        Callable from any thread."""
        owner = getattr(asyncio.current_task(self.loop), "owner", None)
        frame = sys._current_frames().get(self._thread.ident or 0)
        return owner, "" if frame is None else shown(traceback.extract_stack(frame))

    def _main(self) -> None:
        asyncio.set_event_loop(self.loop)
        while not self._ending:
            try:
                self.loop.turn()
            except BaseException as error:
                self._survived(error)
            else:
                if not self._ending:
                    self._survived(None)
            if self.loop.is_closed():
                return
        self._finish()

    def _survived(self, error: BaseException | None) -> None:
        try:
            if error is None:
                log.error("a handler has stopped the worker's event loop: the loop goes on")
            else:
                log.error(
                    f"{class_name(error)} was raised in a task or callback that a handler has left: "
                    "the worker's event loop goes on",
                    error=in_words(error, 500),
                )
        except BaseException:
            pass  # saying so must not end it

    def end(self, timeout: float) -> bool:
        """End the loop and its thread. Returns False if that takes longer than `timeout` seconds, because a handler blocks
        the loop."""
        self.end_soon()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def end_soon(self) -> None:
        """Let the loop end after its current turn. Callable from any thread."""
        self._ending = True
        self.call(self.loop.halt)

    def _finish(self) -> None:
        """Cancel the tasks that handlers have left, give them a moment to end, and close the loop."""
        until = time.monotonic() + GRACE
        try:
            left = [task for task in asyncio.all_tasks(self.loop) if not task.done()]
            for task in left:
                task.cancel()  # in no context of a handler's
            while time.monotonic() < until and not all(task.done() for task in left):
                self.loop.call_later(0.01, self.loop.halt)
                try:
                    self.loop.turn()
                except BaseException as error:
                    self._survived(error)
        finally:
            self.loop.discard()
