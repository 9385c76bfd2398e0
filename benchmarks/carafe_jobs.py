"""The benchmark's jobs, declared as any application declares its own."""

from carafe.jobs import Job


class Noop(Job, kind="bench.noop"):
    """Does nothing; `x` numbers it for the latency runs."""

    x: int = 1


class Wait(Job, kind="bench.wait"):
    """Waits for `seconds`."""

    seconds: float
