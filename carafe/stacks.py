"""SIGUSR1: where every thread and every task of this process is, on standard error, among the lines of the log.

Guarantees: the threads' stacks come from `faulthandler`, whatever the process is doing (a function in C that holds Python's
lock included); the tasks' follow as log lines as soon as Python runs. Nothing stops or changes by it.
"""

import asyncio
import contextlib
import faulthandler
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

import structlog

log = structlog.stdlib.get_logger("carafe.stacks")

Loops = Mapping[str, asyncio.AbstractEventLoop]

MAX_FRAMES = 50
"""Coroutines of one task that are shown."""

MAX_TASKS = 200
"""Tasks of one loop that are shown."""


def show_on_signal(loops: Callable[[], Loops] | None = None) -> None:
    """Show stacks at each SIGUSR1 from now on; `loops` gives the event loops whose tasks are shown, by their names (None:
    the one that runs in the main thread). From the main thread; does nothing where there is no such signal."""
    number = getattr(signal, "SIGUSR1", None)
    if number is None or not hasattr(faulthandler, "register"):
        return

    def told(number: int, frame: FrameType | None) -> None:
        found = _running() if loops is None else loops()
        threading.Thread(target=_show, args=(found,), name="carafe stacks", daemon=True).start()

    signal.signal(number, told)
    with contextlib.suppress(OSError, ValueError, AttributeError):  # no standard error with a descriptor: tasks alone
        faulthandler.register(number, file=sys.stderr, all_threads=True, chain=True)


def _running() -> Loops:
    with contextlib.suppress(RuntimeError):
        return {"main": asyncio.get_running_loop()}
    return {}


def _show(loops: Loops) -> None:
    names = {f"{thread.ident or 0:#018x}": thread.name for thread in threading.enumerate()}
    log.warning("stacks: the threads, whose stacks stand above", threads=names)
    for name, loop in loops.items():
        with contextlib.suppress(RuntimeError):  # its tasks change faster than they can be listed
            tasks = sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())
            log.warning("stacks: the tasks of an event loop", loop=name, tasks=len(tasks))
            for task in tasks[:MAX_TASKS]:
                log.warning("stacks: a task", loop=name, task=task.get_name(), stack=_stack(task))


def _stack(task: "asyncio.Task[Any]") -> str:
    """Where it is: each coroutine that it awaits, the innermost last (``Task.print_stack`` shows the outermost alone)."""
    lines: list[str] = []
    waiting: Any = task.get_coro()
    try:
        while waiting is not None and len(lines) < MAX_FRAMES:
            frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "gi_frame", None)
            if frame is not None:
                code = frame.f_code
                lines.append(f"{code.co_filename}:{frame.f_lineno} in {code.co_qualname}")
            waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "gi_yieldfrom", None)
    except Exception as error:  # it went on meanwhile
        lines.append(type(error).__name__)
    return "\n".join(lines)
