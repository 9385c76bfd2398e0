"""The signals at which a process stops in an orderly way."""

import os
import signal
import threading
from types import FrameType


def ending() -> tuple[signal.Signals, ...]:
    """Returns the signals that end a process: SIGTERM, SIGINT and SIGHUP (sent when a terminal closes, and by some
    supervisors). SIGHUP is left out if the process has ignored this signal since its start (``nohup``). So call this
    function before any signal handler is set."""
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is None or signal.getsignal(hangup) == signal.SIG_IGN:
        return signal.SIGTERM, signal.SIGINT
    return signal.SIGTERM, signal.SIGINT, hangup


def end_while_starting() -> None:
    """Until the process sets its own handlers, have these signals end it with code 0 at once: nothing has begun yet. Without
    this, a signal in the first seconds would kill it, and its supervisor would count a failure."""
    if threading.current_thread() is threading.main_thread():
        for number in ending():
            signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(0)
