"""Makes unexpected faults in Carafe's own code: a test pushes the name of a fault to the list ``faults`` in Redis.

Named in HANDLER_MODULES by the test that wants them.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from redis import Redis

from carafe.engine import engine as engine_module
from carafe.engine import worker
from carafe.engine.engine import Engine
from carafe.jobs.queue_name import QUEUE

TIMES = 2


def _times(stumble: Callable[[], Any], function: Callable[..., Any], back: Callable[[], Any]) -> Callable[..., Any]:
    left = [None] * TIMES

    def called(*arguments: Any) -> Any:
        if left:
            left.pop()
            return stumble()
        back()
        return function(*arguments)

    return called


def _raise(error: BaseException) -> Any:
    raise error


def heartbeat_stumbles(engine: Any) -> None:
    """Two beats fail with an unexpected error."""
    truth = engine.reconciliation
    truth.held = _times(lambda: _raise(KeyError("a fault of ours")), truth.held, lambda: truth.__dict__.pop("held"))


def heartbeat_dies(engine: Any) -> None:
    """Its thread ends; that is seen sooner than by default."""
    worker.STALE = 1.5
    engine.reconciliation.held = lambda since: _raise(SystemExit("a fault of ours"))


def scaling_stumbles(engine: Any) -> None:
    """Two rounds fail with an unexpected error."""
    scaling = engine.scaling
    scaling._say = _times(lambda: _raise(KeyError("a fault of ours")), scaling._say, lambda: scaling.__dict__.pop("_say"))


def slot_dies(engine: Any) -> None:
    """What one slot runs has ended without an end, and it cannot be revived; that is told sooner than by default."""
    engine_module.BLOCKED = 0.01  # type: ignore[attr-defined]
    engine.runner.revive = lambda: None
    ended: Future[None] = Future()
    ended.set_result(None)
    for slot in engine.runner.slots:
        if slot.claim is not None:
            slot.claim.task = ended


def engine_ends(engine: Any) -> None:
    """It ends, and its process does not."""
    engine.died = None
    engine.call(lambda: engine._life.cancel())


def loop_is_blocked(engine: Any) -> None:
    """What blocks the loop is reported sooner than by default."""
    worker.STALE = 1.5


def consumer_leaves(engine: Any) -> None:
    """Celery's consumer has left the queue, and the rest of the worker is well."""
    engine.consumer.channel._active_queues.remove(QUEUE)


FAULTS = {
    fault.__name__: fault
    for fault in (
        heartbeat_stumbles,
        heartbeat_dies,
        scaling_stumbles,
        slot_dies,
        engine_ends,
        loop_is_blocked,
        consumer_leaves,
    )
}


def _listen(engine: Engine) -> None:
    with Redis.from_url(os.environ["REDIS_URL"], decode_responses=True) as redis:
        while True:
            found: Any = redis.blpop(["faults"])
            FAULTS[found[1]](engine)
            redis.rpush("faults done", found[1])


_start = Engine.start


def _start_listening(self: Engine) -> None:
    _start(self)
    threading.Thread(target=_listen, args=(self,), name="faults", daemon=True).start()


Engine.start = _start_listening  # type: ignore[method-assign]
