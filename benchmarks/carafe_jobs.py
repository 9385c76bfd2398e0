"""The benchmark's jobs, declared as any application declares its own."""

from carafe import Job


class Noop(Job, kind="bench.noop"):
    """Does nothing; `x` numbers it for the latency runs."""

    x: int = 1


class Wait(Job, kind="bench.wait"):
    """Waits for `seconds`."""

    seconds: float


class Thread(Job, kind="bench.thread"):
    """Does nothing, in a thread."""


class Fail(Job, kind="bench.fail", max_retries=0):
    """Fails, and is dead at once."""


class Cpu(Job, kind="bench.cpu"):
    """Keeps a processor busy for 10 ms, in a thread."""


class CpuProcess(Job, kind="bench.cpu_process"):
    """The same in a process of its own."""
