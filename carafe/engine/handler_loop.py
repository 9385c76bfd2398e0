"""The event loop that ``async def`` handlers run on: in a thread of its own, apart from the engine's.

A handler that blocks it holds up its neighbours, and nothing else: claims, ends, deadlines, cancel requests and the drain go
on. Guarantees: the loop turns until `end`, whatever is raised on it (``SystemExit`` in a task, ``KeyboardInterrupt`` in a
callback) or asked of it; what a handler cannot have done to a loop that it shares is refused in words, or left undone with a
warning. Must never: carry anything of the engine's own.
"""

import asyncio
import contextlib
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import structlog
import uvloop

from carafe.engine.captured_logs import running
from carafe.engine.slot import Claim
from carafe.texts import class_name, in_words

log = structlog.stdlib.get_logger("carafe.runner")

T = TypeVar("T")

TO_THREAD = "carafe to_thread"
"""How the names of the threads begin that ``asyncio.to_thread`` uses."""

SHOWN = 8
"""Frames of a blocked loop's stack that the log shows, the innermost."""

GRACE = 0.5
"""Seconds that tasks which are still there get to end at the loop's end."""


class SharedLoop(uvloop.Loop):
    """A loop that belongs to all handlers of a worker: none may stop or change it for the others."""

    def __init__(self) -> None:
        super().__init__()
        super().set_default_executor(ThreadPoolExecutor(thread_name_prefix=TO_THREAD))

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """As ever; the claim whose handler makes it knows what it leaves running."""
        task: asyncio.Task[Any] = super().create_task(coro, **options)
        claim = running.get()
        if claim is not None:
            _remember(claim, task)
        return task

    def stop(self) -> None:
        """Refused."""
        raise _refused("stop")

    def close(self) -> None:
        """Refused."""
        raise _refused("close")

    def run_forever(self) -> None:
        """Refused."""
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


class HandlerLoop:
    """The loop in its thread."""

    def __init__(self) -> None:
        self.loop = SharedLoop()
        self._thread = threading.Thread(target=self._main, name="carafe handlers", daemon=True)
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
        """Whether its thread is there, or one that a handler has used by ``asyncio.to_thread``: Python waits for those."""
        return self.alive or any(thread.name.startswith(TO_THREAD) for thread in threading.enumerate())

    def call(self, function: Callable[..., Any], *arguments: Any) -> bool:
        """Call a function on the loop, soon; from any thread. False when the loop is no more."""
        try:
            self.loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            return False
        return True

    async def run(self, coroutine: Coroutine[Any, Any, T], *, within: float) -> T | None:
        """Run a coroutine on the loop, from another one; None when it has not ended `within` so many seconds."""
        try:
            work = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        except RuntimeError:
            coroutine.close()
            return None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                return await asyncio.wrap_future(work)
        return None

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

    def blocker(self) -> tuple[Claim | None, str]:
        """The claim whose handler holds the loop at this moment, if that can be told, and where it is. From any thread."""
        task = asyncio.current_task(self.loop)
        frame = sys._current_frames().get(self._thread.ident or 0)
        stack = "" if frame is None else "".join(traceback.format_stack(frame, limit=None)[-SHOWN:])
        return getattr(task, "claim", None), stack

    def owner_of(self, claims: list[Claim]) -> Claim | None:
        """Of `claims` the one whose handler made the task that runs at this moment."""
        task = asyncio.current_task(self.loop)
        return next((claim for claim in claims if task is not None and task in (claim.left or ())), None)

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
                log.error("a handler has stopped the event loop of the handlers: it goes on")
            else:
                log.error(
                    f"{class_name(error)} was raised in a task or callback that a handler has left: "
                    "the event loop of the handlers goes on",
                    error=in_words(error, 500),
                )
        except BaseException:
            pass  # saying so must not end it

    def end(self, timeout: float) -> bool:
        """End the loop and its thread; False when a handler holds it for longer than `timeout` seconds."""
        self._ending = True
        self.call(self.loop.halt)
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _finish(self) -> None:
        """Cancel what handlers have left, give it a moment, and close."""
        until = time.monotonic() + GRACE
        try:
            left = [task for task in asyncio.all_tasks(self.loop) if not task.done()]
            for task in left:
                task.cancel()
            while time.monotonic() < until and not all(task.done() for task in left):
                self.loop.call_later(0.01, self.loop.halt)
                try:
                    self.loop.turn()
                except BaseException as error:
                    self._survived(error)
        finally:
            self.loop.discard()
