"""Whether a pod runs, and why not."""

from typing import Any

import pytest

from carafe.kubernetes.presence import presence_of
from tests.kubernetes.pods import BACK_OFF, COMPLETED, CREATING, ERROR, OOM, RUNNING, pod, unschedulable

NO_ROOM = "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available"
PULL = {"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "carafe:none"'}}
INITIALIZING = {"waiting": {"reason": "PodInitializing"}}


@pytest.mark.parametrize(
    ("seen", "trouble"),
    [
        (pod(RUNNING), ""),
        (unschedulable(NO_ROOM), f"Unschedulable: {NO_ROOM}"),
        (pod(PULL, phase="Pending"), 'ImagePullBackOff: Back-off pulling image "carafe:none"'),
        (pod(CREATING, phase="Pending"), "ContainerCreating"),
        (pod(BACK_OFF, ERROR, restarts=2), f"CrashLoopBackOff: {BACK_OFF['waiting']['message']}"),
        (pod(None, phase="Pending"), "scheduled; its containers are not created yet"),
        (pod(INITIALIZING, phase="Pending", initContainerStatuses=[{"name": "init", "state": PULL}]), "ImagePullBackOff"),
        (pod(None, phase="Failed", reason="OutOfcpu", message="Node didn't have enough resource"), "OutOfcpu"),
        # On its way out nobody wants it.
        (pod(PULL, phase="Pending", deleting=True), ""),
    ],
)
def test_a_pod_that_is_not_there_says_why(seen: dict[str, Any], trouble: str) -> None:
    said = presence_of(seen).trouble

    assert said.startswith(trouble)
    assert bool(said) is bool(trouble)


@pytest.mark.parametrize(
    ("seen", "ended"),
    [
        (pod(RUNNING), False),
        (pod(RUNNING, OOM, restarts=1), False),
        (pod(CREATING, phase="Pending"), False),
        (pod(None, phase="Pending"), False),
        (pod(RUNNING, deleting=True), False),
        (pod(RUNNING, phase="Unknown"), False),
        (pod(OOM), True),
        (pod(BACK_OFF, ERROR, restarts=2), True),
        (pod(CREATING, ERROR, restarts=1), True),
        (pod(COMPLETED, phase="Succeeded"), True),
        (pod(None, phase="Failed", reason="Evicted"), True),
    ],
)
def test_a_worker_has_ended_when_its_container_has_and_no_other_runs(seen: dict[str, Any], ended: bool) -> None:
    assert presence_of(seen).ended is ended
    assert presence_of(seen, gone=True).ended is True


def test_a_pod_is_what_the_api_server_says() -> None:
    presence = presence_of(pod(RUNNING, OOM, restarts=1))

    assert (presence.name, presence.namespace, presence.node) == ("carafe-worker-7d9c-x2x4k", "carafe", "kit")
    assert (presence.phase, presence.ready, presence.deleting, presence.gone) == ("Running", True, False, False)
    assert (presence.restarts, str(presence.created_at)) == (1, "2026-11-25 11:00:00+00:00")
    assert presence.death is not None
    assert presence_of(pod(RUNNING), gone=True).ready is False
