"""Which pod this process runs in, by the downward API. Cheap: nothing is imported, nobody is asked."""

import os
from dataclasses import dataclass
from pathlib import Path

TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
"""Where Kubernetes puts a service account's token; without one nobody would answer us."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod, as the downward API names it."""

    name: str
    namespace: str
    uid: str
    node: str


def here() -> Pod | None:
    """This process's pod; None outside a cluster, or where it is not told which pod it is or has no token."""
    name, uid = os.environ.get("POD_NAME", ""), os.environ.get("POD_UID", "")
    namespace = os.environ.get("POD_NAMESPACE", "")
    if not (name and uid and namespace and os.environ.get("KUBERNETES_SERVICE_HOST") and TOKEN.exists()):
        return None
    return Pod(name, namespace, uid, os.environ.get("NODE_NAME", ""))


def in_pod(name: str | None = None, node: str | None = None) -> str:
    """``, pod 'NAME' on node 'NODE'``, to end a sentence with; of this process's pod by default, empty outside one.

    In quotes, since the names vary: what differs in quotes alone is one error to `carafe.jobs.fingerprint`.
    """
    if name is None:
        name, node = os.environ.get("POD_NAME", ""), os.environ.get("NODE_NAME", "")
    if not name:
        return ""
    return f", pod '{name}' on node '{node}'" if node else f", pod '{name}'"
