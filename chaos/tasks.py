"""What a worker's event loop waits for, on SIGUSR2: into its log, for reading when something is stuck."""

import asyncio
import signal
import sys
import threading
from types import FrameType
from typing import Any

_loop: asyncio.AbstractEventLoop | None = None


def see_loop() -> None:
    """Remember the running loop; called by handlers."""
    global _loop
    try:
        _loop = asyncio.get_running_loop()
    except RuntimeError:
        pass  # a thread or a child


def _tell(number: int, frame: FrameType | None) -> None:
    if _loop is None:
        return
    for task in asyncio.all_tasks(_loop):
        sys.stderr.write(f"task {task.get_name()}: {' < '.join(reversed(_awaits(task.get_coro())))}\n")
    sys.stderr.flush()


def _awaits(awaited: Any) -> list[str]:
    """The chain of what a coroutine waits for, outermost first."""
    chain: list[str] = []
    while awaited is not None and len(chain) < 40:
        frame = (
            getattr(awaited, "cr_frame", None) or getattr(awaited, "ag_frame", None) or getattr(awaited, "gi_frame", None)
        )
        chain.append(f"{frame.f_code.co_qualname}:{frame.f_lineno}" if frame else repr(awaited)[:120])
        awaited = (
            getattr(awaited, "cr_await", None)
            or getattr(awaited, "ag_await", None)
            or getattr(awaited, "gi_yieldfrom", None)
        )
    return chain


def install() -> None:
    """Listen to SIGUSR2, where that can be done."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGUSR2, _tell)
