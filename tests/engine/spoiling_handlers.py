"""The handlers of `tests.engine.spoiling_jobs` (HANDLER_MODULES)."""

import asyncio
import atexit
import gc
import logging
import logging.config
import os
import resource
import sys
import tempfile
import threading
from typing import Any

import structlog

from carafe import SyncContext, handler
from tests.engine.spoiling_jobs import Apart, Plain, Spoil


class Raising(logging.Handler):
    """Does not keep its errors to itself, as most do."""

    def handle(self, record: logging.LogRecord) -> bool:
        raise LookupError("no log")


def refuse(*_: Any, **__: Any) -> Any:
    raise LookupError("no log")


def gone() -> None:
    """The folder that it is in."""
    os.chdir(folder := tempfile.mkdtemp())
    os.rmdir(folder)


def no_more_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (10, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def kill_children() -> int:
    import psutil  # here, since each child process imports this module

    children = psutil.Process().children()
    for child in children:
        child.kill()
    psutil.wait_procs(children, timeout=0)
    return len(children)


def closed_loop() -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.close()


ACTS: dict[str, Any] = {
    "log handler": lambda: logging.getLogger().addHandler(Raising()),
    "log filter": lambda: logging.getLogger().handlers[0].addFilter(refuse),
    "log records": lambda: logging.setLogRecordFactory(refuse),
    "structlog": lambda: structlog.configure(processors=[refuse]),
    "loggers": lambda: logging.config.dictConfig({"version": 1}),
    "environment": os.environ.clear,
    "folder": gone,
    "open files": no_more_files,
    "children": kill_children,
    "exit": lambda: atexit.register(threading.Event().wait),
    "loop of the thread": closed_loop,
    "turns": lambda: sys.setswitchinterval(100),
    "garbage": lambda: gc.set_threshold(0),
    "stacks": lambda: threading.stack_size(1 << 45),
}


@handler(Spoil)
def spoil(job: Spoil, ctx: SyncContext) -> None:
    ACTS[job.what]()


@handler(Apart, isolation="process")
def apart(job: Apart, ctx: SyncContext) -> bool:
    return "DATABASE_URL" in os.environ


@handler(Plain)
def plain(job: Plain, ctx: SyncContext) -> str:
    try:
        asyncio.get_event_loop().run_until_complete(asyncio.sleep(0))
    except RuntimeError as error:
        return str(error)
    finally:
        # Of its own too, so that the next has none of this one's.
        asyncio.set_event_loop(None)
    return ""
