"""`carafe dev --reload`: starts web process and worker again when the application's files change. The servers run on.

1. This process starts the embedded servers and watches the files (`carafe.dev.sources`). A child process, `carafe dev` on
   these servers, is everything else.
2. When a file changes, the child is asked to stop, and a new one starts when it has ended. Its worker takes no more jobs.
   Those that run get `DRAIN` seconds to finish. What runs after that is handed back, and spends no attempt.
3. While a file does not compile (`carafe.dev.compiling`), its error is shown, and the child that runs goes on.
4. A child that ends by itself, for example because of an error at import, has said why. The next change starts another one.

Guarantees: a child never outlives this process, however that ends, by more than its drain; ports stay the same from one
child to the next.
Must never: run in production.
"""

import contextlib
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from carafe.dev.compiling import Compiled
from carafe.dev.folder import one_at_a_time
from carafe.dev.ports import with_free_ports
from carafe.dev.servers import require_development, servers_where_unset
from carafe.dev.sources import Sources
from carafe.dev.stopping import TERMINAL, Stopping
from carafe.settings.application_folder import require_application
from carafe.settings.settings import Settings, SettingsError
from carafe.telemetry.loggers import get_logger

log = get_logger("carafe.dev.reload")

DRAIN = 3.0
"""Seconds that running jobs get to finish after a change. Then the child is asked again, which hands them back."""

KILLED = 10.0
"""Seconds after the second request until a child that has not ended is killed."""

Event = Literal["changed", "asked", "ended", "late"]
"""What the supervisor waits for: files have changed, a signal asks to stop, the child has ended, or it has not ended in
time."""


def run_reloading(settings: Settings) -> int:
    """Runs everything until Ctrl-C or SIGTERM, and the application again after each change. Returns the exit code.

    Raises SettingsError in production, when the settings name no application, when a port is taken, when DATA_DIR cannot be
    used and when watchfiles is not installed, `RunsAlready` when another `carafe dev` runs on DATA_DIR, and
    EmbeddedServerError when a server cannot be started.
    """
    require_development(settings)
    if find_spec("watchfiles") is None:
        raise SettingsError(["--reload needs watchfiles, which is not installed: pip install 'carafe-jobs[reload]'"])
    require_application(settings)
    from carafe.telemetry.logging import configure_logging

    configure_logging(settings)
    with Stopping() as stopping, one_at_a_time(settings):
        settings = with_free_ports(settings, keep_all=True)
        with servers_where_unset(settings) as served:
            if stopping.asked():
                return 0
            return _Supervisor(stopping, Sources(served, Path.cwd())).run()


