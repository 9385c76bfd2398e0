"""Finds out how a worker died from the status of its pod: what ended its container, or the whole pod. The answer is a
record, which can be put in words.

The functions are pure, and get a pod as the API's JSON. Times are by the clock of the pod's node, so they are only shown, or
compared with a tolerance.
"""

import signal as signals
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from carafe.kubernetes.pod import in_pod

CONTAINER = "worker"
"""The name of the container that runs the worker. In a pod without a container of this name, the pod's default container is
used, or else its first."""

MAX_MESSAGE = 300
"""The maximum number of characters that are kept of a message from the cluster."""

DISRUPTIONS = {
    "PreemptionByScheduler": "Preempted",
    "DeletionByTaintManager": "NodeLost",
    "DeletionByPodGC": "NodeLost",
    "EvictionByEvictionAPI": "Evicted",
}
"""Replacements for reasons that a pod's condition DisruptionTarget gives: the words that a pod's own status has for the same
causes. Any other reason is used as it is."""


@dataclass(frozen=True, slots=True)
class Death:
    """How a container ended. `reason` is the word that Kubernetes uses: OOMKilled, Evicted, Error, Completed, NodeLost,
    Preempted…"""

    reason: str
    exit_code: int | None
    signal: int | None
    message: str
    container: str
    container_id: str
    started_at: datetime | None
    finished_at: datetime | None

    def words(self, pod: str, node: str) -> str:
        """The cause as text: ``out of memory: OOMKilled (exit code 137), pod 'NAME' on node 'NODE'``."""
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
    """Returns how the worker's container in this pod last died, even if it has been restarted since. Returns None if it
    never died.

    `gone` says that the pod has been deleted; then `pod` is the last state of it that was seen.
    """
    status = container_status(pod) or {}
    ended = terminated(status)
    cause, message = _cause_of_pod(pod)
    if (status.get("state") or {}).get("running"):
        if gone:
            ended = None  # the pod was deleted by force, before its status said how the container ended
        else:
            cause = ""  # what happens to the pod has not ended this container yet
    elif not gone and (pod.get("status") or {}).get("phase") not in ("Failed", "Succeeded") and ended is None:
        return None
    if ended is None and not cause and not gone:
        return None
    reason = str((ended or {}).get("reason") or ("Error" if ended else "Deleted"))
    # The pod's own reason says more than the container's "Error"; the kernel's OOM kill says most.
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
    """Returns the status of the container that runs the worker. Returns None if the kubelet has not reported it yet."""
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
    """Returns the details of a container's last end, from its current state or from the state before its last restart.
    Returns None if the container has never ended."""
    for which in ("state", "lastState"):
        ended: Mapping[str, Any] | None = ((status or {}).get(which) or {}).get("terminated")
        if ended:
            return ended
    return None


def moment(text: str | None) -> datetime | None:
    """Returns a time that the API has sent as text. Returns None for an absent time, and for the zero time, which the
    kubelet writes for an unknown one."""
    if not text or text.startswith(("0001", "1970")):
        return None
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def one_line(text: str | None) -> str:
    """A message from the cluster as one line of text that Postgres can store."""
    return " ".join((text or "").replace("\0", "").split())


def _cause_of_pod(pod: Mapping[str, Any]) -> tuple[str, str]:
    """Returns why the pod as a whole was ended, as (reason, message). Both are empty if the pod was not ended."""
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
