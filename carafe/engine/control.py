"""Celery's remote control, kept true: `inspect active` lists the engine's live slots, `revoke` cancels the job.

Registering a command under Celery's own name replaces it. Each looks at the engine when asked; nothing is kept for it on
the hot path.
"""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from celery.worker.control import control_command, inspect_command, ok

from carafe.jobs.hints import TASK

Revoke = Callable[[list[UUID]], None]


def install(engine: Any, revoke_jobs: Revoke) -> None:
    """Point this process's remote control commands at `engine`; `revoke_jobs` cancels by id."""

    @inspect_command(alias="dump_active")
    def active(state: Any, safe: bool = False, **_: Any) -> list[dict[str, Any]]:
        """List of jobs currently being executed."""
        return [
            {
                "id": str(claim.id),
                "name": TASK,
                "type": claim.kind,
                "args": [],
                "kwargs": {},
                "hostname": state.hostname,
                "time_start": claim.row["started_at"].timestamp(),
                "running_for": round(seconds, 3),
                "acknowledged": True,
                "delivery_info": {"routing_key": "default", "redelivered": False},
                "worker_pid": None,
                "attempt": claim.attempt,
                "slot": slot.index,
            }
            for slot, claim, seconds in engine.running()
        ]

    @inspect_command(alias="dump_reserved")
    def reserved(state: Any, **_: Any) -> list[dict[str, Any]]:
        """List of jobs in hand that no slot has begun."""
        return [{"id": str(claim.id), "name": TASK, "type": claim.kind} for claim in list(engine.runner.ready)]

    @control_command(variadic="task_id", signature="[id1 [id2 [... [idN]]]]")
    def revoke(state: Any, task_id: Any, terminate: bool = False, signal: Any = None, **_: Any) -> Any:
        """Cancel jobs by id, as the client's cancel does."""
        ids = [task_id] if isinstance(task_id, str) else list(task_id or ())
        jobs = []
        for text in ids:
            try:
                jobs.append(UUID(text))
            except ValueError:
                pass  # some Celery task's id: no job of ours
        revoke_jobs(jobs)
        return ok(f"cancel requested for {len(jobs)} jobs")
