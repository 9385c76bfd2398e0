"""Every page of the dashboard, by name: where it is, and who looks. The tests of every page and the screenshots share it.

A page that is added to the dashboard is added here; `test_every_page` fails on a route that no place leads to.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode
from uuid import UUID

from carafe.dashboard.view.rendering import kind_path
from tests.browser.storefront import Storefront

NOBODY = UUID("0197aaaa-0000-7000-8000-000000000000")
"""The id of a job, bulk action or briefing that does not exist."""


@dataclass(frozen=True, slots=True)
class Place:
    """A page; `route` is its address as routers have it. `who` looks at it ("": nobody who has signed in)."""

    name: str
    path: str
    route: str
    who: str = "ana"
    status: int = 200


def _query(**pairs: object) -> str:
    return "?" + urlencode({name: str(value) for name, value in pairs.items()})


def anywhere() -> list[Place]:
    """The pages of any system, an empty one too."""
    return [
        Place("overview", "/", "/"),
        Place("jobs", "/jobs", "/jobs"),
        *(
            Place(f"jobs-{state}", f"/jobs?state={state}", "/jobs")
            for state in ("queued", "scheduled", "running", "retrying", "succeeded", "dead", "cancelled")
        ),
        Place("jobs-no-match", "/jobs" + _query(kind="no.such", text="nothing"), "/jobs"),
        Place("jobs-search-fault", "/jobs" + _query(q=NOBODY), "/jobs", status=404),
        Place("kinds", "/kinds", "/kinds"),
        Place("kind-gone", "/kinds/no.such", "/kinds/{kind:path}", status=404),
        Place("dead", "/dead", "/dead"),
        Place("dead-group-gone", "/dead/group" + _query(kind="no.such", fingerprint="0"), "/dead/group"),
        Place("bulk", "/bulk", "/bulk"),
        Place("workers", "/workers", "/workers"),
        Place("enqueue", "/enqueue", "/enqueue"),
        Place("enqueue-form", "/enqueue" + _query(kind="email.send"), "/enqueue"),
        Place("briefings", "/briefings", "/briefings"),
        Place("audit", "/audit", "/audit"),
        Place("help", "/help", "/help"),
        Place("login", "/login", "/login", who=""),
        Place("forbidden", f"/jobs/{NOBODY}/edit", "/jobs/{job_id}/edit", who="vic", status=403),
        Place("not-found", f"/jobs/{NOBODY}", "/jobs/{job_id}", status=404),
    ]


def of_a_storefront(front: Storefront) -> list[Place]:
    """The pages that need something to be there."""
    group: Mapping[str, str] = dict(zip(("kind", "fingerprint"), front.groups["webhook.deliver"], strict=True))
    under_way = dict(zip(("kind", "fingerprint"), front.groups["image.resize"], strict=True))
    return [
        Place("overview-5m", "/?range=5m", "/"),
        Place("overview-24h", "/?range=24h", "/"),
        Place("overview-7d", "/?range=7d", "/"),
        *(Place(f"job-{name}", f"/jobs/{job}", "/jobs/{job_id}") for name, job in front.jobs.items()),
        Place("kind", kind_path(group["kind"]), "/kinds/{kind:path}"),
        Place("kind-paused", kind_path(under_way["kind"]), "/kinds/{kind:path}"),
        Place("kind-viewed", kind_path(under_way["kind"]) + "?range=5m", "/kinds/{kind:path}", who="vic"),
        Place("job-viewed", f"/jobs/{front.jobs['dead']}", "/jobs/{job_id}", who="vic"),
        Place("job-edit", f"/jobs/{front.jobs['dead']}/edit", "/jobs/{job_id}/edit"),
        Place("jobs-filtered", "/jobs" + _query(state="dead", kind=group["kind"], text="northwind"), "/jobs"),
        Place("jobs-worker", "/jobs" + _query(worker=front.workers[0]), "/jobs"),
        Place("dead-group", "/dead/group" + _query(**group), "/dead/group"),
        Place("dead-group-probed", "/dead/group" + _query(**group, probe=front.jobs["succeeded"]), "/dead/group"),
        Place("dead-group-replaying", "/dead/group" + _query(**under_way), "/dead/group"),
        Place("bulk-new", "/bulk/new" + _query(action="discard", state="dead", kind=group["kind"]), "/bulk/new"),
        *(Place(f"bulk-{state}", f"/bulk/{bulk}", "/bulk/{bulk_id}") for state, bulk in front.bulks.items()),
        Place("audit-of-a-job", f"/audit?target={front.jobs['retrying']}", "/audit"),
        *(
            Place(f"briefing-{status}", f"/briefings/{one}", "/briefings/{briefing_id}")
            for status, one in front.briefings.items()
        ),
    ]
