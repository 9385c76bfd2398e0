"""Child processes for ``isolation="process"``: each runs one attempt, can be killed, and has a memory limit of its own.

A child is started before a job needs it, imports its modules and waits, so that no job waits for Python to start. It runs
one job and exits. It leads a process group of its own, and the processes that its handler started in that group end with it:
after a timeout, a cancel or a crash at once, and otherwise a moment after the child's answer. A child ends by itself when
its parent process has ended.
Must never: wait for processes that a handler has started. A child counts as ended when its process has ended, not when its
pipes are closed, since other processes may hold these open.
"""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import orjson

from carafe import forks
from carafe.engine import cgroup
from carafe.jobs.worker_lifespan import worker_lifespans
from carafe.kubernetes.pod import in_pod
from carafe.telemetry.loggers import get_logger

log = get_logger("carafe.runner")

Report = Callable[[float, str], None]
Logged = Callable[[float, str, str], None]
Spans = Callable[[dict[str, Any]], None] | None

START = 60.0
"""Seconds within which a child must begin the job that it was given. The job's timeout starts when its handler begins."""

GRACE = 0.5
"""After the child has answered, the processes that its handler left in the process group have this many seconds to end by
themselves."""

LOOK = 0.2
"""Seconds between two checks whether a child still lives, on systems without file descriptors for processes (pidfd)."""

FRESH = 5.0
"""Seconds for which the child's answer to the question where it is counts, and for which it is not asked again."""

WHERE = b"?"
"""What the child is sent after its request: the question at which lines of code it is."""

ENOUGH = 64 << 20
"""The maximum number of bytes of one message from a child. Results and log lines have far lower limits."""

WITHHELD = ("API_TOKENS", "DASHBOARD_USERS", "DASHBOARD_SECRET_KEYS")
"""Settings that a child does not get in its environment: secrets of the web process, which no handler needs."""


class ChildDied(Exception):
    """Raised when a child process ended before it had sent an answer. The text says how the process ended."""


class NotBegun(Exception):
    """Raised when a child process ended, or took longer than `START`, before it began its job: one of its worker lifespans
    has failed, for instance. The text says why. The job has not begun."""


class NotStarted(Exception):
    """Raised when the operating system cannot start a child process (it has no more file descriptors or memory). The job has
    not begun, and another worker may be able to run it."""


class Children:
    """The child processes of one worker. The methods block, and are called from the runner's threads."""

    def __init__(
        self,
        job_modules: Sequence[str],
        handler_modules: Sequence[str],
        logging: Sequence[str] = (),
        ahead: Sequence[str] = (),
    ) -> None:
        """`logging` is the level and the format of the log (LOG_LEVEL, LOG_FORMAT). When it is empty, the children leave
        logging as Python sets it up. `ahead` names further modules that a child imports before it gets a job, so that the
        import counts neither towards the job's timeout nor towards its memory limit."""
        self._modules = orjson.dumps([list(job_modules), list(handler_modules), list(logging), list(ahead)]).decode()
        # As they are now: what handlers make of them for the whole process is not the next job's.
        self._environment = {name: value for name, value in os.environ.items() if name.upper() not in WITHHELD}
        self._folder = os.getcwd()
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
        """Run one attempt in a child process. Returns the child's answer.

        The callbacks: `started` is called with the `Child`, so that the caller can kill it. `begun` is called when the
        handler begins. `completes` is called with True when the handler's own transaction is about to end the job, and with
        False if that transaction has failed. `report` is called with the handler's progress, `logged` with each of its log
        lines, and `spans`, if the attempt is traced, with each span that the handler made.

        Raises `ChildDied` if the child ends without an answer, `NotBegun` if it does so before the handler begins, and
        `NotStarted` if no child can be started.
        """
        child = self._take()
        try:
            started(child)
            with suppress(RuntimeError):  # no more threads: the next job waits for its Python's start
                threading.Thread(target=self._prepare, name="carafe spare child", daemon=True).start()
            return child.run(request, begun, completes, report, logged, spans)
        finally:
            child.close()

    def _take(self) -> "Child":
        with self._lock:
            spare, self._spare = self._spare, None
        if spare is not None and not spare.has_ended():
            return spare
        if spare is not None:
            # Killed while it waited, by whomever: that is not the job's doing.
            log.warning("a child process has ended before it had a job; another one is started")
            spare.close()
        try:
            return self._new()
        except (OSError, MemoryError) as error:
            raise NotStarted from error

    def _new(self) -> "Child":
        return Child(self._modules, self._environment, self._folder)

    def _prepare(self) -> None:
        with self._lock, suppress(OSError, MemoryError):  # the next job waits for its Python's start, or is left to others
            if self._spare is None and not self._closed:
                self._spare = self._new()

    def close(self) -> None:
        """End the child process that waits for a job, and start no more."""
        with self._lock:
            self._closed = True
            if self._spare is not None:
                if worker_lifespans():
                    self._spare.dismiss()
                else:
                    self._spare.kill()
                self._spare.close()
                self._spare = None


