"""`python -m tests.fork_server DESCRIPTOR MODULE…`: imports the modules, then forks a process of `carafe` at each request.

See `tests.forked`, which starts and asks it. A process forked here goes the way of ``python -m carafe …`` from its first
line on, in the folder, with the environment and on the descriptors that it was asked for with. Its exit code is written to
the last of these descriptors. When the asking side is gone, all that was forked is killed.
"""

import gc
import importlib
import json
import os
import random
import runpy
import select
import signal
import socket
import struct
import sys
import threading
from dataclasses import dataclass
from typing import Any

LENGTH = struct.Struct("!I")
CODE = struct.Struct("!i")
READY = b"!"
FOREIGN = sys.path[1 + len([part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]) :]
"""What Python itself puts on the path."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a new process is to be. `descriptors`: its standard three, and where its exit code goes."""

    arguments: list[str]
    folder: str
    environment: dict[str, str]
    descriptors: list[int]


def serve(connection: socket.socket) -> Request:
    """Fork for each request. Returns in the new process alone, with what it was asked for."""
    waking, woken = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(waking, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: dict[int, int] = {}
    waited_for: list[Any] = [connection, waking]
    while True:
        ready, _, _ = select.select(waited_for, [], [])
        if waking in ready:
            os.read(waking, 65_536)
            tell_of_the_ended(running)
        if connection in ready:
            request = received(connection)
            if request is None:
                for pid in running:
                    os.kill(pid, signal.SIGKILL)
                sys.exit(0)
            assert threading.active_count() == 1, threading.enumerate()
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                return request
            *standard, running[pid] = request.descriptors
            for descriptor in standard:
                os.close(descriptor)
            connection.sendall(LENGTH.pack(pid))


def tell_of_the_ended(running: dict[int, int]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        told = running.pop(pid)
        try:
            os.write(told, CODE.pack(os.waitstatus_to_exitcode(status)))
        except BrokenPipeError:
            pass  # nobody asks any longer
        os.close(told)


def received(connection: socket.socket) -> Request | None:
    """The next request; None when there will be none."""
    head, descriptors, _, _ = socket.recv_fds(connection, LENGTH.size, 4)
    if not head:
        return None
    assert len(head) == LENGTH.size
    (length,) = LENGTH.unpack(head)
    body = b""
    while len(body) < length:
        part = connection.recv(length - len(body))
        if not part:
            return None
        body += part
    return Request(descriptors=descriptors, **json.loads(body))


def become(request: Request) -> None:
    """Make this process what `subprocess` would have made."""
    *standard, _ = request.descriptors
    for number, descriptor in enumerate(standard):
        os.dup2(descriptor, number)
    os.closerange(3, 1024)
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environment)
    given = [part for part in request.environment.get("PYTHONPATH", "").split(os.pathsep) if part]
    sys.path[:] = [request.folder, *given, *FOREIGN]
    importlib.invalidate_caches()
    if request.environment.get("PYTHONUNBUFFERED"):
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(write_through=True)  # type: ignore[union-attr]
    random.seed()
    sys.argv[:] = ["carafe", *request.arguments]


def main() -> None:
    connection = socket.socket(fileno=int(sys.argv[1]))
    carafe: Any = importlib.import_module("carafe.cli")
    carafe._import_structlog()
    for module in sys.argv[2:]:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    connection.sendall(READY)
    become(serve(connection))
    connection.detach()  # closed above
    runpy.run_module("carafe", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
