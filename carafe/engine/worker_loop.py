"""The event loop of a worker: the engine's services and ``async def`` handlers share it, in a thread of its own.

One loop, because handing each job to another thread and back was measured to cost as much as all the rest of its way. So a
handler that blocks it holds up its worker: that is seen from outside (`carafe.engine.loop_watch`) and said by name. All else
is kept apart here. Guarantees: the loop turns until `end`, whatever is raised on it (``SystemExit`` in a task,
``KeyboardInterrupt`` in a callback) or asked of it; no handler or hook cancels a task of the engine's or of another job that
runs, neither by itself nor by waiting for it when it is stopped; what cannot be done to a loop that is shared is refused in
words, or left undone with a warning.
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
from contextvars import Context
from pathlib import Path
from typing import Any

import structlog
import uvloop

import carafe
from carafe.engine.captured_logs import running
from carafe.engine.slot import Claim
from carafe.jobs.hooks import HookRun, hooks_run
from carafe.texts import class_name, in_words

log = structlog.stdlib.get_logger("carafe.runner")

TO_THREAD = "carafe to_thread"
"""How the names of the threads begin that ``asyncio.to_thread`` uses."""

SHOWN = 8
"""Frames of a blocked loop's stack that the log shows, the innermost; and the application's own, where it stands above."""

GRACE = 0.5
"""Seconds that tasks which are still there get to end at the loop's end."""


Owner = Claim | HookRun
"""Whose code runs: an attempt's, or a hook's that the engine itself runs."""


def whose(context: Context | None = None) -> Owner | None:
    """Whose code runs in this context (None: in the current one); None: the engine's."""
    if context is None:
        return running.get() or hooks_run.get()
    return context.get(running) or context.get(hooks_run)


class GuardedTask(asyncio.Task[Any]):
    """A task that knows whose it is, and lets nobody's code cancel what belongs to the engine or to another job that runs.

    What a job has left behind may be cancelled by others: a client that one job makes is closed by a later one.
    """

    __slots__ = ("owner",)
    owner: Owner | None
    """Whose code has made it, or runs in it; None: the engine's."""

    def cancel(self, msg: Any = None) -> bool:
        """As ever, but for somebody else's."""
        by = whose()
        if by is not None and by is not self.owner and (self.owner is None or not self.owner.over):
            _spared(by)
            return False
        return super().cancel(msg)

    def stop(self) -> None:
        """Cancel it in the name of its owner: what it waits for and is not its own (Python hands a cancellation on to that)
        goes on. From the engine; never raises."""
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

    @property
    def deaf(self) -> bool:
        """Whether it was cancelled and does not hear of it: what it waits for lets nobody cancel it."""
        waiter = getattr(self, "_fut_waiter", None)
        return waiter is not None and bool(getattr(self, "_must_cancel", False)) and not waiter.done()


def _act_for(owner: Owner | None) -> None:
    if isinstance(owner, Claim):
        running.set(owner)
    else:
        hooks_run.set(owner)


class SharedLoop(uvloop.Loop):
    """A loop that belongs to all of a worker: no handler may stop or change it for the others."""

    _first: Context | None = None
    _step: Callable[[], object] | None = None
    _made = False

    def __init__(self) -> None:
        super().__init__()
        self._made = True
        self._stand_in = self._aside
        super().set_default_executor(ThreadPoolExecutor(thread_name_prefix=TO_THREAD))

    def create_task(
        self,
        coro: Any,
        *,
        name: str | None = None,
        context: Context | None = None,
        eager_start: bool | None = None,
    ) -> asyncio.Task[Any]:
        """As ever; the claim whose handler makes it knows what it leaves running. `eager_start` is left undone: the task
        begins in its turn."""
        owner = whose(context)
        task = GuardedTask(coro, loop=self, name=name, context=context)
        task.owner = owner
        if type(owner) is Claim:
            _remember(owner, task)
        return task

    def begin(self, coroutine: Coroutine[Any, Any, None], owner: Claim, context: Context) -> GuardedTask:
        """A task whose first step runs at once, so that one that never waits costs no turn of the loop (and no turn of
        Python's lock with it). Not from within a task; `context` is this task's alone.

        Python 3.12 can begin a task at once by itself (``eager_start``), older ones cannot: what the new task hands to
        `call_soon`, its first step, is taken aside. It is known by its context: other code may run at that very moment (a
        destructor, another thread), and what that hands over goes its usual way.
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
        """Refused."""
        raise _refused("stop")

    def close(self) -> None:
        """Refused."""
        raise _refused("close")

    def run_forever(self) -> None:
        """Refused."""
        raise _refused("run")

    def run_until_complete(self, future: Any) -> Any:
        """Refused; a coroutine is closed, since it will never run."""
        if asyncio.iscoroutine(future):
            future.close()
        raise _refused("run")

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Refused: the next handler's ``asyncio.to_thread`` would fail."""
        raise _refused("shut down the threads of")

    async def shutdown_asyncgens(self) -> None:
        """Refused: the next handler's asynchronous generators would be told off."""
        raise _refused("shut down the generators of")

    def set_default_executor(self, executor: Any) -> None:
        """Left undone."""
        _left_undone("set_default_executor")

    def set_exception_handler(self, handler: Any) -> None:
        """Left undone."""
        _left_undone("set_exception_handler")

    def set_task_factory(self, factory: Any) -> None:
        """Left undone."""
        _left_undone("set_task_factory")

    def set_debug(self, enabled: bool) -> None:
        """Left undone."""
        if self._made:  # uvloop itself does while it makes the loop
            _left_undone("set_debug")

    # For its owner alone.

    def turn(self) -> None:
        """Run until `halt`; raises what is raised on the loop."""
        super().run_forever()

    def halt(self) -> None:
        """Let `turn` return."""
        super().stop()

    def discard(self) -> None:
        """Close it."""
        super().close()


