"""Child processes for ``isolation="process"``: one attempt each, killable, with a memory limit of their own.

A child is started ahead and waits, its modules imported, so that a job does not pay for Python's start; it runs one job and
exits. It leads a process group of its own, and whatever its handler has started in that group ends with it: at a timeout, a
cancel and a crash at once, at its ordinary end after a moment. It ends by itself when its parent is gone.
Must never: wait for what a handler has started. The child's own end decides, not the pipes, which others may hold open.
"""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import orjson

from carafe import forks
from carafe.engine import cgroup
from carafe.kubernetes.pod import in_pod

Report = Callable[[float, str], None]
Logged = Callable[[float, str, str], None]
Spans = Callable[[dict[str, Any]], None] | None

START = 60.0
"""Seconds that a child may take to import its modules and begin its job; a job's timeout starts after that."""

GRACE = 0.5
"""Seconds that what a handler has left in its process group gets to end by itself, once the job has an answer."""

LOOK = 0.2
"""Seconds between two looks whether a child still lives, where the system cannot tell its end by a descriptor."""

ENOUGH = 64 << 20
"""Bytes of one message of a child at most; its results and log lines are bounded far below."""

WITHHELD = ("API_TOKENS", "DASHBOARD_USERS", "DASHBOARD_SECRET_KEYS")
"""Settings that no handler needs: the web process's own secrets."""


class ChildDied(Exception):
    """The child ended without an answer; the text says how."""


class Children:
    """The children of one worker. Its methods block, and are called from the runner's threads."""

    def __init__(
        self,
        job_modules: Sequence[str],
        handler_modules: Sequence[str],
        logging: Sequence[str] = (),
        ahead: Sequence[str] = (),
    ) -> None:
        """`logging` is the level and format of the log (LOG_LEVEL, LOG_FORMAT); nothing: as Python leaves it. `ahead` are
        modules of ours to import before the job comes, with its time and its memory limit."""
        self._modules = orjson.dumps([list(job_modules), list(handler_modules), list(logging), list(ahead)]).decode()
        self._lock = threading.Lock()
        self._spare: Child | None = None
        self._closed = False

    def run(
        self,
        request: dict[str, Any],
        started: "Callable[[Child], None]",
        begun: Callable[[], None],
        completes: Callable[[bool], None],
        report: Report,
        logged: Logged,
        spans: Spans = None,
    ) -> Any:
        """Run one attempt in a child: `started` gets it (to kill it), `begun` is called when its handler begins, `completes`
        when a transaction of its own is about to end the job (False: it has failed), `report` gets its progress, `logged`
        its log lines, `spans` those that its handler has made, where it is traced. Returns the answer.

        Raises `ChildDied`.
        """
        with self._lock:
            child, self._spare = self._spare or Child(self._modules), None
        try:
            started(child)
            with suppress(RuntimeError):  # no more threads: the next job waits for its Python's start
                threading.Thread(target=self._prepare, name="carafe spare child", daemon=True).start()
            return child.run(request, begun, completes, report, logged, spans)
        finally:
            child.close()

    def _prepare(self) -> None:
        with self._lock:
            if self._spare is None and not self._closed:
                self._spare = Child(self._modules)

    def close(self) -> None:
        """End the waiting child."""
        with self._lock:
            self._closed = True
            if self._spare is not None:
                self._spare.kill()
                self._spare.close()
                self._spare = None


