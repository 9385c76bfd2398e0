"""`docker compose up` on a real Docker engine: a briefing is written, and what was queued outlives `down` and `up`."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cluster.images import ROOT
from tests.cluster.report import Report
from tests.cluster.waiting import until

pytestmark = pytest.mark.cluster

PROJECT = "carafe-compose-test"

# Names of the tests' own, and whatever ports are free, so that a project of the user's goes on beside it.
OVERRIDE = f"""
services:
  migrate: {{image: {PROJECT}}}
  web: {{image: {PROJECT}, ports: !override ["127.0.0.1::8080"]}}
  worker: {{image: {PROJECT}}}
  prometheus: {{ports: !override ["127.0.0.1::9090"]}}
"""


class Compose:
    """The project of the tests."""

    def __init__(self, folder: Path) -> None:
        override = folder / "override.yml"
        override.write_text(OVERRIDE)
        files = [f"--file={ROOT / 'docker-compose.yml'}", f"--file={override}"]
        self._start = ["docker", "compose", f"--project-name={PROJECT}", "--profile=monitoring", *files]

    def __call__(self, *arguments: str, within: float = 300.0) -> str:
        result = subprocess.run(
            [*self._start, *arguments], capture_output=True, text=True, timeout=within, check=False, cwd=ROOT
        )
        if result.returncode:
            raise AssertionError(f"docker compose {' '.join(arguments)}: {result.stderr.strip()[-3_000:]}")
        return result.stdout

    def up(self, *services: str) -> None:
        """Start and wait until healthy."""
        self("up", "--detach", "--wait", "--wait-timeout=240", *(services or ("web", "worker")))

    def ask(self, method: str, service: str, port: int, path: str, **more: Any) -> Any:
        """An HTTP request to a published port; the answer as JSON."""
        address = self("port", service, str(port)).strip()
        with httpx.Client(base_url=f"http://{address}", trust_env=False, timeout=10) as client:
            answer = client.request(method, path, **more)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def api(self, method: str, path: str, **more: Any) -> Any:
        """A request to the API, without a token."""
        return self.ask(method, "web", 8080, f"/api/v1{path}", **more)


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory, report: Report) -> Iterator[Compose]:
    """Everything, up and healthy, from nothing."""
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode
    ):
        pytest.skip("no docker with compose on PATH: install Docker Engine or Docker Desktop")
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        pytest.skip("no Docker engine answers: start it, or set DOCKER_HOST")
    compose = Compose(tmp_path_factory.mktemp("compose"))
    compose("down", "--volumes", "--timeout=5")
    compose("build", within=900)
    began = time.monotonic()
    try:
        compose.up()
        report.seconds("docker compose up, from empty volumes until healthy (images built)", time.monotonic() - began)
        yield compose
    finally:
        if not os.environ.get("CLUSTER_KEEP"):
            compose("down", "--volumes", "--timeout=5")


def completed(compose: Compose, briefing: str) -> Any:
    found = compose.api("GET", f"/briefings/{briefing}")
    return found if found["status"] == "completed" else None


def test_a_briefing_is_written_and_no_token_is_asked_for(compose: Compose) -> None:
    asked = compose.api("POST", "/briefings", json={"topic": "Coffee prices"})
    briefing = until("the briefing is completed", lambda: completed(compose, asked["id"]), 60)
    assert "Coffee prices" in briefing["content"]


def test_the_processes_are_not_root_and_cannot_write(compose: Compose) -> None:
    write = "import os; print(os.getuid()); open('/tmp/mine', 'w'); open('/app/mine', 'w')"
    with pytest.raises(AssertionError, match="Read-only file system: '/app/mine'"):
        compose("exec", "-T", "worker", "python", "-c", write)
    assert compose("exec", "-T", "worker", "python", "-c", "import os; print(os.getuid(), os.getgid())") == "10001 10001\n"


def test_what_was_queued_is_done_after_down_and_up(compose: Compose, report: Report) -> None:
    compose("stop", "worker")
    asked = [compose.api("POST", "/briefings", json={"topic": f"Sample {number}"}) for number in range(20)]
    assert compose("exec", "-T", "redis", "redis-cli", "llen", "default").strip() == "20"
    compose("down")
    compose.up()
    began = time.monotonic()
    until("all are completed", lambda: all(completed(compose, briefing["id"]) for briefing in asked), 120)
    jobs = [compose.api("GET", f"/jobs/{briefing['job_id']}") for briefing in asked]
    assert {(job["state"], job["attempt"]) for job in jobs} == {("succeeded", 1)}
    report.seconds("docker compose: 20 queued briefings done after down and up", time.monotonic() - began)


def test_down_in_the_middle_of_a_job_spends_no_attempt(compose: Compose) -> None:
    compose.ask("PUT", "web", 8080, "/sample-webhook/behaviour", json={"mode": "stall", "delay": 600})
    asked = compose.api("POST", "/briefings", json={"topic": "A slow one"})
    job = f"/jobs/{asked['job_id']}"
    until("the job runs", lambda: compose.api("GET", job)["state"] == "running", 30)
    # Told twice, a worker does not wait out its drain: it hands back what runs.
    compose("kill", "--signal=SIGTERM", "worker")
    compose("kill", "--signal=SIGTERM", "worker")
    compose("down")
    compose.up()
    until("the briefing is completed", lambda: completed(compose, asked["id"]), 60)
    ended = compose.api("GET", job)
    assert ended["attempt"] == 1, ended["attempts"]


def test_the_profile_monitoring_scrapes_web_and_every_worker(compose: Compose) -> None:
    compose.up("prometheus")

    def scraped() -> bool:
        found = compose.ask("GET", "prometheus", 9090, "/api/v1/targets")["data"]["activeTargets"]
        return {(target["labels"]["job"], target["health"]) for target in found} == {
            ("prometheus", "up"),
            ("carafe-worker", "up"),
            ("carafe-web", "up"),
        }

    until("every target is up", scraped, 60)