def _refused(what: str) -> RuntimeError:
    return RuntimeError(f"a handler cannot {what} the event loop that it runs on: all handlers of its worker share it")


def _spared(by: Owner) -> None:
    if not by.spares:
        by.spares = True
        who = "a handler" if type(by) is Claim else "a hook"
        log.warning(f"{who} has tried to cancel tasks that are not its own: they go on", job_id=str(by.id), kind=by.kind)


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
    # A handler that makes tasks for hours: at each doubling those that have ended go.
    if len(tasks) >= 64 and len(tasks) & (len(tasks) - 1) == 0:
        claim.left = [task for task in tasks if not task.done()]


_LIBRARIES = tuple(
    {sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    | {str(Path(carafe.__file__).parent) + os.sep, "<frozen "}
)
"""How the names of files begin that are Python's, a library's or ours."""


def shown(stack: traceback.StackSummary) -> str:
    """The innermost frames of a stack, and above them the application's own innermost line, where a library that it called
    goes deeper."""
    last = stack[-SHOWN:]
    if all(frame.filename.startswith(_LIBRARIES) for frame in last):
        own = [frame for frame in stack[:-SHOWN] if not frame.filename.startswith(_LIBRARIES)]
        last = [*own[-1:], *last]
    return "".join(traceback.format_list(last))


class WorkerLoop:
    """The loop in its thread."""

    def __init__(self) -> None:
        self.loop = SharedLoop()
        self._thread = threading.Thread(target=self._main, name="carafe engine", daemon=True)
        self._begun = threading.Event()
        self._ending = False
        self._asked: float | None = None

    def start(self) -> None:
        """Start it; returns when it turns."""
        self.loop.call_soon(self._begun.set)
        self._thread.start()
        self._begun.wait()

    @property
    def alive(self) -> bool:
        """Whether its thread is there."""
        return self._thread.is_alive()

    @property
    def held_up(self) -> bool:
        """Whether its thread is there, or one that a handler has used by ``asyncio.to_thread``: those are daemons, since the
        loop's thread is one, and Python waits for them at exit all the same."""
        return self.alive or any(thread.name.startswith(TO_THREAD) for thread in threading.enumerate())

    def call(self, function: Callable[..., Any], *arguments: Any) -> bool:
        """Call a function on the loop, soon; from any thread. False when the loop is no more."""
        try:
            self.loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            return False
        return True

    def standing(self, now: float) -> float:
        """Seconds for which the loop has not turned, as of `now` in monotonic ones. Asked by one thread, again and again."""
        asked = self._asked
        if asked is None:
            self._asked = now
            self.call(self._turned)
            return 0.0
        return now - asked

    def _turned(self) -> None:
        self._asked = None

    def blocker(self) -> tuple[Owner | None, str]:
        """Whose code holds the loop at this moment, if that can be told, and where it is. From any thread."""
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
                log.error("a handler has stopped the worker's event loop: it goes on")
            else:
                log.error(
                    f"{class_name(error)} was raised in a task or callback that a handler has left: "
                    "the worker's event loop goes on",
                    error=in_words(error, 500),
                )
        except BaseException:
            pass  # saying so must not end it

    def end(self, timeout: float) -> bool:
        """End the loop and its thread; False when a handler holds it for longer than `timeout` seconds."""
        self.end_soon()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def end_soon(self) -> None:
        """Let the loop end after this turn; from any thread."""
        self._ending = True
        self.call(self.loop.halt)

    def _finish(self) -> None:
        """Cancel what handlers have left, give it a moment, and close."""
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
