"""A first deployment up to a finished briefing, and a deployment while Redis is away."""

import time

import pytest

from tests.cluster.deployment import REDIS, SCALED, WORKER, Deployment
from tests.cluster.kubectl import condition, name_of, ready, restarts
from tests.cluster.report import Report
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster


def test_all_pods_become_ready_under_the_restricted_profile(deployment: Deployment) -> None:
    namespace = deployment.kubectl.get("namespace", deployment.namespace)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    with deployment.paused_at(1):
        pods = deployment.kubectl.find("pods", "app.kubernetes.io/part-of=carafe")
        components = {pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in pods}
        assert components >= {"web", "worker", "redis", "postgres"}
        assert [name_of(pod) for pod in pods if not ready(pod)] == []
    assert not deployment.kubectl.warnings("FailedCreate"), "a pod was refused"


def test_the_scaled_object_is_ready_and_reaches_redis_as_keda(deployment: Deployment) -> None:
    scaled = deployment.scaled_object()
    assert condition(scaled, "Ready") == "True"
    health = scaled["status"].get("health", {})
    assert all(trigger.get("numberOfFailures", 0) == 0 for trigger in health.values()), health


def test_a_briefing_posted_through_the_service_completes(idle: Deployment, report: Report) -> None:
    briefing, seconds = idle.service.briefing("Coffee prices this morning", within=120)
    assert briefing["status"] == "completed", briefing
    assert briefing["content"]
    report.seconds("a briefing from zero workers, posted until completed", seconds)


def test_what_is_applied_while_redis_is_away_recovers(idle: Deployment, report: Report) -> None:
    kubectl = idle.kubectl
    before = idle.restarted()
    with idle.without(REDIS):
        kubectl.delete(SCALED, name_of(idle.scaled_object()))
        idle.apply(without_redis=True)
        idle.apply_keda()
        # Without KEDA's count the Deployment keeps what it has: give the worker a pod that starts while Redis is away.
        kubectl("scale", "deployment/carafe-worker", "--replicas=1")
        until("a worker has started", lambda: len(kubectl.find("pods", WORKER)) == 1, 60)
        asked = idle.service.done("POST", "/api/v1/briefings", json={"topic": "Redis is away"})
        assert asked["status"] == "pending"
        until("KEDA has tried", lambda: condition(idle.scaled_object(), "Ready") == "False", 60)
        began = time.monotonic()
    report.seconds("applied while Redis is away: Redis is ready again after", time.monotonic() - began)

    def completed() -> bool:
        found = idle.service.done("GET", f"/api/v1/briefings/{asked['id']}")
        assert found["status"] == "completed", found
        return True

    until("the briefing of then is completed", completed, 180)
    report.seconds("applied while Redis is away: the briefing of then is completed after", time.monotonic() - began)
    until("the ScaledObject is ready", lambda: condition(idle.scaled_object(), "Ready") == "True", 600, every=1.0)
    report.seconds(
        "applied while Redis is away: the ScaledObject is ready after", time.monotonic() - began, "the time is reported"
    )
    after = {name_of(pod): restarts(pod) for pod in kubectl.find("pods")}
    report.add("applied while Redis is away: containers restarted", str(sum(after.values()) - sum(before.values())))
