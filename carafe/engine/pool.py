"""The pool that Celery requires a worker to have. It runs nothing, since the engine runs the jobs."""

import os
from typing import Any

from celery.concurrency.base import BasePool


class EnginePool(BasePool):
    """Reports the engine's slots to ``celery inspect stats`` and refuses Celery's own way of running tasks."""

    engine: Any = None

    def on_apply(self, target: Any, *args: Any, **kwargs: Any) -> None:
        """Always raises ``RuntimeError``: if Celery ran a task here, there would be no job in Postgres for it."""
        raise RuntimeError("this worker runs Carafe jobs only; enqueue a job instead of calling a Celery task")

    def _get_info(self) -> dict[str, Any]:
        info: dict[str, Any] = super()._get_info()
        engine = self.engine
        if engine is not None:
            info |= {
                "max-concurrency": engine.concurrency,
                "processes": [os.getpid()],
                "running": len(engine.running()),
                "in-hand": engine.in_hand,
                "counts": dict(engine.counts) | dict(engine.ledger.counts),
            }
        return info
