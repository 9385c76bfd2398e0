"""Tells the autoscaler what the queue's length does not: two sorted sets in Redis, which KEDA counts beside the list.

`carafe:running` has the jobs that have run for over a second, `carafe:busy` the workers with one that has run for over five:
of those none may be scaled in (DESIGN.md, Kubernetes). On Kubernetes a busy worker also raises its pod's deletion cost.

Guarantees: what a worker says counts for ten seconds and is said every two, on Redis's clock, so a wipe heals by itself and
nothing outlives its worker for long; an idle worker says nothing. A draining worker is no longer busy.
Must never: decide what runs, or hold up what does. It has a thread and a connection of its own.
"""

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

import structlog

from carafe.engine.slot import Claim, Slot
from carafe.jobs import redis_away
from carafe.jobs.redis_rights import BUSY, RUNNING

if TYPE_CHECKING:
    from carafe.settings import Settings

log = structlog.stdlib.get_logger("carafe.scaling")

INTERVAL = 2.0
"""Seconds between two rounds."""

COUNTS_FOR = 10
"""Seconds that a member counts unless it is said again."""

RUNNING_AFTER = 1.0
"""Seconds after which a running job is counted: a shorter one would be gone before anybody has counted it."""

BUSY_AFTER = 5.0
"""Seconds of running after which a job makes its worker busy."""

BUSY_COST = 100
"""Deletion cost of a busy worker's pod; any other has none."""

# Two small sets: also written to a Redis that is full, when it matters most that nothing busy is scaled in.
SAY = """#!lua flags=allow-oom
local now = tonumber(redis.call('TIME')[1])
local until_when = now + tonumber(ARGV[1])
local function expire(key)
    redis.call('ZREMRANGEBYSCORE', key, '-inf', '(' .. now)
    redis.call('EXPIRE', key, ARGV[1])
end
local over = tonumber(ARGV[4])
for i = 5, 4 + over do redis.call('ZREM', KEYS[1], ARGV[i]) end
for i = 5 + over, #ARGV do redis.call('ZADD', KEYS[1], until_when, ARGV[i]) end
if ARGV[3] == '1' then redis.call('ZADD', KEYS[2], until_when, ARGV[2]) else redis.call('ZREM', KEYS[2], ARGV[2]) end
expire(KEYS[1])
expire(KEYS[2])
"""


class Watched(Protocol):
    """What this needs of the engine; called from its own thread."""

    id: UUID
    draining: bool

    def running(self) -> Sequence[tuple[Slot, Claim, float]]:
        """What runs now, with the seconds it has run."""
        ...


class Cost(Protocol):
    """Where a wish for a deletion cost goes; see `carafe.kubernetes.deletion_cost`."""

    def want(self, cost: int) -> None:
        """Soon, and best effort."""
        ...


class Scaling:
    """The telling thread of one worker."""

    def __init__(self, engine: Watched, settings: "Settings") -> None:
        assert settings.redis_url is not None
        self._engine = engine
        self._redis = redis_away.connect(settings.redis_url.get_secret_value(), timeout=2, name="carafe-scaling")
        self._said: set[str] = set()
        self._was_busy = False
        self._away = self._failed = False
        self._cost = _cost_of_this_pod()
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="carafe scaling", daemon=True)
        self.rounds = 0

    def start(self) -> None:
        """Start telling; returns at once."""
        self._thread.start()

    def tell_now(self) -> None:
        """Do not wait for the next round: a drain has begun. From any thread."""
        self._wake.set()

    def stop(self) -> None:
        """Take back what is still said, and end."""
        self._ending.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(3)

    def _run(self) -> None:
        while not self._ending.is_set():
            self._wake.wait(INTERVAL)
            self._wake.clear()
            try:
                self._round([] if self._ending.is_set() else self._engine.running())
                self._failed = False
            except Exception:
                # Nobody foresaw it, and the autoscaler must not be left without a word for good. Told once, until it works.
                if not self._failed:
                    log.exception("the autoscaler is not told what runs, for no foreseen reason; trying again")
                self._failed = True
        self._redis.close()

    def _round(self, running: Sequence[tuple[Slot, Claim, float]]) -> None:
        busy = any(seconds > BUSY_AFTER for _, _, seconds in running) and not self._engine.draining
        try:
            self._say({str(claim.id) for _, claim, seconds in running if seconds > RUNNING_AFTER}, busy)
            self._away = False
        except redis_away.AWAY as error:
            if not self._away:
                log.info("the autoscaler is not told what runs, Redis is away", error=redis_away.details(error))
            self._away = True
        if self._cost is not None and not self._ending.is_set():
            if busy:
                self._cost.want(BUSY_COST)
            elif not running:
                self._cost.want(0)
        self.rounds += 1

    def _say(self, running: set[str], busy: bool) -> None:
        over = self._said - running
        if not (running or over or busy or self._was_busy):
            return
        arguments: list[Any] = [COUNTS_FOR, str(self._engine.id), int(busy), len(over), *over, *running]
        self._redis.eval(SAY, 2, RUNNING, BUSY, *arguments)
        self._said, self._was_busy = running, busy


def _cost_of_this_pod() -> Cost | None:
    from carafe.kubernetes import here

    pod = here()
    if pod is None:
        return None
    from carafe.kubernetes.deletion_cost import DeletionCost

    return DeletionCost(pod)
