"""The text that says how a child ended, for example that the kernel killed it for lack of memory."""

import signal
from pathlib import Path

import pytest

from carafe.engine import cgroup
from carafe.engine.child import _out_of_memory
from carafe.engine.children import how

MIB = 1 << 20


class Kernel:
    """A container's memory files."""

    def __init__(self, folder: Path, *, version: int) -> None:
        self.limit, self.events = folder / "limit", folder / "events"
        self._text = "low 0\noom 3\noom_kill {}\noom_group_kill 9\n" if version == 2 else "under_oom 0\noom_kill {}\n"

    def kills(self, count: int) -> None:
        self.events.write_text(self._text.format(count))


@pytest.fixture(params=[1, 2])
def kernel(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel(tmp_path, version=request.param)
    monkeypatch.setattr(cgroup, "PLACES", ((kernel.limit, kernel.events),))
    kernel.limit.write_text(f"{512 * MIB}\n")
    kernel.kills(4)
    monkeypatch.delenv("POD_NAME", raising=False)
    return kernel


def test_a_child_killed_for_lack_of_memory_says_so(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    before = cgroup.oom_kills()
    kernel.kills(5)

    said = how(-signal.SIGKILL, before)
    assert said == "out of memory: the job's process was killed by the kernel (container limit 512 MiB)"
    monkeypatch.setenv("POD_NAME", "carafe-worker-1")
    monkeypatch.setenv("NODE_NAME", "kit")
    assert how(-signal.SIGKILL, before) == f"{said}, pod 'carafe-worker-1' on node 'kit'"


def test_a_container_without_a_limit_has_no_limit_to_tell(kernel: Kernel) -> None:
    before = cgroup.oom_kills()
    kernel.kills(5)

    for unlimited in ("max\n", "9223372036854771712\n"):
        kernel.limit.write_text(unlimited)
        assert how(-signal.SIGKILL, before) == "out of memory: the job's process was killed by the kernel"


def test_what_the_kernel_did_not_do_it_is_not_blamed_for(kernel: Kernel) -> None:
    before = cgroup.oom_kills()
    assert how(-signal.SIGKILL, before) == "the job's process was killed by SIGKILL"

    kernel.kills(5)
    assert how(-signal.SIGKILL, None) == "the job's process was killed by SIGKILL"
    assert how(-signal.SIGSEGV, before) == "the job's process was killed by SIGSEGV"
    assert how(3, before) == "the job's process exited with code 3 before it had answered"
    kernel.events.unlink()
    assert how(-signal.SIGKILL, before) == "the job's process was killed by SIGKILL"


def test_memory_beyond_a_jobs_own_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POD_NAME", raising=False)
    assert _out_of_memory("", 64 * MIB) == "out of memory: the job's process may grow by 64 MiB"
    said = _out_of_memory("Unable to allocate 3 GiB", 64 * MIB)
    assert said == "out of memory: Unable to allocate 3 GiB; the job's process may grow by 64 MiB"
    assert _out_of_memory("", None) == "out of memory: MemoryError"
    monkeypatch.setenv("POD_NAME", "carafe-worker-1")
    assert ", pod 'carafe-worker-1'" in _out_of_memory("", None)