class Child:
    """One child process. It reads its request from one pipe and writes its answers to another. What it prints goes where the
    worker's output goes."""

    def __init__(self, modules: str, environment: Mapping[str, str], folder: str) -> None:
        asking, self._asking = os.pipe()
        try:
            self._answers, answering = os.pipe()
        except OSError:
            os.close(asking)
            os.close(self._asking)
            raise
        self._ours = [self._asking, self._answers]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "carafe.engine.child", str(asking), str(answering), modules],
                stdin=subprocess.DEVNULL,
                pass_fds=(asking, answering),
                env=environment,
                cwd=folder if os.path.isdir(folder) else None,
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
        self._gone = self._begun = False
        self._begin_by: float | None = None
        self._entering = ""
        self._asked_at = self._answered_at = float("-inf")
        self._where: list[str] = []

    def run(
        self,
        request: dict[str, Any],
        begun: Callable[[], None],
        completes: Callable[[bool], None],
        report: Report,
        logged: Logged,
        spans: Spans = None,
    ) -> Any:
        """Run the child's one job; `Children.run` explains the callbacks. Returns the answer. Raises `ChildDied` when the
        child ends without one, and `NotBegun` when its job has not begun."""
        kills = cgroup.oom_kills()
        self._begin_by = time.monotonic() + START
        with suppress(OSError):  # the child has died: the error below says how
            _write(self._asking, orjson.dumps({**request, "sent": time.monotonic()}) + b"\n")
        for line in self._lines():
            message = orjson.loads(line)
            if "begun" in message:
                self._begin_by, self._begun = None, True
                begun()
            elif "entering" in message:
                self._entering = f" while it entered the worker lifespan {message['entering']}"
            elif "not_begun" in message:
                raise NotBegun(message["not_begun"])
            elif "where" in message:
                self._where, self._answered_at = message["where"], time.monotonic()
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
            said = f"the job's process did not begin its job within {START:g} s of being asked to"
            raise NotBegun(f"{said}{self._entering}{in_pod()}")
        died = how(self._reap(), kills)
        if self._begun:
            raise ChildDied(died)
        raise NotBegun(f"{died}, before the job began{self._entering}")

    def _lines(self) -> Iterator[bytes]:
        """Yields the child's messages, one line each, until the child has ended or has failed to begin its job in time."""
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
            # Asked before the pipe is read, so that the read gets all that the child wrote before its end.
            ended = self.has_ended()
            while chunk := self._read():
                *lines, rest = (rest + chunk).split(b"\n")
                yield from lines
                if len(rest) > ENOUGH:
                    return
            if ended or (self._begin_by is not None and time.monotonic() >= self._begin_by):
                return
            if chunk is not None:
                # End of file while the child lives: its handler has closed the pipe. Now only wait for the child's end.
                with suppress(KeyError):
                    poll.unregister(self._answers)

    def _read(self) -> bytes | None:
        """Returns what the child has written to its pipe. Returns empty bytes if the pipe is closed, and None if there is
        nothing to read yet."""
        try:
            return os.read(self._answers, 1 << 16)
        except BlockingIOError:
            return None

    def has_ended(self) -> bool:
        """Returns whether the child has exited. Does not reap the child, so that no other process can get its process number
        or group number."""
        if self._process.returncode is not None:
            return True
        if not hasattr(os, "waitid"):
            return self._process.poll() is not None
        try:
            return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def where(self) -> list[str] | None:
        """Ask the child at which lines of code it is. Returns None at once if it has not answered yet: the next call returns
        the answer. Callable from any thread; never raises."""
        now = time.monotonic()
        if self._answered_at > self._asked_at and now - self._answered_at < FRESH:
            self._asked_at = float("inf")  # the next call asks again
            return self._where
        with self._lock, suppress(OSError):  # it has ended, or its handler has closed the pipe
            if self._begun and not self._gone and not 0 <= now - self._asked_at < FRESH:
                self._asked_at = now
                os.write(self._asking, WHERE)
        return None

    def kill(self) -> None:
        """Kill the child and its whole process group at once. Callable from any thread; harmless when they have ended."""
        with self._lock:
            if not self._gone:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)

    def dismiss(self) -> None:
        """Tell a child that has no job yet that it will get none, so that it leaves its worker lifespans and ends."""
        if self._asking in self._ours:
            self._ours.remove(self._asking)
            os.close(self._asking)

    def close(self) -> None:
        """Give the child and its process group a moment to end by themselves, kill what remains, and reap the child."""
        try:
            if not self._gone:
                self._wait_for_group(time.monotonic() + GRACE)
                self._reap()
        finally:
            self._close_pipes()

    def _reap(self) -> int:
        """Kill the process group, and reap the child only after that: until it is reaped, no other process can get its
        process number, which is the group's number too. Returns the exit code."""
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
        """Wait until the child has exited, without reaping it. Holds no lock, so that `kill` never waits for this."""
        if hasattr(os, "waitid"):
            with suppress(ChildProcessError):
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
            return
        while self._process.poll() is None:
            time.sleep(LOOK)

    def _wait_for_group(self, until: float) -> None:
        pause = 0.001
        while not self.has_ended() or _any_of(self._process.pid):
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
    """Returns whether the process group still has a process that runs. Returns False on systems without /proc."""
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


def how(code: int, kills_before: int | None) -> str:
    """Returns a text that says how a child ended without an answer. `code` is its exit code, as `subprocess` gives it.
    `kills_before` is the kernel's count of kills for lack of memory (`cgroup.oom_kills`) before the child began its job."""
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
