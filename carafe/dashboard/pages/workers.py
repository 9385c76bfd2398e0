"""The page of workers: where they run, which jobs they run and for how long, and which pods are missing and why. An operator
can drain a worker here."""

from uuid import UUID

from fastapi import APIRouter, Request, Response

from carafe.dashboard.dependencies import DashboardOf, OperatorOf, ViewerOf
from carafe.dashboard.pages.fragments import show
from carafe.dashboard.view.rendering import after

router = APIRouter()


@router.get("/workers")
async def list_workers(request: Request, viewer: ViewerOf, dashboard: DashboardOf) -> Response:
    """The live workers, and those that ended or were lost in the last hour."""
    found = await dashboard.model.workers()
    slots = sum(worker.concurrency for worker in found.live)
    used = sum(worker.slots_used for worker in found.live)
    return show(request, "workers", workers=found, slots=slots, used=used)


@router.post("/workers/{worker_id}/drain")
async def drain(request: Request, operator: OperatorOf, dashboard: DashboardOf, worker_id: UUID) -> Response:
    """Ask a worker to finish its running jobs and exit."""
    await dashboard.client.drain_worker(worker_id, by=operator.actor)
    return after(request, "/workers", "Drain requested: the worker claims no new jobs, finishes running jobs, and exits.")
