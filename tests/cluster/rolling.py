"""A change of release under load, and the checks on it."""

from collections import Counter
from collections.abc import Callable

from tests.cluster.deployment import Deployment, Posting
from tests.cluster.report import Report
from tests.cluster.service import Json

RATE = 50.0
"""Posts a second."""


def change_under_load(
    deployment: Deployment, report: Report, title: str, change: Callable[[], None]
) -> tuple[Posting, list[Json]]:
    """Run `change` while jobs are posted; then every post was accepted and every job succeeded at its first attempt.

    Returns the posting and its jobs.
    """
    with deployment.under_load(RATE) as posting:
        change()
    summary = posting.summary
    jobs = deployment.service.wait(posting.accepted, "cluster.quick", 120)
    spent = [job for job in jobs if job["attempt"] != 1]
    report.add(
        title,
        f"{summary['posts']} posts in {posting.seconds:.0f} s ({summary['posts'] / posting.seconds:.0f}/s), "
        f"{len(summary['failures'])} failed, slowest answer {summary['slowest']:.2f} s; "
        f"{sum(job['state'] == 'succeeded' for job in jobs)} of {len(jobs)} succeeded, {len(spent)} spent an attempt, "
        f"{sum(job['releases'] for job in jobs)} handed back",
        "no failed request, no lost job, no spent attempt",
    )
    assert not summary["failures"], _gist(summary["failures"])
    assert summary["accepted"] == summary["posts"] == len(jobs)
    assert {job["state"] for job in jobs} == {"succeeded"}
    assert spent == []
    return posting, jobs


def _gist(failures: list[Json]) -> str:
    """How many of which, and the first few in full."""
    kinds = Counter((str(failure["connection"]), str(failure["what"])[:80]) for failure in failures)
    return f"{dict(kinds)}; such as {failures[:3]}"
