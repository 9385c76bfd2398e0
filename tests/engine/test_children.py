"""A child process begins its job only while its parent lives, and is ended without waiting."""

import os
import signal
import subprocess
import sys
import threading

import orjson
import pytest

from carafe.engine import children
from carafe.engine.children import Child
from carafe.jobs.identifiers import uuid7
from tests.engine.jobs import ProcessDo
from tests.engine.worker_process import ROOT, bare_environment
from tests.waiting import eventually

pytestmark = pytest.mark.process

REQUEST = {
    "id": str(uuid7()),
    "fence": 1,
    "kind": "engine.process",
    "args": ProcessDo(what="exit").model_dump_json(),
    "version": 1,
    "attempt": 0,
    "max_attempts": 4,
    "timeout": 60,
    "deadline_at": "2026-01-01T00:00:00+00:00",
    "sent": 0.0,
    "memory_limit": None,
    "result_limit": 1000,
    "database_url": "postgresql://unused",
}


@pytest.mark.parametrize(("parent", "code"), [("waits", 7), ("dies", 0)])
def test_a_child_whose_parent_died_while_it_started_begins_nothing(parent: str, code: int) -> None:
    reading, writing = os.pipe()
    asking, request = os.pipe()
    modules = orjson.dumps([["tests.engine.jobs"], ["tests.engine.handlers"], [], []]).decode()
    child = subprocess.Popen(
        [sys.executable, "-m", "carafe.engine.child", str(asking), str(writing), modules],
        stdin=subprocess.DEVNULL,
        pass_fds=(asking, writing),
        cwd=ROOT,
        env=bare_environment(),
    )
    os.close(writing)
    os.close(asking)
    # Long before it has imported its modules, let alone reads: the handler would end it with code 7.
    os.write(request, orjson.dumps(REQUEST) + b"\n")
    if parent == "dies":
        os.close(request)
    assert child.wait(60) == code
    if parent == "waits":
        os.close(request)
    os.close(reading)


def test_what_a_job_may_never_need_is_not_imported() -> None:
    """Half of the time that a child took to start."""
    unneeded = {"asyncpg", "carafe.settings.settings", "celery", "colorama", "redis", "rich", "sqlalchemy"}
    code = f"import sys, carafe.engine.child, carafe.telemetry.logging; print(sorted({unneeded} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


async def test_whoever_kills_never_waits_for_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a process that the kernel takes long to end."""
    monkeypatch.setattr(children, "GRACE", 0.0)
    child = Child(orjson.dumps([["tests.engine.jobs"], [], [], []]).decode(), os.environ, os.getcwd())
    held = []
    with monkeypatch.context() as patched:
        patched.setattr(os, "killpg", lambda *arguments: held.append(arguments))
        closing = threading.Thread(target=child.close, daemon=True)
        closing.start()

        def waits_for_the_end() -> bool:
            frame = sys._current_frames().get(closing.ident or 0)
            names = set()
            while frame is not None:
                names.add(frame.f_code.co_name)
                frame = frame.f_back
            return bool(names & {"_wait_for_end", "_try_wait"})

        await eventually(waits_for_the_end)
        killing = threading.Thread(target=child.kill, daemon=True)
        killing.start()
        await eventually(lambda: not killing.is_alive())
    assert held == [(child._process.pid, signal.SIGKILL)] * 2
    child.kill()
    await eventually(lambda: not closing.is_alive())

    # Its number may be another's from now on.
    monkeypatch.setattr(os, "killpg", lambda *arguments: held.append(arguments))
    child.kill()
    assert len(held) == 2
