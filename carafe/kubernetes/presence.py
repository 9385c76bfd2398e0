"""The status of a worker's pod: whether the pod runs, why it does not run, and how its worker last died.

A pure function reads the status from the API's JSON of the pod.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from carafe.kubernetes.death import MAX_MESSAGE, Death, container_status, death_of, moment, one_line, terminated


@dataclass(frozen=True, slots=True)
class Presence:
    """The status of a worker's pod at one moment.

    `ended`: the worker's process has ended, and none runs in its place. `gone`: the pod no longer exists. `trouble` says why
    the pod does not run, even if it is just starting. It is empty if the pod runs, or is being deleted.
    """

    uid: str
    name: str
    namespace: str
    node: str
    phase: str
    ready: bool
    deleting: bool
    ended: bool
    gone: bool
    restarts: int
    trouble: str
    created_at: datetime | None
    death: Death | None


def presence_of(pod: Mapping[str, Any], *, gone: bool = False) -> Presence:
    """The status of a pod, read from the API's JSON. `gone` says that the pod has been deleted; then `pod` is the last state
    of it that was seen."""
    metadata, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
    phase = str(status.get("phase") or "Unknown")
    container = container_status(pod)
    running = bool(((container or {}).get("state") or {}).get("running"))
    deleting = bool(metadata.get("deletionTimestamp"))
    return Presence(
        uid=str(metadata["uid"]),
        name=str(metadata["name"]),
        namespace=str(metadata["namespace"]),
        node=str(spec.get("nodeName") or ""),
        phase=phase,
        ready=not gone and bool((container or {}).get("ready")),
        deleting=deleting,
        ended=gone or phase in ("Succeeded", "Failed") or (not running and terminated(container) is not None),
        gone=gone,
        restarts=int((container or {}).get("restartCount") or 0),
        trouble="" if gone or deleting else _trouble(spec, status, phase, container),
        created_at=moment(metadata.get("creationTimestamp")),
        death=death_of(pod, gone=gone),
    )


def _trouble(spec: Mapping[str, Any], status: Mapping[str, Any], phase: str, container: Mapping[str, Any] | None) -> str:
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return _said(condition.get("reason") or "Unschedulable", condition.get("message"))
    if phase == "Failed":
        return _said(status.get("reason") or "Failed", status.get("message"))
    # Init containers first: until they are done, nothing can be said of the others.
    waiting = [*(status.get("initContainerStatuses") or []), *([container] if container else [])]
    for one in waiting:
        state = (one.get("state") or {}).get("waiting") or {}
        reason = state.get("reason") or ""
        if reason and reason != "PodInitializing":
            return _said(reason, state.get("message"))
    if phase == "Pending":
        return "scheduled; its containers are not created yet" if spec.get("nodeName") else "not scheduled yet"
    return ""


def _said(reason: str, message: str | None) -> str:
    text = one_line(message)
    return f"{reason}: {text}"[:MAX_MESSAGE] if text else str(reason)
