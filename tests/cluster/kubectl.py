"""kubectl, as the tests call it: the cluster and namespace they were told, JSON in and out, words when it fails.

Must never: act on another namespace than its own unless a test says so, or on another context than the one it was given.
"""

import json
import subprocess
from collections.abc import Sequence
from typing import Any

Object = dict[str, Any]


class KubectlFailed(AssertionError):
    """kubectl ended with a fault; the text has its words. An AssertionError, so that a wait takes it for "not yet"."""


class Kubectl:
    """kubectl in one namespace; `arguments` stand before every command (a kubeconfig, for another identity)."""

    def __init__(self, namespace: str, arguments: Sequence[str] = ()) -> None:
        self.namespace = namespace
        self._start = ["kubectl", *arguments]

    def __call__(self, *arguments: str, given: str | None = None, within: float = 120.0) -> str:
        """Run a command; `given` is its standard input. Returns what it printed. Raises KubectlFailed."""
        result = self.attempt(*arguments, given=given, within=within)
        if result.returncode:
            raise KubectlFailed(f"kubectl {' '.join(arguments)}: {(result.stderr or result.stdout).strip()}")
        return result.stdout

    def attempt(
        self, *arguments: str, given: str | None = None, within: float = 120.0
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command and return how it ended, whatever that is. Raises KubectlFailed when it takes too long."""
        command = [*self._start, f"--namespace={self.namespace}", *arguments]
        try:
            return subprocess.run(command, input=given, capture_output=True, text=True, timeout=within, check=False)
        except subprocess.TimeoutExpired:
            raise KubectlFailed(f"kubectl {' '.join(arguments)}: not done within {within:g} s") from None

    def process(self, *arguments: str) -> "subprocess.Popen[str]":
        """A command that goes on (a forward); the caller ends it."""
        command = [*self._start, f"--namespace={self.namespace}", *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def get(self, kind: str, name: str, *, namespace: str | None = None) -> Object:
        """One object. Raises KubectlFailed when there is none."""
        arguments = ["get", kind, name, "--output=json", *([f"--namespace={namespace}"] if namespace else [])]
        return dict(json.loads(self(*arguments)))

    def find(self, kind: str, selector: str = "", *, everywhere: bool = False) -> list[Object]:
        """All objects of a kind that a label selector picks."""
        arguments = ["get", kind, "--output=json", *([f"--selector={selector}"] if selector else [])]
        return list(json.loads(self(*arguments, *(["--all-namespaces"] if everywhere else [])))["items"])

    def apply(self, *objects: Object) -> str:
        """Apply objects."""
        return self("apply", "--filename=-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def patch(self, kind: str, name: str, change: Object, *, subresource: str | None = None) -> str:
        """Merge a change into an object."""
        extra = [f"--subresource={subresource}"] if subresource else []
        return self("patch", kind, name, "--type=merge", f"--patch={json.dumps(change)}", *extra)

    def delete(self, kind: str, name: str, *arguments: str) -> None:
        """Delete an object that may be gone already."""
        self("delete", kind, name, "--ignore-not-found", *arguments, within=300.0)

    def exec(self, pod: str, *command: str, given: str | None = None, within: float = 120.0) -> str:
        """Run a command in a pod (or ``deploy/NAME``)."""
        return self("exec", *(["--stdin"] if given is not None else []), pod, "--", *command, given=given, within=within)

    def warnings(self, *reasons: str) -> list[str]:
        """Warning events of the namespace, as "object: reason: message", of these reasons or all."""
        return [
            f"{event['involvedObject']['kind']}/{event['involvedObject']['name']}: {event['reason']}: {event['message']}"
            for event in self.find("events")
            if event.get("type") == "Warning" and (not reasons or event["reason"] in reasons)
        ]


def ready(pod: Object) -> bool:
    """Whether a pod is Ready, and not on its way out."""
    return "deletionTimestamp" not in pod["metadata"] and condition(pod, "Ready") == "True"


def condition(thing: Object, kind: str) -> str:
    """The status of a condition: True, False, Unknown, or empty when there is none."""
    conditions = thing.get("status", {}).get("conditions") or []
    return next((str(found["status"]) for found in conditions if found["type"] == kind), "")


def restarts(pod: Object) -> int:
    """How often its containers were restarted."""
    return sum(container["restartCount"] for container in pod.get("status", {}).get("containerStatuses", []))


def name_of(thing: Object) -> str:
    """Its name."""
    return str(thing["metadata"]["name"])


def uid_of(thing: Object) -> str:
    """Its UID."""
    return str(thing["metadata"]["uid"])
