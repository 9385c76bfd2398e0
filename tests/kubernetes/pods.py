"""Workers' pods in the API's JSON, reduced to the fields that are read, and a fake cluster that returns what a test has
written."""

import copy
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

UID = "0b9e3c8e-6d0f-4a57-9d55-2f6c1a1f7c11"

RUNNING: dict[str, Any] = {"running": {"startedAt": "2026-11-25T11:00:02Z"}}

OOM: dict[str, Any] = {
    "terminated": {
        "containerID": "containerd://aa01",
        "exitCode": 137,
        "finishedAt": "2026-11-25T11:05:09Z",
        "reason": "OOMKilled",
        "startedAt": "2026-11-25T11:00:02Z",
    }
}

ERROR: dict[str, Any] = {
    "terminated": {
        "containerID": "containerd://bb02",
        "exitCode": 1,
        "finishedAt": "2026-11-25T11:05:09Z",
        "reason": "Error",
        "startedAt": "2026-11-25T11:00:02Z",
    }
}

COMPLETED: dict[str, Any] = {"terminated": {**ERROR["terminated"], "exitCode": 0, "reason": "Completed"}}

BACK_OFF: dict[str, Any] = {
    "waiting": {
        "message": "back-off 10s restarting failed container=worker pod=carafe-worker-7d9c-x2x4k_carafe(0b9e3c8e)",
        "reason": "CrashLoopBackOff",
    }
}

CREATING: dict[str, Any] = {"waiting": {"reason": "ContainerCreating"}}


def pod(
    state: Mapping[str, Any] | None = RUNNING,
    last: Mapping[str, Any] | None = None,
    *,
    uid: str = UID,
    name: str = "carafe-worker-7d9c-x2x4k",
    phase: str = "Running",
    version: str = "1000",
    restarts: int = 0,
    deleting: bool = False,
    conditions: list[dict[str, Any]] | None = None,
    **status: Any,
) -> dict[str, Any]:
    """A worker's pod whose container is in this state and was in that one before its last restart; None: not reported."""
    container = {
        "name": "worker",
        "image": "carafe:dev",
        "ready": bool(state and "running" in state),
        "started": bool(state and "running" in state),
        "restartCount": restarts,
        "state": dict(state or {}),
        "lastState": dict(last or {}),
    }
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": "carafe",
        "uid": uid,
        "resourceVersion": version,
        "creationTimestamp": "2026-11-25T11:00:00Z",
        "labels": {"app.kubernetes.io/component": "worker"},
    }
    if deleting:
        metadata |= {"deletionTimestamp": "2026-11-25T11:06:00Z", "deletionGracePeriodSeconds": 40}
    return copy.deepcopy(
        {
            "metadata": metadata,
            "spec": {"nodeName": "kit", "containers": [{"name": "worker", "image": "carafe:dev"}]},
            "status": {
                "phase": phase,
                "conditions": conditions or [],
                **({} if state is None else {"containerStatuses": [container]}),
                **status,
            },
        }
    )


def unschedulable(message: str) -> dict[str, Any]:
    """A pod that no node has room for."""
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    waiting = pod(None, phase="Pending", conditions=[condition])
    del waiting["spec"]["nodeName"]
    return waiting


class Scripted:
    """A cluster by script: each list and each watch takes the next of what the test has put down for it.

    What is an exception is raised. A watch without a script says nothing until `release`, or until one is put down.
    """

    def __init__(self) -> None:
        self.lists: deque[list[Any] | Exception] = deque()
        self.watches: deque[list[tuple[str, Any] | Exception]] = deque()
        self.asked: list[str] = []
        self._more = threading.Condition()
        self._released = False

    def tell(self, *events: tuple[str, Any] | Exception) -> None:
        """The next watch says these, and ends."""
        with self._more:
            self.watches.append(list(events))
            self._more.notify_all()

    def release(self) -> None:
        """Every watch ends."""
        with self._more:
            self._released = True
            self._more.notify_all()

    def list(self, labels: str) -> tuple[list[Any], str]:
        assert labels == "app.kubernetes.io/component=worker"
        self.asked.append("list")
        answer = self.lists.popleft() if self.lists else []
        if isinstance(answer, Exception):
            raise answer
        return answer, "1"

    def watch(self, labels: str, version: str, seconds: int) -> Iterator[tuple[str, Any]]:
        self.asked.append(f"watch {version}")
        with self._more:
            self._more.wait_for(lambda: self.watches or self._released, 20)
            events = self.watches.popleft() if self.watches else []
        for event in events:
            if isinstance(event, Exception):
                raise event
            yield event
