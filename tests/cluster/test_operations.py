"""The kubectl commands in docs/deploy.md do what the page says."""

import json
import secrets
import time

import pytest

from carafe.settings.settings import hash_token
from tests.cluster.deployment import DEPLOY, SCALED, Deployment
from tests.cluster.kubectl import Object, condition, name_of
from tests.cluster.waiting import until, watch

pytestmark = pytest.mark.cluster

WEB = "deploy/carafe-web"
KINDS = "/api/v1/kinds"
PREFIX = "autoscaling.keda.sh/"


def test_the_command_line_works_inside_the_web_pod(deployment: Deployment) -> None:
    kubectl = deployment.kubectl
    job = kubectl.exec(WEB, "carafe", "enqueue", "cluster.quick").strip()
    assert "succeeded" in kubectl.exec(WEB, "carafe", "jobs", "wait", job, "--timeout", "90")
    assert "default" in kubectl.exec(WEB, "carafe", "queues")
    doctor = kubectl.attempt("exec", WEB, "--", "carafe", "doctor")
    assert "broken" not in doctor.stdout, doctor.stdout


def test_dead_letters_are_replayed(deployment: Deployment) -> None:
    kubectl, tag = deployment.kubectl, f"replay-{time.time_ns()}"
    ids = deployment.service.enqueue_many("cluster.fail", [{"tag": tag}] * 3)
    assert {job["state"] for job in deployment.service.wait(ids, "cluster.fail", 120)} == {"dead"}
    assert ids[0] in kubectl.exec(WEB, "carafe", "jobs", "list", "--state", "dead", "--kind", "cluster.fail")
    deployment.release(tag)
    kubectl.exec(WEB, "carafe", "jobs", "retry", *ids)
    assert {job["state"] for job in deployment.service.wait(ids, "cluster.fail", 120)} == {"succeeded"}


def test_logs_name_the_job(deployment: Deployment) -> None:
    job = deployment.service.enqueue("cluster.quick")
    deployment.service.wait([job], "cluster.quick", 120)

    def logged() -> bool:
        logs = deployment.kubectl("logs", "--selector=app.kubernetes.io/component=worker", "--tail=-1", "--prefix")
        assert job in logs, "not in the logs"
        return True

    until("the worker's log names the job", logged, 30)


def test_scaling_is_paused_and_goes_on(idle: Deployment) -> None:
    scaled = name_of(idle.scaled_object())
    annotate = ("annotate", SCALED, scaled)
    idle.kubectl(*annotate, f"{PREFIX}paused=true")
    try:
        until("KEDA has paused", lambda: _paused(idle), 60)
        job = idle.service.enqueue("cluster.quick")
        assert set(watch(15, idle.replicas)) == {0}
        assert idle.service.job(job)["state"] == "queued"
    finally:
        idle.kubectl(*annotate, f"{PREFIX}paused-")
    assert idle.service.wait([job], "cluster.quick", 120)[0]["state"] == "succeeded"


def test_scale_in_alone_is_paused(idle: Deployment) -> None:
    scaled = name_of(idle.scaled_object())
    annotate = ("annotate", SCALED, scaled)
    idle.kubectl(*annotate, f"{PREFIX}paused-scale-in=true")
    try:
        ids = idle.service.enqueue_many("cluster.wait", [{"seconds": 15}] * 10)
        until("it scales out", lambda: idle.replicas() >= 2, 60)
        idle.service.wait(ids, "cluster.wait", 120)
        reached = idle.replicas()
        # Longer than cooldownPeriod and the calm of scale-in.
        cooldown = int(idle.scaled_object()["spec"].get("cooldownPeriod", 300))
        assert set(watch(cooldown + 30, idle.replicas, every=5.0)) == {reached}
    finally:
        idle.kubectl(*annotate, f"{PREFIX}paused-scale-in-")
    until("it scales in", lambda: idle.replicas() == 0, 240, every=1.0)


def test_a_queue_is_paused_and_asks_for_no_worker(idle: Deployment) -> None:
    kubectl = idle.kubectl
    kubectl.exec(WEB, "carafe", "queues", "pause", "--reason", "a test")
    try:
        job = idle.service.enqueue("cluster.quick")
        assert set(watch(15, idle.replicas)) == {0}
    finally:
        kubectl.exec(WEB, "carafe", "queues", "resume")
    assert idle.service.wait([job], "cluster.quick", 120)[0]["state"] == "succeeded"


def test_a_canary_of_a_good_image_passes_and_one_with_bad_settings_does_not(deployment: Deployment) -> None:
    manifest = f"--filename={DEPLOY / 'kustomize' / 'canary.yaml'}"
    job: Object = json.loads(deployment.kubectl("create", manifest, "--dry-run=client", "--output=json"))
    container = job["spec"]["template"]["spec"]["containers"][0]
    container["image"] = deployment.image
    assert _verdict(deployment, job) == "Complete"
    container["env"] = [{"name": "HANDLER_MODULES", "value": "there.is.no.such.module"}]
    assert _verdict(deployment, job) == "Failed"


def test_a_token_is_rotated(deployment: Deployment) -> None:
    fresh = secrets.token_urlsafe(24)
    entries = f"tests:operate:{hash_token(deployment.token)},rotated:operate:{hash_token(fresh)}"
    headers = {"Authorization": f"Bearer {fresh}"}
    assert deployment.service.ask("GET", KINDS, headers=headers).status_code == 401
    deployment.kubectl.patch("secret", "carafe-web", {"stringData": {"API_TOKENS": entries}})
    try:
        deployment.kubectl("rollout", "restart", WEB)
        deployment.wait_for_rollout("carafe-web")
        until("only new pods answer", lambda: deployment.service.ask("GET", KINDS, headers=headers).status_code == 200, 60)
    finally:
        deployment.deploy()


def _verdict(deployment: Deployment, job: Object) -> str:
    """How a canary ends."""
    name = deployment.kubectl("create", "--filename=-", "--output=name", given=json.dumps(job)).strip()

    def ended() -> str:
        found = deployment.kubectl.get("job", name.partition("/")[2])
        verdicts = [kind for kind in ("Complete", "Failed") if condition(found, kind) == "True"]
        assert verdicts, "it runs"
        return verdicts[0]

    try:
        return until("the canary ends", ended, 150)
    finally:
        deployment.kubectl("delete", name, "--wait=false")


def _paused(deployment: Deployment) -> bool:
    conditions = deployment.scaled_object()["status"]["conditions"]
    return any(found["type"] == "Paused" and found["status"] == "True" for found in conditions)
