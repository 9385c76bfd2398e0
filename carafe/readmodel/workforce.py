"""Who works: workers, live and gone, what each runs, and pods that should be workers and are not there yet."""

from collections.abc import Mapping
from typing import Any

from carafe.jobs.moves import Connection
from carafe.jobs.records import as_uuid
from carafe.readmodel.records import PodView, Running, Workers, WorkerView
from carafe.readmodel.statements import WORKERS
from carafe.steward.pods import KnownPod, pods

LISTED = 500
"""Workers that are listed: the newest, those that live first."""

RUNNING = 100
"""Jobs of one worker that are listed."""


async def workers(connection: Connection) -> Workers:
    """All of them now, as far as they are listed. Raises what the database raises."""
    arguments = WORKERS.arguments(workers=LISTED + 1, limit=RUNNING)
    rows = await connection.fetch(WORKERS.positional, *arguments)
    found = [_worker(row) for row in rows[:LISTED]]
    live = tuple(worker for worker in found if worker.state in ("running", "draining"))
    at_work = {worker.pod for worker in live}
    cut = len(rows) > LISTED
    # Whether a pod has a worker cannot be said when not all are here.
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
        trouble=pod.trouble or ("its worker has not said hello yet" if pod.current else "nobody watches the cluster now"),
        since=pod.trouble_since or pod.created_at,
        restarts=pod.restarts,
        last_death=pod.last_death,
    )
