"""What the cluster tells and takes: deletion cost, cause of death, why a wanted pod is not there.

Guarantees: off, silently, outside a cluster; off with one line in the log where the cluster does not permit it or its client
is not installed. Must never: fail or hold up a job, or ask the API server because somebody looks at a page.
"""

from carafe.kubernetes.pod import Pod, here, in_pod

__all__ = ["Pod", "here", "in_pod"]
