"""The product in a namespace of the tests' own: the dev overlay, deployed by the steps of `make deploy`.

What differs from the dev overlay: the namespace, the image (the same one with the tests' jobs in it), a token, and the
jobs' modules. Tests also use this module to repair what they have broken.
"""

import base64
import contextlib
import json
import math
import os
import re
import secrets
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from carafe.settings.settings import hash_token
from tests.cluster.images import ROOT
from tests.cluster.kubectl import Kubectl, KubectlFailed, Object, name_of, ready, restarts
from tests.cluster.service import Service
from tests.cluster.waiting import until

DEPLOY = ROOT / "deploy"
REDIS, POSTGRES = "carafe-redis", "carafe-postgres"
WORKER = "app.kubernetes.io/component=worker"
WEB = "app.kubernetes.io/component=web"
SCALED = "scaledobjects.keda.sh"
PAUSED = "autoscaling.keda.sh/paused-replicas"
STORED = "cluster-tests"
"""A Secret of the tests' own: the token, so that a namespace that was kept can be used again."""


@dataclass(frozen=True)
class Load:
    """What KEDA counts, and the replicas that the worker Deployment asks for."""

    queued: int
    running: int
    busy: int
    replicas: int

    @property
    def formula(self) -> int:
        """The number that KEDA divides by the concurrency."""
        return max(self.queued + self.running, self.busy * 5)

    def wanted(self, most: int) -> int:
        """The replicas that the formula asks for."""
        return min(math.ceil(self.formula / 5), most)


