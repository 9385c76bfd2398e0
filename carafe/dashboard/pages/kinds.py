"""The pages of kinds: a list with figures of the last hour, and a page for each kind with its jobs, errors, charts and
options. An operator pauses and resumes one kind here."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request, Response

from carafe import InvalidOption, JobFilter, State
from carafe.dashboard.dashboard import Dashboard
from carafe.dashboard.dependencies import DashboardOf, OperatorOf, ViewerOf
from carafe.dashboard.pages.dead import group_path
from carafe.dashboard.pages.enqueue import gist
from carafe.dashboard.pages.fragments import show
from carafe.dashboard.pages.overview import SHARED, of_charts
from carafe.dashboard.security.forms import FormOf
from carafe.dashboard.security.refusals import Refused
from carafe.dashboard.view import charts
from carafe.dashboard.view.rendering import after, kind_path, render_shared
from carafe.durations import measured
from carafe.jobs.declaring import LONGEST_KIND
from carafe.jobs.definition import kinds
from carafe.jobs.new_job import Limits
from carafe.jobs.options import CLASS_OPTIONS
from carafe.jobs.records import MAX_HELD
from carafe.readmodel.records import Range

router = APIRouter()

SHOWN = 5
"""How many running jobs and how many groups of errors a kind's page shows: the newest."""

# A kind that another program has written into the database may have any characters, "/" too.
KindOf = Annotated[str, Path(max_length=LONGEST_KIND, pattern=r"^[^\x00]+$")]


@router.get("/kinds")
async def list_kinds(request: Request, viewer: ViewerOf, dashboard: DashboardOf) -> Response:
    """All kinds that are known, with what ended of each in the last hour."""
    found = await dashboard.model.kind_figures(kinds())
    return show(request, "kinds", figures=[(figures, kind_path(figures.kind)) for figures in found])


@router.get("/kinds/{kind:path}")
async def show_kind(
    request: Request,
    viewer: ViewerOf,
    dashboard: DashboardOf,
    kind: KindOf,
    range: Annotated[Range, Query()] = "1h",  # noqa: A002  the word in the address
    fragment: Annotated[Literal["charts", ""], Query()] = "",
) -> Response:
    """One kind: whether it is paused, its jobs by state, its figures and charts, what runs, its errors, its options."""

    async def drawn() -> dict[str, Any]:
        series = charts.draw(await dashboard.model.series(range, kind), per_kind=True)
        return of_charts(series, range, kind, lambda which: f"{kind_path(kind)}?range={which}", alone=True)

    if fragment == "charts":
        return await render_shared(request, "overview/charts.html", ("kind", range, kind), SHARED, drawn)
    model = dashboard.model
    view = await model.kind(kind)
    counts = await model.counts(JobFilter(kind=kind))
    if not (view.paused or any(count.number for count in counts.values()) or kind in kinds() or kind in await model.kinds()):
        raise Refused(404, "No such kind", f"No job has the kind {kind!r}, and no process that is known here declares it.")
    running = JobFilter(kind=kind, states=frozenset({State.RUNNING}))
    groups = [group for group in (await model.dead_groups()).groups if group.kind == kind]
    groups.sort(key=lambda group: group.last_at, reverse=True)
    return show(
        request,
        "kind",
        view=view,
        here=kind_path(kind),
        counters=[(state, counts[state], _jobs(JobFilter(kind=kind, states=frozenset({state})))) for state in State],
        jobs=_jobs(JobFilter(kind=kind)),
        running=(await model.jobs(running, limit=SHOWN)).jobs,
        more=counts[State.RUNNING].number > SHOWN,
        running_path=_jobs(running),
        groups=[(group, group_path(group.kind, group.fingerprint)) for group in groups[:SHOWN]],
        more_groups=len(groups) > SHOWN,
        options=None if kind not in kinds() else tuple(_options(dashboard, kind)),
        about=gist(kinds()[kind]) if kind in kinds() else "",
        most_held=MAX_HELD,
        # The part that an open page fetches again has no charts.
        **({} if request.headers.get("X-Fragment") == "1" else await drawn()),
    )


@router.post("/kinds/{kind:path}/pause")
async def pause(request: Request, operator: OperatorOf, dashboard: DashboardOf, form: FormOf, kind: KindOf) -> Response:
    """Pause the kind: no job of it starts."""
    try:
        record = await dashboard.client.pause_kind(kind, reason=str(form.get("reason", "")), by=operator.actor)
    except InvalidOption as error:
        return after(request, kind_path(kind), f"Nothing was done. {error}.")
    dashboard.snapshots.mark_stale()
    if record.unchanged:
        said = f"It was paused already, by {record.paused_by or 'somebody'}: nothing changed."
    else:
        said = record.note or "Paused: no new job of this kind starts."
    return after(request, kind_path(kind), said)


@router.post("/kinds/{kind:path}/resume")
async def resume(request: Request, operator: OperatorOf, dashboard: DashboardOf, kind: KindOf) -> Response:
    """Resume the paused kind: its jobs start again."""
    record = await dashboard.client.resume_kind(kind, by=operator.actor)
    dashboard.snapshots.mark_stale()
    return after(request, kind_path(kind), record.note or "Resumed: jobs of this kind start again.")


def _jobs(wanted: JobFilter) -> str:
    return "/jobs?" + urlencode(wanted.to_query())


def _options(dashboard: Dashboard, kind: str) -> Iterator[tuple[str, str]]:
    """The options of the kind as its class declares them or, where it does not, by the settings' defaults."""
    options = kinds()[kind].job_options
    resolved = Limits.of(dashboard.settings).resolve(options)
    yield "version", str(options.version)
    for name, option in CLASS_OPTIONS.items():
        text = measured(resolved[name]) if option.what == "duration" else str(resolved[name])
        yield option.label, text if getattr(options, name) is not None else f"{text} (the default)"
