"""Child processes for ``isolation="process"``: one attempt each, killable, with a memory limit of their own.

A child is started ahead and waits, its modules imported, so that a job does not pay for Python's start; it runs one job and
exits. It ends by itself when its parent is gone: its standard input closes.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from carafe.engine import cgroup
from carafe.kubernetes.pod import in_pod

Report = Callable[[float, str], None]
Logged = Callable[[float, str, str], None]
Spans = Callable[[dict[str, Any]], None] | None


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
        report: Report,
        logged: Logged,
        spans: Spans = None,
    ) -> Any:
        """Run one attempt in a child: `started` gets it (to kill it), `report` its progress, `logged` its log lines, `spans`
        those that its handler has made, where it is traced. Returns the answer.

        Raises `ChildDied`.
        """
        with self._lock:
            child, self._spare = self._spare or Child(self._modules), None
        started(child)
        threading.Thread(target=self._prepare, name="carafe spare child", daemon=True).start()
        try:
            return child.run(request, report, logged, spans)
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
    """One child process: requests on its standard input, answers on a pipe; its own output goes where ours goes."""

    def __init__(self, modules: str) -> None:
        reading, writing = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "carafe.engine.child", str(writing), modules],
                stdin=subprocess.PIPE,
                pass_fds=(writing,),
                # Out of the terminal's group: Ctrl-C is for the worker, which then decides.
                start_new_session=True,
            )
        finally:
            os.close(writing)
        self._answers = os.fdopen(reading, "rb")
        self.killed = False

    def run(self, request: dict[str, Any], report: Report, logged: Logged, spans: Spans = None) -> Any:
        assert self._process.stdin is not None
        kills = cgroup.oom_kills()
        try:
            self._process.stdin.write(orjson.dumps(request) + b"\n")
            self._process.stdin.flush()
            for line in self._answers:
                answer = orjson.loads(line)
                if "log" in answer:
                    logged(*answer["log"])
                elif "progress" in answer:
                    report(*answer["progress"])
                elif "span" in answer:
                    if spans is not None:
                        spans(answer["span"])
                else:
                    return answer
        except OSError:
            pass  # it died while we wrote: told below, with how
        raise ChildDied(how(self._process.wait(), kills))

    def kill(self) -> None:
        """End it at once, whatever it is doing."""
        self.killed = True
        self._process.kill()

    def close(self) -> None:
        """Let it go: close the pipes, give it a moment, then kill what remains."""
        assert self._process.stdin is not None
        for stream in (self._process.stdin, self._answers):
            try:
                stream.close()
            except OSError:
                pass
        try:
            self._process.wait(1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


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
