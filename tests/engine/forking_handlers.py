"""Handlers that start processes by every means that Python has (HANDLER_MODULES)."""

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from carafe import Context, SyncContext, handler
from tests.engine.forking_jobs import Forking, InLoop, InProcess, InThread

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def double(number: int) -> int:
    """Runs in a grandchild, and logs there."""
    logging.getLogger("forking").warning("doubling %s", number)
    return 2 * number


def note(file: str, *pids: int | None) -> None:
    """Leave the pids for the test."""
    with open(file, "a") as out:
        out.writelines(f"{pid}\n" for pid in pids)


def sleep_noted(file: str) -> None:
    """Runs in a grandchild, for ever."""
    note(file, os.getpid())
    time.sleep(600)


def start(method: str, target: Any, *arguments: Any) -> Any:
    """A process by that start method."""
    context: Any = multiprocessing.get_context(method)
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


def stay(file: str) -> None:
    """Leave a forked process, a spawned one and a program running; returns when all three are there."""
    for method in ("fork", "spawn"):
        start(method, sleep_noted, file)
    note(file, subprocess.Popen(SLEEP).pid)
    while len(Path(file).read_text().splitlines()) < 3:
        time.sleep(0.01)


def act(job: Forking, ctx: SyncContext | Context) -> Any:
    """The same in every mode."""
    match job.what:
        case "fork pool" | "spawn pool" | "forkserver pool":
            with multiprocessing.get_context(job.what.split()[0]).Pool(2) as pool:
                return pool.map(double, [1, 2, 3])
        case "fork executor" | "spawn executor":
            with ProcessPoolExecutor(2, multiprocessing.get_context(job.what.split()[0])) as executor:
                return list(executor.map(double, [1, 2, 3]))
        case "fork process" | "spawn process":
            process = start(job.what.split()[0], double, 1)
            process.join()
            return process.exitcode
        case "terminate":
            process = start("fork", time.sleep, 600)
            process.terminate()
            process.join()
            return process.exitcode
        case "subprocess":
            return subprocess.run([sys.executable, "-c", "print(6)"], capture_output=True, text=True, check=True).stdout
        case "fork":
            pid = os.fork()
            if pid == 0:
                note(job.file, os.getpid())
                time.sleep(600)
                os._exit(0)
            return pid
        case "signals":
            return [_handler_in_a_fork(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
        case "stay and end":
            stay(job.file)
            return "ended"
        case "stay":
            stay(job.file)
            time.sleep(600)
        case "stay and die":
            stay(job.file)
            os.kill(os.getpid(), signal.SIGSEGV)
        case "environment":
            return sorted(name for name in os.environ if name.startswith(("DASHBOARD_", "API_", "DATABASE_", "OWN_")))
        case "stdin":
            return sys.stdin.read()
        case "close":
            for descriptor in (0, 1, 2):
                os.close(descriptor)
            return "closed"
    return None


def _handler_in_a_fork(number: signal.Signals) -> str:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writing, str(signal.getsignal(number)).encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(pid, 0)
    with os.fdopen(reading) as found:
        return found.read()


@handler(InProcess, isolation="process")
def in_process(job: InProcess, ctx: SyncContext) -> Any:
    return act(job, ctx)


@handler(InThread)
def in_thread(job: InThread, ctx: SyncContext) -> Any:
    return act(job, ctx)


@handler(InLoop)
async def in_loop(job: InLoop, ctx: Context) -> Any:
    return act(job, ctx)