class Deployment:
    """One deployment of the product, and ways to look at it and to break it."""

    def __init__(self, kubectl: Kubectl, folder: Path, image: str) -> None:
        self.kubectl, self.namespace, self.image = kubectl, kubectl.namespace, image
        self._folder = folder
        self.token = self._stored_token() or secrets.token_urlsafe(24)
        self._service: Service | None = None

    # -- deploying

    def overlay(
        self, *, image: str | None = None, settings: dict[str, str] | None = None, without_redis: bool = False
    ) -> Path:
        """Write the overlay; the folder that holds it."""
        folder = self._folder / "overlay"
        folder.mkdir(exist_ok=True)
        name, _, tag = (image or self.image).rpartition(":")
        config = {
            "JOB_MODULES": "briefings.jobs,tests.cluster.jobs",
            "HANDLER_MODULES": "worker.handlers,tests.cluster.handlers",
            **(settings or {}),
        }
        patches = [
            _patch("ConfigMap", "carafe", data=config),
            _patch("Secret", "carafe-web", stringData={"API_TOKENS": f"tests:operate:{hash_token(self.token)}"}),
            _patch("Secret", "carafe-keda", stringData={"address": f"carafe-redis.{self.namespace}.svc:6379"}),
        ]
        if without_redis:
            patches.append(_patch("StatefulSet", REDIS, version="apps/v1", spec={"replicas": 0}))
        return self._write(
            folder,
            resources=[_relative(DEPLOY / "kustomize" / "overlays" / "dev", folder)],
            images=[{"name": "carafe", "newName": name, "newTag": tag}],
            patches=patches,
        )

    def _write(self, folder: Path, **parts: Any) -> Path:
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": self.namespace,
            **parts,
        }
        (folder / "kustomization.yaml").write_text(json.dumps(kustomization, indent=2))  # JSON is YAML
        return folder

    def deploy(self, **changes: Any) -> str:
        """What `make deploy` does. Returns what it said; raises AssertionError when it fails."""
        command = [str(DEPLOY / "apply"), str(self.overlay(**changes))]
        result = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
        if result.returncode:
            raise AssertionError(f"deploy/apply: {result.stderr.strip()}\n" + "\n".join(self.kubectl.warnings()))
        return result.stdout

    def apply(self, **changes: Any) -> None:
        """Apply the overlay and wait for nothing."""
        self.kubectl("apply", f"--kustomize={self.overlay(**changes)}", within=180)

    def apply_keda(self, **more: Any) -> None:
        """Apply deploy/keda, as it suits the cluster's version."""
        folder = self._folder / "keda"
        folder.mkdir(exist_ok=True)
        minor = int(re.sub(r"\D", "", json.loads(self.kubectl("get", "--raw", "/version"))["minor"]))
        source = DEPLOY / "keda" / "tolerance" if minor >= 35 else DEPLOY / "keda"
        self.kubectl("apply", f"--kustomize={self._write(folder, resources=[_relative(source, folder)], **more)}")

    def wait_for_servers(self) -> None:
        """Until Redis and Postgres are ready."""
        for server in (REDIS, POSTGRES):
            self.wait_for_rollout(server, "statefulset")

    def wait_for_rollout(self, name: str, kind: str = "deployment", within: float = 300.0) -> None:
        """Until a rollout is complete."""
        self.kubectl("rollout", "status", f"{kind}/{name}", f"--timeout={within:g}s", within=within + 10)

    def start_relay(self) -> None:
        """The pod through which the tests reach the web Service, and the Secret with their token."""
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": STORED}, "stringData": {"token": self.token}}
        command = ["python", "-m", "tests.cluster.relay", "8080", "carafe-web", "8080"]
        self.kubectl.apply(secret, self.pod("cluster-relay", command))
        until("the relay is ready", lambda: ready(self.kubectl.get("pod", "cluster-relay")), 120)

    def pod(self, name: str, command: list[str], *, labels: dict[str, str] | None = None, **more: Any) -> Object:
        """A pod of the tests' own from their image, as restricted as the namespace wants it."""
        container = {
            "name": "main",
            "image": self.image,
            "command": command,
            "env": [
                {"name": "API_TOKEN", "valueFrom": {"secretKeyRef": {"name": STORED, "key": "token", "optional": True}}}
            ],
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            },
            "resources": {"requests": {"cpu": "10m", "memory": "48Mi"}, "limits": {"memory": "256Mi"}},
        }
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": labels or {"app.kubernetes.io/name": "cluster-tests"}},
            "spec": {
                "restartPolicy": "Never",
                "enableServiceLinks": False,
                "automountServiceAccountToken": False,
                "terminationGracePeriodSeconds": 20,
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": 10001,
                    "runAsGroup": 10001,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [container],
                **more,
            },
        }

    def _stored_token(self) -> str | None:
        try:
            stored = self.kubectl("get", "secret", STORED, "--output=jsonpath={.data.token}")
        except KubectlFailed:
            return None
        return base64.b64decode(stored).decode()

    # -- looking

    @property
    def service(self) -> Service:
        """The web Service."""
        if self._service is None:
            self._service = Service(self.kubectl, "pod/cluster-relay", self.token)
        return self._service

    def close(self) -> None:
        """End what runs on this machine."""
        if self._service is not None:
            self._service.close()
            self._service = None

    def workers(self) -> list[Object]:
        """The worker pods that are not on their way out."""
        return [pod for pod in self.kubectl.find("pods", WORKER) if "deletionTimestamp" not in pod["metadata"]]

    def webs(self) -> list[Object]:
        """The web pods that are not on their way out."""
        return [pod for pod in self.kubectl.find("pods", WEB) if "deletionTimestamp" not in pod["metadata"]]

    def replicas(self) -> int:
        """The replicas that the worker Deployment asks for."""
        return int(self.kubectl.get("deployment", "carafe-worker")["spec"]["replicas"])

    def most(self) -> int:
        """maxReplicaCount."""
        return int(self.scaled_object()["spec"]["maxReplicaCount"])

    def scaled_object(self) -> Object:
        """The one ScaledObject. Raises AssertionError while there is none."""
        found = self.kubectl.find(SCALED)
        assert len(found) == 1, f"{len(found)} ScaledObjects"
        return found[0]

    def load(self) -> Load:
        """What KEDA counts now."""
        queued, running, busy = map(
            int, self.redis("LLEN default", "ZCARD carafe:running", "ZCARD carafe:busy").splitlines()
        )
        return Load(queued, running, busy, self.replicas())

    def restarted(self) -> dict[str, int]:
        """How often each pod's containers were restarted."""
        return {name_of(pod): restarts(pod) for pod in self.kubectl.find("pods")}

    # -- the servers

    def redis(self, *commands: str) -> str:
        """Run commands as the product's own user; their answers, one a line."""
        return self.redis_as("carafe", self._redis_password(), *commands)

    def redis_as(self, user: str, password: str, *commands: str) -> str:
        """Run commands as any user."""
        given = "".join(f"{command}\n" for command in (f"AUTH {user} {password}", *commands))
        return self.kubectl.exec("carafe-redis-0", "redis-cli", "--raw", given=given).partition("\n")[2].strip()

    def _redis_password(self) -> str:
        return unquote(urlsplit(self.secret("carafe", "REDIS_URL")).password or "")

    def secret(self, name: str, key: str) -> str:
        """A value of a Secret."""
        return base64.b64decode(self.kubectl.get("secret", name)["data"][key]).decode()

    def sql(self, statement: str) -> str:
        """Run a statement in Postgres; its rows without decoration."""
        login = 'PGPASSWORD="$POSTGRES_PASSWORD" psql -U "$POSTGRES_USER" -d "${POSTGRES_DB:-$POSTGRES_USER}"'
        shell = f"{login} -v ON_ERROR_STOP=1 -qtAX"
        return self.kubectl.exec("carafe-postgres-0", "sh", "-c", shell, given=statement).strip()

    def release(self, tag: str) -> None:
        """Let the jobs of `tag` end (cluster.hold) or succeed (cluster.fail)."""
        until("the tag is released", lambda: self._insert(tag), 60)

    def _insert(self, tag: str) -> bool:
        self.sql(f"insert into public.cluster_released values ('{tag}') on conflict do nothing")
        return True

    def make_tables(self) -> None:
        """The table that tells jobs to end."""
        self.sql("create table if not exists public.cluster_released (tag text primary key)")

    @contextlib.contextmanager
    def without(self, server: str) -> Iterator[None]:
        """While the block runs, a server (carafe-redis, carafe-postgres) is away; afterwards it is ready again."""
        self.scale(server, 0)
        try:
            until(f"{server} is gone", lambda: not self._there(f"{server}-0"), 120)
            yield
        finally:
            self.scale(server, 1)
            self.wait_for_rollout(server, "statefulset")

    def scale(self, statefulset: str, replicas: int) -> None:
        """Scale a StatefulSet."""
        self.kubectl("scale", f"statefulset/{statefulset}", f"--replicas={replicas}")

    def _there(self, pod: str) -> bool:
        return bool(self.kubectl("get", "pod", pod, "--ignore-not-found", "--output=name").strip())

    # -- scaling

    @contextlib.contextmanager
    def paused_at(self, replicas: int) -> Iterator[None]:
        """KEDA keeps this many workers while the block runs, whatever the queue says."""
        self.pause_at(replicas)
        try:
            yield
        finally:
            self.unpause()

    def pause_at(self, replicas: int, within: float = 180.0) -> None:
        """Have KEDA keep this many workers, and wait until they are ready."""
        scaled = name_of(self.scaled_object())
        self.kubectl("annotate", SCALED, scaled, f"{PAUSED}={replicas}", "--overwrite")
        until(f"{replicas} workers are ready", lambda: self._stands_at(replicas), within)

    def unpause(self) -> None:
        """Let KEDA scale again."""
        self.kubectl("annotate", SCALED, name_of(self.scaled_object()), f"{PAUSED}-")

    def _stands_at(self, replicas: int) -> bool:
        pods = self.kubectl.find("pods", WORKER)
        fit = sum(map(ready, pods))
        assert fit == len(pods) == replicas, f"{fit} of {len(pods)} are ready"
        return self.replicas() == replicas

    def settle(self, within: float = 240.0) -> None:
        """Until nothing is left to do and no worker is left: the step to zero that KEDA would take after its cooldown."""
        self.clear()
        self.kubectl("scale", "deployment/carafe-worker", "--replicas=0")
        until("the workers are at 0", lambda: self._stands_at(0), within, every=1.0)

    def clear(self) -> None:
        """Cancel whatever has not ended, and wait until it has."""

        def nothing_lives() -> bool:
            live = self.service.live()
            self.service.cancel(str(job["id"]) for job in live)
            assert not live, f"{len(live)} live jobs"
            return True

        until("no job is live", nothing_lives, 180, every=1.0)

    # -- load

    @contextlib.contextmanager
    def under_load(self, rate: float, *, seconds: float = 900.0) -> Iterator["Posting"]:
        """While the block runs, a pod posts `rate` jobs a second; afterwards its summary is there."""
        name = f"cluster-load-{secrets.token_hex(3)}"
        url = "http://carafe-web:8080/api/v1/jobs"
        posting = Posting(self.kubectl, name)
        self.kubectl.apply(self.pod(name, ["python", "-m", "tests.cluster.load", url, f"{rate:g}", f"{seconds:g}"]))
        try:
            until("the load is posted", lambda: "posting" in self.kubectl("logs", name), 120)
            posting.began = time.monotonic()
            yield posting
            posting.finish()
        finally:
            self.kubectl.delete("pod", name, "--wait=false")


