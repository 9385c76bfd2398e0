"""What a process that is forked from ours does not inherit: signal handlers, listening sockets, a running event loop.

A handler may fork (``multiprocessing``, ``os.fork``) from a thread or from a coroutine. The forked process must not drain at
SIGTERM as a worker does, and must not keep our ports open after our process has ended. Processes started by ``subprocess``
inherit none of these anyway.
Guarantees: this module's fork hook costs nothing until something forks, and never raises in the forked process.
"""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable

OURS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1")
"""Signals that carafe, Celery and uvicorn handle."""

_descriptors: dict[int, tuple[int, int]] = {}
"""The descriptors to close after a fork, each with the device and inode of its file. A descriptor whose number now belongs
to another file is left open."""
_afterwards: list[Callable[[], None]] = []
_installed = _signals = False
_forking = threading.local()


def keep_to_ourselves(descriptors: Iterable[int]) -> None:
    """Close these descriptors in every process that is forked from this one, until `let_go`."""
    _descriptors.update({descriptor: _behind(descriptor) for descriptor in descriptors})
    _install()


def let_go(descriptors: Iterable[int]) -> None:
    """Forget these descriptors: they were closed, and other files may now have their numbers."""
    for descriptor in descriptors:
        _descriptors.pop(descriptor, None)


def after_fork(function: Callable[[], None]) -> None:
    """Call a function in every process that is forked from this one."""
    if function not in _afterwards:
        _afterwards.append(function)
    _install()


def leave_signals_behind() -> None:
    """In every process that is forked from this one, restore the default effect of the signals that this process handles."""
    global _signals
    _signals = hasattr(signal, "pthread_sigmask")
    _install()


def _behind(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def _install() -> None:
    global _installed
    if not _installed and hasattr(os, "register_at_fork"):
        _installed = True
        os.register_at_fork(before=_about_to_fork, after_in_parent=_has_forked, after_in_child=_forked)


def _about_to_fork() -> None:
    if _signals:
        # A signal that comes before the copy has dropped our handlers would be lost in them: it is blocked until then.
        _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ours())


def _has_forked() -> None:
    if _signals:
        signal.pthread_sigmask(signal.SIG_SETMASK, _forking.mask)


def _ours() -> list[signal.Signals]:
    return [signal.Signals[name] for name in OURS if hasattr(signal, name)]


def _reset_signals() -> None:
    global _signals
    if not _signals:
        return
    _signals = False  # what is forked from the copy has another parent
    signal.set_wakeup_fd(-1)
    for number in _ours():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, _forking.mask)


def _forked() -> None:
    with contextlib.suppress(Exception):
        _reset_signals()
    with contextlib.suppress(Exception):
        asyncio._set_running_loop(None)
        asyncio.set_event_loop(None)
    for descriptor, behind in _descriptors.items():
        with contextlib.suppress(OSError):
            if _behind(descriptor) == behind:
                os.close(descriptor)
    _descriptors.clear()
    functions = _afterwards[:]
    _afterwards.clear()
    for function in functions:
        with contextlib.suppress(Exception):
            function()
