"""Reads the workers, live and gone, with the jobs that each runs, and the pods that should have a worker and have none
yet."""

from collections.abc import Mapping
from typing import Any

from carafe.jobs.records import as_uuid
from carafe.readmodel.records import PodView, Running, Workers, WorkerView
from carafe.readmodel.statements import WORKERS
from carafe.steward.pods import KnownPod, pods
from carafe.store.database import Connection

LISTED = 500
"""The maximum number of workers that are listed. Live workers come first, then the newest."""

RUNNING = 100
"""The maximum number of running jobs that are listed for one worker."""


async def workers(connection: Connection) -> Workers:
    """Returns the workers and the pods without a worker as they are now, at most `LISTED` workers. Raises what the database
    raises."""
    rows = await WORKERS.fetch(connection, workers=LISTED + 1, limit=RUNNING)
    found = [_worker(row) for row in rows[:LISTED]]
    live = tuple(worker for worker in found if worker.state in ("running", "draining"))
    at_work = {worker.pod for worker in live}
    cut = len(rows) > LISTED
    # Whether a pod has a worker cannot be said when not all live workers are listed.
    there = [] if cut and len(live) == LISTED else await pods(connection)
    missing = [pod for pod in there if not pod.deleting and pod.name not in at_work]
    return Workers(
        live=live,
        gone=tuple(worker for worker in found if worker.state not in ("running", "draining")),
        pods=tuple(_pod(pod) for pod in missing),
        cut=cut,
    )


def _worker(row: Mapping[str, Any]) -> WorkerView:
    running = zip(row["ids"], row["running_kinds"], row["seconds"], strict=True)
    return WorkerView(
        id=as_uuid(row["id"]),
        name=row["name"],
        host=row["host"],
        pid=row["pid"],
        version=row["version"],
        state=row["state"],
        drain_requested=row["drain_requested"],
        concurrency=row["concurrency"],
        slots_used=min(row["running"], row["concurrency"]),
        running=tuple(Running(as_uuid(job_id), kind, max(0.0, seconds)) for job_id, kind, seconds in running),
        heartbeat_age=max(0.0, row["heartbeat_age"]),
        started_at=row["started_at"],
        pod=row["pod"],
        node=row["node"],
        kinds=tuple(sorted(kind for kind in row["kinds"] if kind is not None)),
    )


def _pod(pod: KnownPod) -> PodView:
    return PodView(
        name=pod.name,
        phase=pod.phase,
        trouble=pod.trouble or ("its worker has not reported yet" if pod.current else "nobody watches the cluster now"),
        since=pod.trouble_since or pod.created_at,
        restarts=pod.restarts,
        last_death=pod.last_death,
    )
