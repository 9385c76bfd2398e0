"""How a process of `carafe dev` learns that it is to stop: by signals, or from the process that has started it.

`carafe dev --reload` runs the web process and the worker in a child process, and stops it through a pipe: each byte counts
as one signal, and the end of the pipe (the parent has ended, however) as one more. Such a child leaves Ctrl-C and SIGHUP,
which a terminal sends to both, to its parent.
"""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

from carafe import forks
from carafe.process.signals import ending

TERMINAL = tuple(signal.Signals[name] for name in ("SIGINT", "SIGHUP") if hasattr(signal, name))
"""The signals that a terminal sends to all its processes."""


class Stopping:
    """Counts the requests to stop. A context manager: signals have their former effect after the block.

    For each request, the function `on_ask` is called with the number of requests so far, in the main thread or in a thread
    of its own, between any two instructions.
    """

    def __init__(self, pipe: int | None = None) -> None:
        """`pipe`: the descriptor by which a parent asks, if there is one."""
        self._pipe = pipe
        self._asked = 0
        self._event = threading.Event()
        self.on_ask: Callable[[int], None] = lambda _: None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Stopping":
        for number in ending():
            left_to_the_parent = self._pipe is not None and number in TERMINAL
            self._before[number] = signal.signal(number, self._ignore if left_to_the_parent else self._signalled)
        forks.leave_signals_behind()
        if self._pipe is not None:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, TERMINAL)
            threading.Thread(target=self._listen, args=(self._pipe,), name="carafe dev parent", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)  # type: ignore[arg-type]

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self._ask()

    def _ignore(self, number: int, frame: FrameType | None) -> None:
        pass

    def _listen(self, pipe: int) -> None:
        while os.read(pipe, 1):
            self._ask()
        self._ask()

    def _ask(self) -> None:
        self._asked += 1
        self._event.set()
        self.on_ask(self._asked)

    def asked(self) -> bool:
        """Whether a request has come."""
        return self._asked > 0

    def wait(self) -> None:
        """Wait for the first request."""
        self._event.wait()
