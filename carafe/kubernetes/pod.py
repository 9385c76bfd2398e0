"""Finds out from environment variables (Kubernetes' downward API) which pod this process runs in. This needs no request to
the API server."""

import os
from dataclasses import dataclass
from pathlib import Path

TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
"""The file in which Kubernetes puts the service account's token. Without a token, the API server refuses us."""


@dataclass(frozen=True, slots=True)
class Pod:
    """The names of a pod, its namespace and its node, and the pod's UID."""

    name: str
    namespace: str
    uid: str
    node: str


def here() -> Pod | None:
    """Returns the pod that this process runs in. Returns None outside a cluster, and also if environment variables do not
    name the pod or if there is no token."""
    name, uid = os.environ.get("POD_NAME", ""), os.environ.get("POD_UID", "")
    namespace = os.environ.get("POD_NAMESPACE", "")
    if not (name and uid and namespace and os.environ.get("KUBERNETES_SERVICE_HOST") and TOKEN.exists()):
        return None
    return Pod(name, namespace, uid, os.environ.get("NODE_NAME", ""))


def in_pod(name: str | None = None, node: str | None = None) -> str:
    """Returns the end of a sentence that names a pod: ``, pod 'NAME' on node 'NODE'``. By default this names the pod of this
    process. Returns an empty text if the process does not run in a pod.

    The names are in quotes because `carafe.store.fingerprint` ignores quoted text: errors from different pods then belong to
    one group.
    """
    if name is None:
        name, node = os.environ.get("POD_NAME", ""), os.environ.get("NODE_NAME", "")
    if not name:
        return ""
    return f", pod '{name}' on node '{node}'" if node else f", pod '{name}'"