class Posting:
    """The load of `Deployment.under_load`: once it is finished, what was accepted and what failed."""

    def __init__(self, kubectl: Kubectl, name: str) -> None:
        self._kubectl, self._name = kubectl, name
        self.began = 0.0
        self.seconds = 0.0
        self.accepted: list[str] = []
        self.summary: dict[str, Any] = {}

    def finish(self) -> None:
        """End the load and read what it says."""
        self.seconds = time.monotonic() - self.began
        self._kubectl.exec(self._name, "python", "-c", "import os, signal; os.kill(1, signal.SIGTERM)")
        until("the load has ended", self._ended, 120)
        for line in self._kubectl("logs", self._name).splitlines():
            word, _, rest = line.partition(" ")
            if word == "accepted":
                self.accepted.append(rest)
            elif word == "summary":
                self.summary = json.loads(rest)
        assert self.summary, "the load left no summary"

    def _ended(self) -> bool:
        return str(self._kubectl.get("pod", self._name)["status"].get("phase")) in ("Succeeded", "Failed")


def _patch(kind: str, name: str, *, version: str = "v1", **change: Any) -> dict[str, Any]:
    body = {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **change}
    return {"target": {"kind": kind, "name": name}, "patch": json.dumps(body)}


def _relative(target: Path, folder: Path) -> str:
    # kustomize takes no absolute path for a base.
    return os.path.relpath(target.resolve(), folder.resolve())
