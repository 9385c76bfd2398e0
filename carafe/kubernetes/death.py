"""The cause of a worker's death, read from its pod: what ended the container, or the whole pod, in a record and in words.

Pure functions over the API's JSON of a pod. Times are the node's clock, and only ever put into words or compared loosely.
"""

import signal as signals
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from carafe.kubernetes.pod import in_pod

CONTAINER = "worker"
"""The name of the container that runs the worker; where there is none, it is the first that is no sidecar's."""

MAX_MESSAGE = 300
"""Characters that are kept of what the cluster says."""

DISRUPTIONS = {
    "PreemptionByScheduler": "Preempted",
    "DeletionByTaintManager": "NodeLost",
    "DeletionByPodGC": "NodeLost",
    "EvictionByEvictionAPI": "Evicted",
}
"""Reasons of the condition DisruptionTarget, in the words that the pod's own status uses; any other stands as it is."""


@dataclass(frozen=True, slots=True)
class Death:
    """How a container ended. `reason` is Kubernetes' word: OOMKilled, Evicted, Error, Completed, NodeLost, Preempted…"""

    reason: str
    exit_code: int | None
    signal: int | None
    message: str
    container: str
    container_id: str
    started_at: datetime | None
    finished_at: datetime | None

    def words(self, pod: str, node: str) -> str:
        """The cause for people: ``out of memory: OOMKilled (exit code 137), pod 'NAME' on node 'NODE'``."""
        text = f"out of memory: {self.reason}" if self.reason == "OOMKilled" else self.reason
        if self.exit_code is not None:
            text += f" (exit code {self.exit_code}{self._killed_by()})"
        if self.message:
            text += f": {self.message}"
        return text + in_pod(pod, node)

    def _killed_by(self) -> str:
        number = self.signal or (self.exit_code or 0) - 128
        if self.reason == "OOMKilled" or number <= 0:
            return ""
        try:
            return f", {signals.Signals(number).name}"
        except ValueError:
            return ""


def death_of(pod: Mapping[str, Any], *, gone: bool = False) -> Death | None:
    """The last death of a pod's worker container, also of one that has been restarted since; None while it never died.

    `gone`: the pod has been deleted, and this is the last that was seen of it.
    """
    status = container_status(pod) or {}
    ended = terminated(status)
    cause, message = _cause_of_pod(pod)
    if (status.get("state") or {}).get("running"):
        if gone:
            ended = None  # deleted by force, before anybody could say how the container ended
        else:
            cause = ""  # what happens to the pod has not ended this container yet
    elif not gone and (pod.get("status") or {}).get("phase") not in ("Failed", "Succeeded") and ended is None:
        return None
    if ended is None and not cause and not gone:
        return None
    reason = str((ended or {}).get("reason") or ("Error" if ended else "Deleted"))
    # What has happened to the whole pod says more than the container's "Error"; but the kernel's kill says most.
    if cause and reason != "OOMKilled":
        reason = cause
    else:
        message = str((ended or {}).get("message") or "")
    ended = ended or {}
    return Death(
        reason=reason,
        exit_code=ended.get("exitCode"),
        signal=ended.get("signal") or None,
        message=one_line(message)[:MAX_MESSAGE],
        container=str(status.get("name") or ""),
        container_id=str(ended.get("containerID") or ""),
        started_at=moment(ended.get("startedAt")),
        finished_at=moment(ended.get("finishedAt")),
    )


def container_status(pod: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The status of the container that runs the worker; None before the kubelet has reported one."""
    statuses: dict[str, Mapping[str, Any]] = {
        status["name"]: status for status in (pod.get("status") or {}).get("containerStatuses") or []
    }
    names = [container["name"] for container in (pod.get("spec") or {}).get("containers") or []]
    default = ((pod.get("metadata") or {}).get("annotations") or {}).get("kubectl.kubernetes.io/default-container")
    for name in (CONTAINER, default, *names[:1]):
        if name in names:
            return statuses.get(name)
    return None


def terminated(status: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """How a container ended last: now, or before its last restart."""
    for which in ("state", "lastState"):
        ended: Mapping[str, Any] | None = ((status or {}).get(which) or {}).get("terminated")
        if ended:
            return ended
    return None


def moment(text: str | None) -> datetime | None:
    """A time of the API; None for none, and for the zero that the kubelet writes when it does not know."""
    if not text or text.startswith(("0001", "1970")):
        return None
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def one_line(text: str | None) -> str:
    """A message of the cluster's in one line, as Postgres can keep it."""
    return " ".join((text or "").replace("\0", "").split())


def _cause_of_pod(pod: Mapping[str, Any]) -> tuple[str, str]:
    """What has ended the pod as a whole: (reason, message), empty when nothing has."""
    status = pod.get("status") or {}
    for condition in status.get("conditions") or []:
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            reason = str(condition.get("reason") or "")
            if reason == "TerminationByKubelet":
                break  # the status says it better: Evicted, Terminated (the node shuts down)
            return DISRUPTIONS.get(reason, reason), str(condition.get("message") or "")
    if status.get("reason") and status.get("phase") in ("Failed", "Unknown"):
        return str(status["reason"]), str(status.get("message") or "")
    return "", ""
