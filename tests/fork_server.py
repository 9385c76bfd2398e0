"""`python -m tests.fork_server DESCRIPTOR SOCKET MODULE…`: imports the modules, then forks a process at each request.

See `tests.forked`, which starts and asks it, and `tests.warm`, which asks by the socket of that path. A process forked here
goes the way of ``python -m carafe …`` from its first line on, in the folder, with the environment and on the descriptors
that it was asked for with. Its exit code is written to the last of these descriptors. DESCRIPTOR is a socket of the process
that has started this: when its other side is gone, all that was forked is killed.
"""

import contextlib
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
    """What a new process is to be: ``python -m module arguments``. `descriptors`: its standard three, and where its exit
    code goes. `session`: it leads a new one."""

    module: str
    arguments: list[str]
    folder: str
    environment: dict[str, str]
    session: bool
    descriptors: list[int]


def serve(starter: socket.socket, askers: socket.socket) -> Request:
    """Fork for each request. Returns in the new process alone, with what it was asked for."""
    waking, woken = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(waking, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: dict[int, int] = {}
    waited_for: list[Any] = [starter, askers, waking]
    while True:
        ready, _, _ = select.select(waited_for, [], [])
        if waking in ready:
            os.read(waking, 65_536)
            tell_of_the_ended(running)
        if starter in ready:
            for pid in running:
                os.kill(pid, signal.SIGKILL)
            sys.exit(0)
        if askers not in ready:
            continue
        asker = askers.accept()[0]
        request = received(asker)
        if request is None:
            with contextlib.suppress(OSError):
                asker.sendall(READY)  # who asks for nothing asks whether all is imported
            asker.close()
            continue
        assert threading.active_count() == 1, threading.enumerate()
        leading, leads = os.pipe()
        pid = os.fork()
        if pid == 0:
            if request.session:
                os.setsid()
            os.write(leads, READY)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return request
        os.close(leads)
        os.read(leading, 1)  # anyone who knows its number may signal its group
        os.close(leading)
        *standard, running[pid] = request.descriptors
        for descriptor in standard:
            os.close(descriptor)
        with contextlib.suppress(OSError):  # gone, with whatever it was for
            asker.sendall(LENGTH.pack(pid))
        asker.close()


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
    sys.argv[:] = [request.module, *request.arguments]


def main() -> None:
    starter = socket.socket(fileno=int(sys.argv[1]))
    askers = socket.socket(socket.AF_UNIX)
    askers.bind(sys.argv[2])
    askers.listen(128)
    starter.sendall(READY)  # who asks from now on waits for the imports
    importlib.import_module("carafe.telemetry.structlog_alone")
    for module in sys.argv[3:]:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    request = serve(starter, askers)
    become(request)
    for closed in (starter, askers):
        closed.detach()
    runpy.run_module(request.module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
