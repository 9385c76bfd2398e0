"""Web and workers are replaced under load, and nobody notices; also when the new release changes the schema."""

import time
from functools import partial

import pytest

from tests.cluster import images
from tests.cluster.deployment import WEB, WORKER, Deployment
from tests.cluster.kubectl import name_of, ready
from tests.cluster.report import Report
from tests.cluster.rolling import change_under_load
from tests.cluster.service import Json
from tests.cluster.waiting import until, watch

pytestmark = pytest.mark.cluster

TOGETHER = 60.0
"""Seconds for which the old release and the new one run side by side on the new schema."""

ALONE = 60.0
"""Seconds of the same load with nothing else going on: whether this machine can carry it at all."""


def test_the_load_alone_fails_nothing(deployment: Deployment, report: Report) -> None:
    def nothing() -> None:
        watch(ALONE, deployment.replicas)

    change_under_load(deployment, report, "the same load without any change", nothing)


def test_a_new_release_under_load_costs_nothing(deployment: Deployment, report: Report) -> None:
    new = images.load(images.build(images.product(), release="2"), deployment.kubectl)
    tag = f"rolling-{time.time_ns()}"
    held = deployment.service.enqueue_many("cluster.hold", [{"tag": tag}] * 3)
    deployment.service.running(held, "cluster.hold", 120)

    def change() -> None:
        deployment.apply(image=new)
        _wait_for_both(deployment)

    try:
        _, jobs = change_under_load(deployment, report, "rolling update of web and worker under load", change)
        assert "2" in {job["result"]["release"] for job in jobs}, "no job ran on the new release"
        # Jobs that outlast the drain are handed back, and that costs them nothing.
        moved = until("the long jobs are handed back", lambda: _handed_back(deployment, held), 120)
        assert {job["attempt"] for job in moved} == {0}, "an attempt was spent"
        deployment.release(tag)
        ended = deployment.service.wait(held, "cluster.hold", 60)
        assert {(job["state"], job["attempt"], job["result"]["release"]) for job in ended} == {("succeeded", 1, "2")}
    finally:
        deployment.release(tag)
        _back(deployment)


def test_a_release_that_changes_the_schema_runs_beside_the_old_one(deployment: Deployment, report: Report) -> None:
    built = images.build(images.product(), target="migrating", release="3")
    new = images.load(built, deployment.kubectl)
    settings = {"MIGRATIONS": "briefings.migrations,tests.cluster.next_release"}
    together: list[tuple[set[str], set[str]]] = []

    def change() -> None:
        for name in ("carafe-web", "carafe-worker"):
            _hold_rollouts(deployment, name, True)
        try:
            # Both Deployments take their new template only as far as one new pod beside the old ones.
            deployment.apply(image=new, settings=settings)
            _canaries(deployment, new)
            together.extend(watch(TOGETHER, lambda: (_releases(deployment, WEB), _releases(deployment, WORKER))))
        finally:
            for name in ("carafe-web", "carafe-worker"):
                _hold_rollouts(deployment, name, False)
        _wait_for_both(deployment)

    # Enough long jobs that there are workers of the old release to stay.
    tag = f"migrating-{time.time_ns()}"
    held = deployment.service.enqueue_many("cluster.hold", [{"tag": tag}] * 12)
    deployment.service.running(held, "cluster.hold", 120)
    try:
        _, jobs = change_under_load(
            deployment, report, f"rolling update across a migration, both releases together for {TOGETHER:.0f} s", change
        )
        for component, seen in (("web", [webs for webs, _ in together]), ("worker", [workers for _, workers in together])):
            assert all(releases >= {deployment.image, new} for releases in seen), f"not both releases of {component}"
        columns = deployment.sql("select count(*) from information_schema.columns where column_name = 'cluster_note'")
        assert int(columns) >= 3
        ran = {job["result"]["release"] for job in jobs}
        assert ran == {"1", "3"}
    finally:
        deployment.release(tag)
        _back(deployment)
    ended = deployment.service.wait(held, "cluster.hold", 120)
    assert {(job["state"], job["attempt"]) for job in ended} == {("succeeded", 1)}


def test_a_rollback_under_load_costs_nothing(deployment: Deployment, report: Report) -> None:
    """`kubectl rollout undo`, as docs/deploy.md says."""
    new = images.load(images.build(images.product(), release="4"), deployment.kubectl)
    deployment.apply(image=new)
    _wait_for_both(deployment)

    def change() -> None:
        for name in ("carafe-web", "carafe-worker"):
            deployment.kubectl("rollout", "undo", f"deployment/{name}")
        _wait_for_both(deployment)

    try:
        change_under_load(deployment, report, "rollback of web and worker under load", change)
        assert _releases(deployment, WEB) == {deployment.image}
    finally:
        _back(deployment)


def _wait_for_both(deployment: Deployment) -> None:
    """Until both are rolled out and the last pod of before has ended: its end is when requests and jobs get lost."""
    for name in ("carafe-web", "carafe-worker"):
        deployment.wait_for_rollout(name)
    until("the pods of before have ended", lambda: not _ending(deployment), 120)


def _ending(deployment: Deployment) -> list[str]:
    pods = [*deployment.kubectl.find("pods", WEB), *deployment.kubectl.find("pods", WORKER)]
    return [name_of(pod) for pod in pods if "deletionTimestamp" in pod["metadata"]]


def _handed_back(deployment: Deployment, ids: list[str]) -> list[Json]:
    jobs = deployment.service.running(ids, "cluster.hold", 60)
    assert all(job["releases"] >= 1 for job in jobs), "not yet"
    return jobs


def _back(deployment: Deployment) -> None:
    deployment.apply()
    _wait_for_both(deployment)


def _hold_rollouts(deployment: Deployment, name: str, hold: bool) -> None:
    """Pause or go on with a Deployment's rollout; either way it may be so already."""
    deployment.kubectl.patch("deployment", name, {"spec": {"paused": hold}})


def _canaries(deployment: Deployment, image: str) -> None:
    """A paused Deployment starts no new pod: let each go on until one new pod is Ready, and hold it again."""
    for name, component in (("carafe-web", WEB), ("carafe-worker", WORKER)):
        # No old pod may go meanwhile.
        strategy = deployment.kubectl.get("deployment", name)["spec"]["strategy"]
        one = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
        deployment.kubectl.patch("deployment", name, {"spec": {"strategy": one, "minReadySeconds": 500, "paused": False}})
        until(f"a new pod of {name} is ready", partial(_runs, deployment, component, image), 120)
        deployment.kubectl.patch("deployment", name, {"spec": {"strategy": strategy, "minReadySeconds": 0, "paused": True}})


def _runs(deployment: Deployment, component: str, image: str) -> bool:
    return image in _releases(deployment, component)


def _releases(deployment: Deployment, component: str) -> set[str]:
    """The images of the Ready pods."""
    pods = deployment.kubectl.find("pods", component)
    return {str(pod["spec"]["containers"][0]["image"]) for pod in pods if ready(pod)}
