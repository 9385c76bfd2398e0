"""Runs a command, and runs it again at SIGHUP: how `tilt up` puts changed sources into a running container.

Guarantees: the container lives on over a restart, and with it the sources that Tilt has put there; SIGTERM and SIGINT
reach the command, and its end by itself is the container's, with its exit code, so that probes, init containers and
drains behave as without it.
Must never: be part of the image that is deployed; needs nothing but Python.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

HURRY_AFTER = 3.0
"""Seconds that the command gets to drain before it is asked a second time, which Carafe takes as: stop what runs now."""

KILL_AFTER = 10.0
"""Seconds after that until it is killed."""


def main(command: Sequence[str]) -> int:
    """Run `command` until it ends by itself or is told to; returns its exit code (128 and the signal's number)."""
    wanted = {signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, wanted)  # they are read below, so none can come at a bad moment
    process = _start(command)
    while True:
        number = signal.sigwait(wanted)
        if number == signal.SIGHUP:
            sys.stderr.write("restart: the sources have changed\n")
            _end(process)
            process = _start(command)
        elif number != signal.SIGCHLD:
            process.send_signal(number)
        code = process.poll()
        if code is not None:
            return code if code >= 0 else 128 - code


def _start(command: Sequence[str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, preexec_fn=_unblock)


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def _end(process: "subprocess.Popen[bytes]") -> None:
    for patience in (HURRY_AFTER, KILL_AFTER):
        process.terminate()
        try:
            process.wait(patience)
            return
        except subprocess.TimeoutExpired:
            pass
    process.kill()
    process.wait()


if __name__ == "__main__":
    if os.name != "posix" or len(sys.argv) < 2:
        sys.exit("usage: restart.py COMMAND [ARGUMENT]...")
    sys.exit(main(sys.argv[1:]))