class _Supervisor:
    """Runs one child at a time, until a signal asks to stop."""

    def __init__(self, stopping: Stopping, sources: Sources) -> None:
        self._sources, self._compiled = sources, Compiled()
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()  # a signal handler may put into it
        stopping.on_ask = lambda _: self._events.put("asked")
        if stopping.asked():
            self._events.put("asked")
        self._child: _Child | None = None
        self._late_at: float | None = None
        """When the child is late to end, on the monotonic clock; None while nobody has asked it to end."""
        self._last = False
        """Whether no other child is to follow."""

    def run(self) -> int:
        """Returns the exit code of the last child, or 0 if none runs when a signal comes."""
        _watch(self._sources, self._changed)
        self._start()
        try:
            while True:
                event, child = self._next(), self._child
                if child is None:
                    if event == "asked":
                        return 0
                    if event == "changed":
                        self._start()
                    continue
                match event:
                    case "changed":
                        self._restart(child)
                    case "asked":
                        self._last, self._late_at = True, None  # from now on a person decides how long it may take
                        child.ask()
                    case "late":
                        self._press(child)
                    case "ended":
                        again, self._child, self._late_at = self._late_at is not None, None, None
                        code = child.close()
                        if self._last:
                            return code
                        if again:
                            self._start()
                        else:
                            log.warning("the application has ended; the next change starts it again", code=code)
        finally:
            if self._child is not None:
                self._child.kill()

    def _next(self) -> Event:
        try:
            wait = None if self._late_at is None else max(0.0, self._late_at - time.monotonic())
            return self._events.get(timeout=wait)
        except queue.Empty:
            return "late"

    def _changed(self, files: Sequence[Path]) -> None:
        faults = self._compiled.faults(files)
        for file, fault in faults.items():
            log.error("a file does not compile; mend it", file=self._name(file), stack=fault)
        if faults:
            goes_on = "the application that runs goes on" if self._child is not None else "the application is not started"
            log.warning(f"{goes_on}; the next change is tried again", files=len(faults))
            return
        names = [self._name(file) for file in files]
        log.info("files changed, starting again", files=", ".join(names[:5]) + (", …" if len(names) > 5 else ""))
        self._events.put("changed")

    def _name(self, file: Path) -> str:
        here = self._sources.here
        return str(file.relative_to(here) if file.is_relative_to(here) else file)

    def _start(self) -> None:
        self._child = _Child(lambda: self._events.put("ended"))

    def _restart(self, child: "_Child") -> None:
        if self._late_at is None and not self._last:
            child.ask()
            self._late_at = time.monotonic() + DRAIN

    def _press(self, child: "_Child") -> None:
        if child.asked == 1:
            log.info("the application has not ended yet: its running jobs are handed back, and run again", seconds=DRAIN)
            child.ask()
            self._late_at = time.monotonic() + KILLED
        else:
            log.warning("the application did not end and is killed; its jobs run again")
            child.kill()
            self._late_at = time.monotonic() + KILLED


class _Child:
    """The process of the application. It stops when it is asked, and when its pipe ends with this process."""

    def __init__(self, ended: Callable[[], None]) -> None:
        """`ended` is called in another thread when the process has ended."""
        self.asked = 0
        """How many times it was asked to stop."""
        reading, self._pipe = os.pipe()
        # Until it listens to the pipe, a Ctrl-C in the terminal must not reach it either.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL)
        try:
            command = [sys.executable, "-m", "carafe", "dev", "--stopped-by", str(reading)]
            self._process = subprocess.Popen(command, pass_fds=[reading])
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(reading)
        threading.Thread(target=self._wait, args=(ended,), name="carafe dev child", daemon=True).start()

    def close(self) -> int:
        """After its end. Returns the exit code; 128 and the signal's number if a signal has ended it."""
        code = self._process.wait()
        os.close(self._pipe)
        return code if code >= 0 else 128 - code

    def ask(self) -> None:
        """Ask it to stop: the first time in order, the second time at once."""
        self.asked += 1
        with contextlib.suppress(OSError):  # it has ended
            os.write(self._pipe, b".")

    def kill(self) -> None:
        """End it by force."""
        self._process.kill()

    def _wait(self, ended: Callable[[], None]) -> None:
        self._process.wait()
        ended()


def _watch(sources: Sources, changed: Callable[[Sequence[Path]], None]) -> None:
    """Calls `changed` in another thread with the files that were changed, and goes on until this process ends."""
    from watchfiles import watch

    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # each change is told by our own log

    def follow(folders: Sequence[Path], recursive: bool) -> None:
        try:
            for changes in watch(
                *folders,
                watch_filter=lambda _, path: sources.count(Path(path)),
                recursive=recursive,
                raise_interrupt=False,
                ignore_permission_denied=True,
            ):
                changed(sorted({Path(path) for _, path in changes}))
        except Exception as error:  # such as the system's limit of watched folders
            log.error("files are not watched, changes start nothing", folders=len(folders), error=str(error))

    for folders, recursive in ((sources.folders, True), (sources.alone, False)):
        if folders:
            threading.Thread(target=follow, args=(folders, recursive), name="carafe dev files", daemon=True).start()
