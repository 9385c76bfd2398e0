"""There are no workers while there are no jobs, and otherwise as many as the formula asks for."""

import statistics
import time
from datetime import datetime

import pytest

from tests.cluster.deployment import Deployment, Load
from tests.cluster.report import Report
from tests.cluster.service import Json
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

POSTS = 10
JOBS = 100


def test_from_zero_workers_the_first_job_starts(idle: Deployment, report: Report) -> None:
    waits, stories = [], []
    for number in range(POSTS):
        idle.settle()
        job = idle.service.enqueue("cluster.quick", number=number)
        [ended] = idle.service.wait([job], "cluster.quick", 120)
        assert (ended["state"], ended["attempt"], ended["releases"]) == ("succeeded", 1, 0)
        waits.append(_seconds(ended, "created_at", "started_at"))
        stories.append(_start(idle, ended))
    waits.sort()
    report.add(
        f"from zero workers, post to start of the first job, {POSTS} posts",
        f"median {statistics.median(waits):.1f} s, p95 {_p95(waits):.1f} s, all {[round(wait, 1) for wait in waits]}",
        "p95 within 5 s",
    )
    report.add("of these: pod made, container started (whole seconds), job started", "; ".join(stories))


def test_replicas_follow_the_formula_and_return_to_zero(idle: Deployment, report: Report) -> None:
    most = idle.most()
    assert idle.replicas() == 0
    began = time.monotonic()
    ids = idle.service.enqueue_many("cluster.wait", [{"seconds": 2}] * JOBS)
    seen: list[tuple[float, Load]] = []
    answered: dict[str, float] = {}

    def done() -> bool:
        now = time.monotonic() - began
        load = idle.load()
        seen.append((now, load))
        if load.replicas >= most:
            answered.setdefault("most", now)
        assert load.replicas <= most
        if load.formula == 0:
            answered.setdefault("all jobs taken and done", now)
        return load.formula == 0 and load.replicas == 0

    until("all is done and the workers are at 0 again", done, 600)
    jobs = idle.service.wait(ids, "cluster.wait", 10)
    back = time.monotonic() - began

    assert {job["state"] for job in jobs} == {"succeeded"}
    assert {job["attempt"] for job in jobs} == {1}, "an attempt was spent"
    # What the formula asked for at its highest is what the Deployment got, and never more than that.
    wanted = max(load.wanted(most) for _, load in seen)
    assert wanted == most
    assert max(load.replicas for _, load in seen) == wanted
    last = max(_seconds(job, "created_at", "ended_at") for job in jobs)
    report.add(
        f"{JOBS} jobs of 2 s from zero workers",
        f"first starts after {min(_seconds(job, 'created_at', 'started_at') for job in jobs):.1f} s, "
        f"{most} replicas asked for after {answered['most']:.0f} s, all done after {last:.1f} s, "
        f"back at 0 after {back:.0f} s, releases {sum(job['releases'] for job in jobs)}",
        "replicas follow min(ceil(formula / 5), max), all done, back to 0, no attempt spent",
    )
    report.add(f"{JOBS} jobs of 2 s: seconds, formula → replicas", _story(seen))


def _start(deployment: Deployment, job: Json) -> str:
    """Where the time went: seconds after the post at which the pod was made, its container started, the job started."""
    pod = deployment.kubectl.get("pod", job["result"]["pod"])
    started = pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]
    posted = datetime.fromisoformat(job["created_at"])
    moments = (pod["metadata"]["creationTimestamp"], started, job["started_at"])
    return " ".join(f"{(datetime.fromisoformat(moment) - posted).total_seconds():.1f}" for moment in moments)


def _story(seen: list[tuple[float, Load]]) -> str:
    """The changes, in one line."""
    story, last = [], None
    for now, load in seen:
        if (load.wanted(10), load.replicas) != last:
            last = (load.wanted(10), load.replicas)
            story.append(f"{now:.0f} s {load.formula} → {load.replicas}")
    return ", ".join(story)


def _seconds(job: Json, begin: str, end: str) -> float:
    return (datetime.fromisoformat(job[end]) - datetime.fromisoformat(job[begin])).total_seconds()


def _p95(values: list[float]) -> float:
    """The highest of ten, honestly: with so few values no interpolation says more."""
    return sorted(values)[max(0, -(-95 * len(values) // 100) - 1)]