class Child:
    """One child process: its request on one pipe, its answers on another; its own output goes where ours goes."""

    def __init__(self, modules: str) -> None:
        asking, self._asking = os.pipe()
        self._answers, answering = os.pipe()
        self._ours = [self._asking, self._answers]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "carafe.engine.child", str(asking), str(answering), modules],
                stdin=subprocess.DEVNULL,
                pass_fds=(asking, answering),
                env={name: value for name, value in os.environ.items() if name.upper() not in WITHHELD},
                # Out of the terminal's group: Ctrl-C is for the worker, which then decides. And a group of its own, so
                # that whatever the handler starts can be ended with it.
                start_new_session=True,
            )
        except BaseException:
            self._close_pipes()
            raise
        finally:
            os.close(asking)
            os.close(answering)
        os.set_blocking(self._answers, False)
        self._end: int | None = None
        if hasattr(os, "pidfd_open"):
            with suppress(OSError):
                self._end = os.pidfd_open(self._process.pid)
                self._ours.append(self._end)
        # A copy of ours, forked by a handler in a thread, would be taken for us by the child.
        forks.keep_to_ourselves(descriptors=self._ours)
        self._lock = threading.Lock()
        self._gone = False
        self._begin_by: float | None = None

    def run(
        self,
        request: dict[str, Any],
        begun: Callable[[], None],
        completes: Callable[[bool], None],
        report: Report,
        logged: Logged,
        spans: Spans = None,
    ) -> Any:
        """Run the one job; returns its answer, or raises `ChildDied`."""
        kills = cgroup.oom_kills()
        self._begin_by = time.monotonic() + START
        with suppress(OSError):  # it has died: told below, with how
            _write(self._asking, orjson.dumps({**request, "sent": time.monotonic()}) + b"\n")
        for line in self._lines():
            message = orjson.loads(line)
            if "begun" in message:
                self._begin_by = None
                begun()
            elif "log" in message:
                logged(*message["log"])
            elif "completes" in message:
                completes(message["completes"])
            elif "progress" in message:
                report(*message["progress"])
            elif "span" in message:
                if spans is not None:
                    spans(message["span"])
            else:
                return message
        if self._begin_by is not None and time.monotonic() >= self._begin_by:
            raise ChildDied(f"the job's process did not begin its job within {START:g} s of being asked to{in_pod()}")
        raise ChildDied(how(self._reap(), kills))

    def _lines(self) -> Iterator[bytes]:
        """What it says, line by line, until it has ended, or has not begun in time."""
        poll = select.poll()
        poll.register(self._answers, select.POLLIN)
        if self._end is not None:
            poll.register(self._end, select.POLLIN)
        rest = b""
        while True:
            left = None if self._begin_by is None else max(0.0, self._begin_by - time.monotonic())
            if self._end is None:
                left = LOOK if left is None else min(LOOK, left)
            poll.poll(None if left is None else left * 1000)
            # Before the pipe is read: what it wrote before its end is there then.
            ended = self._has_ended()
            while chunk := self._read():
                *lines, rest = (rest + chunk).split(b"\n")
                yield from lines
                if len(rest) > ENOUGH:
                    return
            if ended or (self._begin_by is not None and time.monotonic() >= self._begin_by):
                return
            if chunk is not None:
                # End of file while it lives: its handler has closed what is not its own. Only its end is left to wait for.
                with suppress(KeyError):
                    poll.unregister(self._answers)

    def _read(self) -> bytes | None:
        """What there is to read; empty at the end of the file, None when there is nothing yet."""
        try:
            return os.read(self._answers, 1 << 16)
        except BlockingIOError:
            return None

    def _has_ended(self) -> bool:
        """Whether it has exited; it is not reaped, so that its number and its group's stay its own."""
        if self._process.returncode is not None:
            return True
        if not hasattr(os, "waitid"):
            return self._process.poll() is not None
        try:
            return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def kill(self) -> None:
        """End it and all of its group at once, whatever they do. From any thread; harmless when they have ended."""
        with self._lock:
            if not self._gone:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Let it go: give it and its group a moment to end by themselves, kill what remains, reap it."""
        try:
            if not self._gone:
                self._wait_for_group(time.monotonic() + GRACE)
                self._reap()
        finally:
            self._close_pipes()

    def _reap(self) -> int:
        """End the group, and only then let the child's number, which is the group's, be another's."""
        self.kill()
        until = time.monotonic() + GRACE
        while _any_of(self._process.pid) and time.monotonic() < until:
            time.sleep(0.001)  # the kernel ends them in its own time
        self._wait_for_end()
        with self._lock:
            code = self._process.wait()  # returns at once: it has ended
            self._gone = True
        return code

    def _wait_for_end(self) -> None:
        """Wait until it has exited, without reaping it. No lock is held, so that `kill` never waits for this."""
        if hasattr(os, "waitid"):
            with suppress(ChildProcessError):
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
            return
        while self._process.poll() is None:
            time.sleep(LOOK)

    def _wait_for_group(self, until: float) -> None:
        pause = 0.001
        while not self._has_ended() or _any_of(self._process.pid):
            if time.monotonic() > until:
                return
            time.sleep(pause)
            pause = min(0.02, pause * 2)

    def _close_pipes(self) -> None:
        forks.let_go(self._ours)
        for descriptor in self._ours:
            with suppress(OSError):
                os.close(descriptor)
        self._ours = []


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _any_of(group: int) -> bool:
    """Whether a process of the group is left that has not ended. Where there is no /proc nobody knows: False."""
    try:
        processes = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return False
    for name in processes:
        try:
            with open(f"/proc/{name}/stat", "rb") as stat:
                state, _, found = stat.read().rpartition(b")")[2].split()[:3]
        except (OSError, ValueError):
            continue  # it has just ended
        if int(found) == group and state not in (b"Z", b"X"):
            return True
    return False


def suspect_memory_limit() -> int | None:
    """Bytes that a suspect's child may grow by: below what the container has left, so that the kernel kills nobody else.

    None where no memory limit is set.
    """
    left = cgroup.memory_left()
    return None if left is None else max(64 << 20, int(left * 0.9))


def how(code: int, kills_before: int | None) -> str:
    """How a child ended before it had answered, by its exit code (as `subprocess` gives it) and the kernel's counter of
    kills for lack of memory, as it was when the child began."""
    if code >= 0:
        return f"the job's process exited with code {code} before it had answered{in_pod()}"
    if code == -signal.SIGKILL and kills_before is not None and (cgroup.oom_kills() or 0) > kills_before:
        limit = cgroup.memory_limit()
        reached = "" if limit is None else f" (container limit {limit / (1 << 20):.0f} MiB)"
        return f"out of memory: the job's process was killed by the kernel{reached}{in_pod()}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"the job's process was killed by {name}{in_pod()}"
