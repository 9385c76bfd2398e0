"""Publishes for the autoscaler what the queue's length does not show. It writes two sorted sets in Redis, and KEDA counts
their entries in addition to the list of hints.

`carafe:running` has the jobs that have run for over a second. `carafe:busy` has the workers with a job that has run for over
five seconds: none of these workers may be scaled in (docs/design rule 5). On Kubernetes a busy worker also raises its pod's
deletion cost.

Guarantees: an entry is valid for ten seconds by Redis's clock and is written again every two seconds, so that it comes back
after Redis has lost its data, and disappears soon after its worker has died; an idle worker publishes nothing; a draining
worker is no longer busy.
Must never: decide which jobs run, or hold up running jobs. Publishing has a thread and a connection of its own.
"""

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from carafe.engine.claim import Claim
from carafe.engine.slot import Slot
from carafe.queue import redis_away, redis_clients
from carafe.queue.redis_rights import BUSY, COUNTS_FOR, RUNNING
from carafe.telemetry.loggers import get_logger

if TYPE_CHECKING:
    from carafe.settings.settings import Settings

log = get_logger("carafe.scaling")

INTERVAL = 2.0
"""Seconds between two rounds of publishing."""

RUNNING_AFTER = 1.0
"""Seconds after which a running job is published: a shorter one would be over before the autoscaler has counted it."""

BUSY_AFTER = 5.0
"""If a job has run for more than this many seconds, its worker counts as busy."""

BUSY_COST = 100
"""The deletion cost of a busy worker's pod. An idle worker's pod has the cost 0."""

# Two small sets, written even when Redis is full: then it matters most that no busy worker is scaled in.
SAY = """#!lua flags=allow-oom
local now = tonumber(redis.call('TIME')[1])
local until_when = now + tonumber(ARGV[1])
local function expire(key)
    redis.call('ZREMRANGEBYSCORE', key, '-inf', '(' .. now)
    redis.call('ZREMRANGEBYSCORE', key, '(' .. until_when, '+inf')
    redis.call('EXPIRE', key, ARGV[1])
end
local over = tonumber(ARGV[4])
for i = 5, 4 + over do redis.call('ZREM', KEYS[1], ARGV[i]) end
for i = 5 + over, #ARGV do redis.call('ZADD', KEYS[1], until_when, ARGV[i]) end
if ARGV[3] == '1' then redis.call('ZADD', KEYS[2], until_when, ARGV[2]) else redis.call('ZREM', KEYS[2], ARGV[2]) end
expire(KEYS[1])
expire(KEYS[2])
"""


class Cost(Protocol):
    """Something that can set the deletion cost of this worker's pod; see `carafe.kubernetes.deletion_cost`."""

    def want(self, cost: int) -> None:
        """Set this deletion cost soon. Best effort."""
        ...


class Scaling:
    """Publishes what one worker runs, from a thread of its own."""

    def __init__(
        self,
        settings: "Settings",
        worker: UUID,
        running: Callable[[], Sequence[tuple[Slot, Claim, float]]],
        draining: Callable[[], bool],
    ) -> None:
        """The function `running` returns (slot, claim, seconds) for each slot that runs a job: `seconds` is how long the job
        has run. The function `draining` returns whether the worker drains. Both are called from the publishing thread."""
        assert settings.redis_url is not None
        self._worker, self._running, self._draining = worker, running, draining
        self._redis = redis_clients.connect(settings.redis_url.get_secret_value(), timeout=2, name="carafe-scaling")
        self._said: set[str] = set()
        self._was_busy = False
        self._away = self._failed = False
        self._cost = _cost_of_this_pod()
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="carafe scaling", daemon=True)
        self.rounds = 0

    def start(self) -> None:
        """Start publishing. Returns at once."""
        self._thread.start()

    def tell_now(self) -> None:
        """Publish now instead of waiting for the next round, since a drain has begun. Callable from any thread."""
        self._wake.set()

    def stop(self) -> None:
        """Remove this worker's entries from Redis, and end the thread."""
        self._ending.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(3)

    def _run(self) -> None:
        while not self._ending.is_set():
            self._wake.wait(INTERVAL)
            self._wake.clear()
            try:
                self._round([] if self._ending.is_set() else self._running())
                self._failed = False
            except Exception:
                # Unexpected, and the autoscaler must not stay without data. Logged once, until it works again.
                if not self._failed:
                    log.exception("running jobs were not published for the autoscaler: unexpected error, trying again")
                self._failed = True
        self._redis.close()

    def _round(self, running: Sequence[tuple[Slot, Claim, float]]) -> None:
        busy = any(seconds > BUSY_AFTER for _, _, seconds in running) and not self._draining()
        try:
            self._say({str(claim.id) for _, claim, seconds in running if seconds > RUNNING_AFTER}, busy)
            self._away = False
        except redis_away.errors() as error:
            if not self._away:
                log.info("running jobs are not published for the autoscaler: Redis is away", error=redis_away.details(error))
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
        arguments: list[Any] = [COUNTS_FOR, str(self._worker), int(busy), len(over), *over, *running]
        self._redis.eval(SAY, 2, RUNNING, BUSY, *arguments)
        self._said, self._was_busy = running, busy


def _cost_of_this_pod() -> Cost | None:
    from carafe.kubernetes import here

    pod = here()
    if pod is None:
        return None
    from carafe.kubernetes.deletion_cost import DeletionCost

    return DeletionCost(pod)
