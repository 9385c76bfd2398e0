"""Workers: where they are, what they run and for how long; pods that are not there yet, and why; drain this worker."""

from uuid import UUID

from fastapi import APIRouter, Request, Response

from carafe.web.dashboard.access import OperatorOf, ViewerOf
from carafe.web.dashboard.dashboard import DashboardOf
from carafe.web.dashboard.pages.parts import show
from carafe.web.dashboard.rendering import after

router = APIRouter()


@router.get("/workers")
async def list_workers(request: Request, viewer: ViewerOf, dashboard: DashboardOf) -> Response:
    """All live workers, and those that went of late."""
    found = await dashboard.model.workers()
    slots = sum(worker.concurrency for worker in found.live)
    used = sum(worker.slots_used for worker in found.live)
    return show(request, "workers", workers=found, slots=slots, used=used)


@router.post("/workers/{worker_id}/drain")
async def drain(request: Request, operator: OperatorOf, dashboard: DashboardOf, worker_id: UUID) -> Response:
    """Ask a worker to finish what it runs and to go."""
    await dashboard.client.drain_worker(worker_id, by=operator.actor)
    return after(request, "/workers", "Asked to drain: it takes nothing new, finishes what it runs, and goes.")
