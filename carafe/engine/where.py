"""Where a running attempt is: the lines of code of its task or thread, or of its child process, and of the tasks that it has
made. Files, line numbers and functions alone: no values, so no arguments and no secrets.

Called by the heartbeat's thread, so that an attempt which blocks the event loop is shown as well.
"""

from pathlib import Path

from carafe.engine import to_threads
from carafe.engine.claim import Claim
from carafe.process import stacks
from carafe.texts import clean

MAX_LINES = 200
"""The maximum number of lines of an answer."""

MAX_LINE = 500
"""The maximum number of characters of a line."""

MAX_TASKS = 20
"""The maximum number of tasks of a handler that are shown."""

_OURS = str(Path(__file__).parent)
_AROUND = (
    *("/threading.py:", "<frozen runpy>:", "/asyncio/runners.py:", "/asyncio/base_events.py:", "/asyncio/events.py:"),
    "/concurrent/futures/thread.py:",
)

BLOCKS = "It blocks the worker's event loop: the other jobs of this worker stand still."


def where(claim: Claim, *, blocks: bool = False) -> list[str] | None:
    """Returns the lines, the innermost last, and before them a remark where the lines do not say enough. Returns None while
    the child process has not answered: ask again. `blocks`: whether the attempt blocks the worker's event loop."""
    if claim.where_apart is not None:
        found = claim.where_apart()
        if found is None:
            return None
        lines = _with_remarks(_without_the_engine(found))
    elif claim.task is None or claim.over:
        return ["It waits for a slot."] if not claim.over else []
    else:
        lines = _with_remarks(_without_the_engine(claim.task.where()))
        if blocks:
            lines.insert(0, BLOCKS)
        for thread in to_threads.lines_of(claim):
            lines += ["", to_threads.THREAD, *_without_the_engine(thread)]
        for task in [task for task in list(claim.left or ()) if not task.done()][:MAX_TASKS]:
            lines += ["", "a task that the handler has made:", *stacks.of_coroutine(task.get_coro())]
    if claim.hiding is not None:  # a file may be named after anything
        lines = [claim.hiding.text(line) for line in lines]
    return [clean(line, MAX_LINE) for line in lines[:MAX_LINES]]


def _with_remarks(lines: list[str]) -> list[str]:
    return [to_threads.WAITS, *lines] if to_threads.waits(lines) else lines


def _without_the_engine(lines: list[str]) -> list[str]:
    """The lines from the handler on: without those of the engine and of Python's own that call it."""
    for index, line in enumerate(lines):
        if not line.startswith(_OURS) and not any(part in line for part in _AROUND):
            return lines[index:]
    return lines
