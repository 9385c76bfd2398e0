"""Talks to the Kubernetes API: sets pods' deletion cost, and finds out why workers died and why wanted pods are missing.

Guarantees: outside a cluster, this package does nothing and logs nothing. If the cluster does not permit its requests, or
the client is not installed, it does nothing and logs that once.
Must never: make a job fail or wait, or call the API server to render a page.
"""

from carafe.kubernetes.pod import Pod, here, in_pod

__all__ = ["Pod", "here", "in_pod"]
