"""Records what KEDA tells Prometheus of the worker's ScaledObject while Redis goes and comes back, for tests/metrics.

    CLUSTER_KEEP=1 make test-cluster ARGS="-k from_nothing"
    python -m tests.cluster.record_keda tests/metrics/recorded_keda.yaml

Needs the deployment that the first line keeps. Every 15 s, for seven minutes: the operator's own series of that
ScaledObject, and its conditions, in the form that kube-state-metrics gives them by deploy/monitoring/kube-state-metrics.yaml
(which no cluster of ours runs). Redis is away from the step `away` to the step `back` of the recording.
"""

import os
import sys
import time
from pathlib import Path

import yaml

from tests.cluster.deployment import REDIS, SCALED
from tests.cluster.kubectl import Kubectl

STEP, STEPS = 15, 28
AWAY, BACK = 4, 16
"""Steps at which Redis is taken away, and let back."""

OBJECT = "carafe-worker"


def sample(kubectl: Kubectl) -> dict[str, float]:
    """The series now."""
    (pod,) = (one["metadata"]["name"] for one in kubectl.find("pods", "app=keda-operator", everywhere=True))
    text = kubectl("get", "--raw", f"/api/v1/namespaces/keda/pods/{pod}:8080/proxy/metrics")
    found = {}
    for line in text.splitlines():
        if line.startswith("keda_") and f'scaledObject="{OBJECT}"' in line and f'namespace="{kubectl.namespace}"' in line:
            name, _, value = line.rpartition(" ")
            if not name.partition("{")[0].endswith("_bucket"):
                found[name] = float(value)
    for condition in kubectl.get(SCALED, OBJECT)["status"]["conditions"]:
        labels = f'namespace="{kubectl.namespace}",name="{OBJECT}",type="{condition["type"]}"'
        found[f"kube_scaledobject_status_condition{{{labels}}}"] = float(condition.get("status") == "True")
    return found


def main(path: Path) -> None:
    """Record into a file."""
    kubectl = Kubectl(os.environ.get("CLUSTER_NAMESPACE", "carafe-test"))
    samples = []
    began = time.monotonic()
    for step in range(STEPS):
        if step in (AWAY, BACK):
            kubectl("scale", f"statefulset/{REDIS}", f"--replicas={int(step == BACK)}")
        samples.append(sample(kubectl))
        errors = sum(value for name, value in samples[-1].items() if "errors_total" in name)
        sys.stderr.write(f"{step * STEP} s: {errors:g} errors\n")
        time.sleep(max(0.0, began + (step + 1) * STEP - time.monotonic()))
    series = {name: [one.get(name) for one in samples] for name in sorted(set().union(*samples))}
    recording = {"step": STEP, "away": AWAY, "back": BACK, "namespace": kubectl.namespace, "series": series}
    path.write_text(
        "# Recorded on a cluster by `python -m tests.cluster.record_keda`; null: there was no such series.\n"
        + yaml.safe_dump(recording, default_flow_style=None, sort_keys=False, width=120)
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
