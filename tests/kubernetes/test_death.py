"""How a worker died: read from its pod, and described as text."""

from typing import Any

import pytest

from carafe.kubernetes.death import death_of
from carafe.store.fingerprint import fingerprint
from tests.kubernetes.pods import BACK_OFF, COMPLETED, ERROR, OOM, RUNNING, pod

KILLED: dict[str, Any] = {"terminated": {**ERROR["terminated"], "exitCode": 137}}

EVICTED: dict[str, Any] = {
    "phase": "Failed",
    "reason": "Evicted",
    "message": "The node was low on resource: memory. Threshold quantity: 100Mi, available: 80Mi.",
    "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet", "message": "low"}],
}


def disrupted(reason: str) -> list[dict[str, Any]]:
    return [{"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "because"}]


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (pod(OOM), "out of memory: OOMKilled (exit code 137)"),
        (pod(RUNNING, OOM, restarts=1), "out of memory: OOMKilled (exit code 137)"),
        (pod(BACK_OFF, OOM, restarts=3), "out of memory: OOMKilled (exit code 137)"),
        (pod(ERROR, OOM, restarts=1), "Error (exit code 1)"),
        (pod(KILLED), "Error (exit code 137, SIGKILL)"),
        (pod(COMPLETED, phase="Succeeded"), "Completed (exit code 0)"),
        (pod(KILLED, **EVICTED), f"Evicted (exit code 137, SIGKILL): {EVICTED['message']}"),
        (pod(None, **EVICTED), f"Evicted: {EVICTED['message']}"),
        (pod(OOM, **EVICTED), "out of memory: OOMKilled (exit code 137)"),
        (pod(None, phase="Failed", reason="NodeLost", message="gone"), "NodeLost: gone"),
        (
            pod(KILLED, phase="Failed", reason="DeadlineExceeded", message="Pod was active on the node longer"),
            "DeadlineExceeded (exit code 137, SIGKILL): Pod was active on the node longer",
        ),
        (
            pod(COMPLETED, conditions=disrupted("PreemptionByScheduler"), deleting=True),
            "Preempted (exit code 0): because",
        ),
        (pod(None, phase="Failed", conditions=disrupted("DeletionByPodGC")), "NodeLost: because"),
        (pod(COMPLETED, conditions=disrupted("EvictionByEvictionAPI")), "Evicted (exit code 0): because"),
    ],
)
def test_a_death_says_its_cause_its_pod_and_its_node(seen: dict[str, Any], words: str) -> None:
    death = death_of(seen)

    assert death is not None
    assert death.words("carafe-worker-a", "kit") == f"{words}, pod 'carafe-worker-a' on node 'kit'"


def test_who_lives_has_not_died() -> None:
    assert death_of(pod(RUNNING)) is None
    assert death_of(pod(None, phase="Pending")) is None
    # About to be evicted: the container still runs, and drains.
    assert death_of(pod(RUNNING, conditions=disrupted("EvictionByEvictionAPI"), deleting=True)) is None


def test_what_happens_to_a_pod_now_did_not_cause_an_earlier_death() -> None:
    death = death_of(pod(RUNNING, OOM, conditions=disrupted("EvictionByEvictionAPI"), deleting=True))

    assert death is not None
    assert death.reason == "OOMKilled"


def test_a_pod_deleted_by_force_tells_nothing_of_its_container() -> None:
    death = death_of(pod(RUNNING, OOM), gone=True)

    assert death is not None
    assert (death.reason, death.exit_code, death.finished_at) == ("Deleted", None, None)


def test_a_record_has_what_the_kubelet_wrote() -> None:
    death = death_of(pod(OOM))

    assert death is not None
    assert (death.exit_code, death.signal, death.container, death.container_id) == (137, None, "worker", "containerd://aa01")
    assert str(death.started_at) == "2026-11-25 11:00:02+00:00"
    assert str(death.finished_at) == "2026-11-25 11:05:09+00:00"


def test_a_time_that_the_kubelet_does_not_know_is_none() -> None:
    unknown = {"exitCode": 137, "reason": "ContainerStatusUnknown", "startedAt": None, "finishedAt": None}
    death = death_of(pod({"terminated": unknown}))
    zero = death_of(
        pod({"terminated": {**unknown, "startedAt": "0001-01-01T00:00:00Z", "finishedAt": "1970-01-01T00:00:00Z"}})
    )

    for one in (death, zero):
        assert one is not None
        assert (one.reason, one.started_at, one.finished_at) == ("ContainerStatusUnknown", None, None)


def test_a_sidecar_is_not_the_worker() -> None:
    seen = pod(RUNNING)
    seen["spec"]["containers"].insert(0, {"name": "proxy"})
    seen["status"]["containerStatuses"].insert(0, {"name": "proxy", "restartCount": 9, "state": OOM})
    assert death_of(seen) is None

    # Whatever the container is called: the annotation says which it is, else it is the first.
    for container in (seen["spec"]["containers"][1], seen["status"]["containerStatuses"][1]):
        container["name"] = "main"
    assert death_of(seen) is not None
    seen["metadata"]["annotations"] = {"kubectl.kubernetes.io/default-container": "main"}
    assert death_of(seen) is None


def test_a_message_is_one_line_and_short() -> None:
    death = death_of(pod({"terminated": {**ERROR["terminated"], "message": "a\n b\0\tc " * 1000}}))

    assert death is not None
    assert death.message.startswith("a b c a b c")
    assert len(death.message) == 300


def test_two_pods_that_die_alike_are_one_error() -> None:
    death = death_of(pod(OOM))

    assert death is not None
    words = [death.words(f"carafe-worker-{name}", node) for name, node in (("x2x4k", "kit"), ("bbq9z", "node-b"))]
    assert len({fingerprint("", "ChildDied", text) for text in words}) == 1
