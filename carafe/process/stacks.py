"""When the process gets SIGUSR1, shows what line of code every thread and every asyncio task is at. The output goes to
standard error, between the log lines.

Guarantees: `faulthandler` writes the threads' stacks, whatever the process is doing, even while a function in C holds
Python's lock. The tasks' stacks follow as log lines as soon as Python code runs. The process then continues unchanged.
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

from carafe.plain_text import one_line
from carafe.telemetry.loggers import get_logger

log = get_logger("carafe.process.stacks")

Loops = Mapping[str, asyncio.AbstractEventLoop]

MAX_FRAMES = 50
"""The greatest number of coroutines shown for one task, and of functions for one thread."""

MAX_TASKS = 200
"""The greatest number of tasks shown for one event loop."""


def show_on_signal(loops: Callable[[], Loops] | None = None) -> None:
    """Show stacks at each SIGUSR1 from now on. The function `loops` returns a dictionary of the event loops whose tasks are
    shown, by name; if it is None, the main thread's loop is shown. Call `show_on_signal` from the main thread. Does nothing
    on a system without this signal."""
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
    log.warning("stacks: the threads; their stacks are in the lines above", threads=names)
    for name, loop in loops.items():
        with contextlib.suppress(RuntimeError):  # its tasks change faster than they can be listed
            tasks = sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())
            log.warning("stacks: the tasks of an event loop", loop=name, tasks=len(tasks))
            for task in tasks[:MAX_TASKS]:
                log.warning(
                    "stacks: a task", loop=name, task=task.get_name(), stack="\n".join(of_coroutine(task.get_coro()))
                )


def of_coroutine(coroutine: Any) -> list[str]:
    """Returns where a coroutine is: a line (``file:number in function``) for itself, and one for each that it awaits, the
    innermost last. (``Task.print_stack`` shows only the outermost.) Of a coroutine that runs just now, it returns the stack
    of its thread, from the coroutine's own frame on. Callable from any thread; never raises."""
    lines: list[str] = []
    waiting: Any = coroutine
    try:
        while waiting is not None and len(lines) < MAX_FRAMES:
            frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "gi_frame", None)
            if frame is not None:
                if lines_below := _running_in(frame):
                    return [*lines, *lines_below]
                lines.append(_line(frame))
            waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "gi_yieldfrom", None)
    except Exception as error:  # it went on meanwhile
        lines.append(type(error).__name__)
    return lines


def of_thread(ident: int) -> list[str]:
    """Returns where a thread is: a line for each function, the innermost last, `MAX_FRAMES` at most (the innermost). Returns
    an empty list if there is no such thread. Callable from any thread; never raises."""
    return of_frame(sys._current_frames().get(ident))


def of_frame(innermost: FrameType | None) -> list[str]:
    """Returns a line for each function of the stack that ends in this frame, the innermost last, `MAX_FRAMES` at most (the
    innermost)."""
    return [_line(frame) for frame in _frames(innermost)][-MAX_FRAMES:]


def _running_in(sought: FrameType) -> list[str]:
    """The stack of the thread that runs this frame now, from the frame on; empty if none does."""
    for innermost in sys._current_frames().values():
        frames = _frames(innermost)
        if sought in frames:
            return [_line(frame) for frame in frames[frames.index(sought) :]][-MAX_FRAMES:]
    return []


def _frames(innermost: FrameType | None) -> list[FrameType]:
    """The frames of a stack, the innermost last."""
    found: list[FrameType] = []
    while innermost is not None:
        found.append(innermost)
        innermost = innermost.f_back
    return found[::-1]


def _line(frame: FrameType) -> str:
    code = frame.f_code
    # Both may hold anything, as in code that a program has compiled; neither may begin a line of its own.
    return one_line(f"{code.co_filename}:{frame.f_lineno} in {code.co_qualname}")
