"""A real Tilt on the cluster: `tilt ci` ends well, and under `tilt up` a change to a handler reaches the running worker.

On a copy of the sources, which is what is changed, with an overlay whose namespace is the tests' own.
"""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cluster.deployment import PAUSED, SCALED
from tests.cluster.images import ROOT
from tests.cluster.kubectl import Kubectl, Object, name_of, ready, restarts, uid_of
from tests.cluster.report import Report
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

NAMESPACE = "carafe-tilt-test"
TOKEN = "carafe-development"
SOURCES = (
    "Tiltfile", "Dockerfile", ".dockerignore", "requirements-runtime.lock",
    "carafe", "briefings", "app", "worker", "deploy",
)  # fmt: skip
OVERLAY = f"""
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: {NAMESPACE}
resources: [../deploy/kustomize/overlays/dev]
patches:
  - target: {{kind: Secret, name: carafe-keda}}
    patch: |
      - {{op: replace, path: /stringData/address, value: "carafe-redis.{NAMESPACE}.svc:6379"}}
"""
HANDLER = "worker/handlers/briefings.py"
ANSWER = "        return WebhookResponse.model_validate_json(answer)\n"


class Tilt:
    """Tilt on a copy of the sources."""

    def __init__(self, folder: Path, kubectl: Kubectl) -> None:
        self.folder, self.kubectl = folder, kubectl
        ignored = shutil.ignore_patterns("__pycache__")
        for source in SOURCES:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, folder / source, ignore=ignored)
            else:
                shutil.copy(ROOT / source, folder / source)
        (folder / "overlay").mkdir()
        (folder / "overlay" / "kustomization.yaml").write_text(OVERLAY)
        self.port = _free_ports()
        context = kubectl("config", "current-context").strip()
        self._given = ["--", "--overlay=overlay", f"--port={self.port}", f"--allow-context={context}"]
        # A Tilt that was built from source would else want to build its page, too.
        quiet = {"TILT_DISABLE_ANALYTICS": "1", "DO_NOT_TRACK": "1", "TILT_WEB_MODE": "prod"}
        self._environment = os.environ | quiet

    def ci(self) -> "subprocess.CompletedProcess[str]":
        """`tilt ci`, to its end."""
        return subprocess.run(
            ["tilt", "ci", "--port=0", *self._given],
            cwd=self.folder, env=self._environment, capture_output=True, text=True, timeout=1_200, check=False,
        )  # fmt: skip

    def up(self, log: Path) -> "subprocess.Popen[bytes]":
        """`tilt up`, which goes on until it is ended; what it says goes to `log`."""
        with open(log, "wb") as file:
            return subprocess.Popen(
                ["tilt", "up", "--stream", "--port=0", *self._given],
                cwd=self.folder, env=self._environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            )  # fmt: skip

    def ask(self, method: str, path: str, **more: Any) -> Any:
        """A request to the API through Tilt's forward. An AssertionError when there is no good answer."""
        headers = {"authorization": f"Bearer {TOKEN}"}
        try:
            url = f"http://127.0.0.1:{self.port}/api/v1{path}"
            answer = httpx.request(method, url, headers=headers, trust_env=False, timeout=10, **more)
        except httpx.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error}") from error
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def briefing(self, topic: str) -> str:
        """The content of a new briefing, once it is completed."""
        asked = until("a briefing is accepted", lambda: self.ask("POST", "/briefings", json={"topic": topic}), 60)

        def content() -> str | None:
            found = self.ask("GET", f"/briefings/{asked['id']}")
            return str(found["content"]) if found["status"] == "completed" else None

        return until("the briefing is completed", content, 120) or ""

    def workers(self) -> list[Object]:
        """The worker pods that are ready."""
        return [pod for pod in self.kubectl.find("pods", "app.kubernetes.io/component=worker") if ready(pod)]


def _free_ports() -> int:
    """The lower one of two neighbours that nobody listens on."""
    while True:
        with socket.socket() as lower, socket.socket() as upper:
            lower.bind(("127.0.0.1", 0))
            port = int(lower.getsockname()[1])
            try:
                upper.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port


@pytest.fixture(scope="module")
def tilt(cluster: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tilt]:
    """Tilt, and a namespace that goes with it."""
    if shutil.which("tilt") is None:
        pytest.skip("no tilt on PATH: https://docs.tilt.dev/install.html")
    kubectl = Kubectl(NAMESPACE)
    kubectl.delete("namespace", NAMESPACE)
    yield Tilt(tmp_path_factory.mktemp("tilt"), kubectl)
    if not os.environ.get("CLUSTER_KEEP"):
        kubectl.delete("namespace", NAMESPACE, "--wait=false")


def test_tilt_ci_deploys_all_and_ends_with_a_briefing(tilt: Tilt, report: Report) -> None:
    began = time.monotonic()
    ended = tilt.ci()
    assert ended.returncode == 0, ended.stdout[-4_000:] + ended.stderr[-4_000:]
    assert '"status":"completed"' in re.sub(r'":\s+"', '":"', ended.stdout)
    report.seconds("tilt ci, from nothing until a briefing is completed", time.monotonic() - began)


def test_a_change_to_a_handler_reaches_the_running_worker(tilt: Tilt, tmp_path: Path, report: Report) -> None:
    log = tmp_path / "tilt.log"
    process = tilt.up(log)
    try:
        assert "live" not in tilt.briefing("Before")
        # A briefing may be done before KEDA has looked: it would take the worker away while the change is on its way.
        tilt.kubectl("annotate", "--overwrite", SCALED, "carafe-worker", f"{PAUSED}=1")
        until("a worker is ready", tilt.workers, 120)
        before = [(name_of(pod), uid_of(pod), restarts(pod)) for pod in tilt.workers()]
        handler = tilt.folder / HANDLER
        source = handler.read_text()
        assert ANSWER in source
        changed = '        return WebhookResponse(content="live: " + json.loads(answer)["content"])\n'
        saved = time.monotonic()
        handler.write_text(source.replace(ANSWER, changed).replace("import asyncio\n", "import asyncio\nimport json\n", 1))
        until("a briefing is written by the changed handler", lambda: tilt.briefing("After").startswith("live: "), 180)
        report.seconds("tilt up, a handler saved until a job is run by the change", time.monotonic() - saved)
        assert [(name_of(pod), uid_of(pod), restarts(pod)) for pod in tilt.workers()] == before, "it was not the same pod"
    except AssertionError as failed:
        raise AssertionError(f"{failed}\n{log.read_text()[-6_000:]}") from failed
    finally:
        process.terminate()
        process.wait(60)
