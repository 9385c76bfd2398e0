"""The overview: how everything goes, what needs attention, and the charts. Pausing and resuming the queue are here too.

The counters and the charts are fragments of their own: the first is asked for every second while somebody looks, the
second only as often as the range gains a bucket.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse

from carafe.jobs.filters import JobFilter
from carafe.jobs.records import Count
from carafe.jobs.states import State
from carafe.readmodel.records import Range, Snapshot
from carafe.web.dashboard import charts
from carafe.web.dashboard.access import OperatorOf, ViewerOf
from carafe.web.dashboard.dashboard import DashboardOf
from carafe.web.dashboard.forms import FormOf
from carafe.web.dashboard.refusals import Refused
from carafe.web.dashboard.rendering import after, render, render_shared

RANGES: dict[Range, tuple[str, float]] = {
    "5m": ("last 5 minutes", 5.0),
    "1h": ("last hour", 15.0),
    "24h": ("last 24 hours", 60.0),
    "7d": ("last 7 days", 300.0),
}
"""The charts' ranges: in words, and every how many seconds live pages fetch them anew."""

REASON_CHARACTERS = 500

SHARED = 2.0
"""Seconds for which viewers get the same text of a live part, as long as it tells of the same moment."""

router = APIRouter()


@dataclass(frozen=True, slots=True)
class Counter:
    """How many jobs are in a state, and the page that lists them."""

    state: State
    count: Count
    path: str


@router.get("/")
async def overview(
    request: Request,
    viewer: ViewerOf,
    dashboard: DashboardOf,
    range: Annotated[Range, Query()] = "1h",  # noqa: A002  the word in the address
    kind: Annotated[str, Query(max_length=500, pattern=r"^[^\x00]*$")] = "",
    fragment: Annotated[Literal["now", "charts", ""], Query()] = "",
) -> HTMLResponse:
    """The page, or one of its live parts."""
    snapshot = dashboard.snapshots.latest()
    if fragment == "now":
        if away := dashboard.snapshots.trouble()["postgres"]:
            # The page keeps the numbers that it has; they are the last that were true.
            raise Refused(503, "Postgres cannot be used", away, headers={"Retry-After": "2"})

        async def now() -> dict[str, Any]:
            return of_now(snapshot)

        return await render_shared(request, "overview/now.html", snapshot and snapshot.at, SHARED, now)

    async def drawn() -> dict[str, Any]:
        words, every = RANGES[range]
        return {
            "charts": charts.draw(await dashboard.model.series(range, kind or None)),
            "range": range,
            "ranges": [(key, words) for key, (words, _) in RANGES.items()],
            "label": words,
            "every": every,
            "kind": kind,
        }

    if fragment == "charts":
        return await render_shared(request, "overview/charts.html", (range, kind), SHARED, drawn)
    return render(request, "overview.html", kinds=await dashboard.model.kinds(), **of_now(snapshot), **await drawn())


@router.post("/pause")
async def pause(request: Request, operator: OperatorOf, dashboard: DashboardOf, form: FormOf) -> Response:
    """Stop starting jobs."""
    reason = str(form.get("reason", "")).replace("\0", "").strip()[:REASON_CHARACTERS] or None
    await dashboard.client.pause(reason=reason, by=operator.actor)
    dashboard.snapshots.doubt()
    return after(request, "/", "Paused: no new job starts. What runs goes on to its end.")


@router.post("/resume")
async def resume(request: Request, operator: OperatorOf, dashboard: DashboardOf) -> Response:
    """Start jobs again."""
    await dashboard.client.resume(by=operator.actor)
    dashboard.snapshots.doubt()
    return after(request, "/", "Resumed: jobs start again.")


def of_now(snapshot: Snapshot | None) -> dict[str, Any]:
    """What the template of the live part takes."""
    if snapshot is None:
        return {"counters": (), "oldest_path": "/jobs", "waiting": 0}
    counts = {state: snapshot.counts.get(state, Count(0)) for state in State}
    return {
        "counters": [Counter(state, count, _path(state)) for state, count in counts.items()],
        "oldest_path": _path(State.QUEUED),
        "waiting": counts[State.QUEUED].number,
    }


def _path(state: State) -> str:
    """Where a state's jobs are listed; dead letters have a page of their own, grouped."""
    if state is State.DEAD:
        return "/dead"
    return "/jobs?" + urlencode(JobFilter(states=frozenset({state})).to_query())
