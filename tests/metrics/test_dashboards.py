"""Every query of the dashboards, and every rule, by a real Prometheus that scrapes a real run: none is empty, none fails.

The Prometheus runs the configuration of the compose profile, with this run's addresses in place of compose's names; KEDA's
series and kube-state-metrics' are written down in keda.txt. Grafana itself is not run.
"""

import asyncio
import json
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from chaos.prometheus import ROOT, Server
from chaos.prometheus import configuration as of_compose
from tests.metrics.conftest import Start
from tests.metrics.processes import Process, total
from tests.metrics.prometheus import program, prometheus, promtool, scraping
from tests.waiting import eventually

pytestmark = pytest.mark.process

DASHBOARDS = ROOT / "deploy/kustomize/components/monitoring/dashboards"
KINDS = ("fine", "threaded", "whole", "flaky", "failing", "declining")


def queries() -> list[tuple[str, str]]:
    """Every query, with where it stands, its variables filled in."""
    found = []
    for path in sorted(DASHBOARDS.glob("*.json")):
        dashboard = json.loads(path.read_text())
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                found.append((f"{path.stem}: {panel['title']} {target['refId']}", filled(target["expr"])))
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                asked = variable["query"]["query"].removeprefix("label_values(").removesuffix(")")
                selector, _, label = asked.rpartition(", ")
                found.append((f"{path.stem}: ${variable['name']}", filled(f"count by ({label}) ({selector})")))
    return found


def filled(expression: str) -> str:
    """A query with the values that Grafana would put in for its variables."""
    values = {"$__rate_interval": "30s", "$queue": "default", "$kind": "metrics.flaky"}
    for name, value in values.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, expression
    return expression


def configuration(targets: dict[str, list[int]]) -> dict[str, Any]:
    """What compose runs, faster, and with KEDA's series."""
    return of_compose(targets) | {"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}}


@contextmanager
def recorded(path: Path) -> Iterator[int]:
    """A server that answers with a file; its port."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(path.read_bytes())

        def log_message(self, format: str, *values: object) -> None:  # noqa: A002  the parent's name
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


async def enqueue(api: httpx.AsyncClient, kind: str, **args: Any) -> None:
    answer = await api.post("/jobs", json={"kind": f"metrics.{kind}", "args": args})
    assert answer.status_code == 202, answer.text


async def load(api: httpx.AsyncClient) -> None:
    """A job of each kind every half second, until cancelled."""
    while True:
        for kind in KINDS:
            await enqueue(api, kind)
        await asyncio.sleep(0.5)


@pytest.fixture(scope="module")
async def scraped(
    start: Start, web: Process, worker: Process, api: httpx.AsyncClient, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Server]:
    """A Prometheus that has seen jobs come, wait, run, fail and be scheduled, a worker drained and one killed."""
    program("prometheus")  # before the rest, so that the test is skipped at once
    folder = tmp_path_factory.mktemp("prometheus")
    doomed = await start("serve", "--worker", STEWARD="false", WORKER_CONCURRENCY="2")
    drained = await start("serve", "--worker", STEWARD="false", WORKER_CONCURRENCY="2", DRAIN_TIMEOUT="1")
    workers = [worker.port, doomed.port, drained.port]
    loading = asyncio.create_task(load(api))
    with recorded(Path(__file__).with_name("keda.txt")) as keda:
        config = configuration({"carafe-web": [web.port], "carafe-worker": workers, "keda": [keda]})
        with prometheus(config, folder) as server:
            await scraping(server, {"carafe-web": 1, "carafe-worker": 3, "keda": 1})
            # Long ones for everybody: some run over five seconds, and workers end under them.
            for _ in range(12):
                await enqueue(api, "fine", seconds=60)
            await eventually(lambda: total(doomed.samples(), "carafe_slots_used") > 0, 20)
            await eventually(lambda: total(drained.samples(), "carafe_slots_used") > 0, 20)
            doomed.kill()
            drained.signal(signal.SIGTERM)
            await eventually(lambda: total(web.samples(), "carafe_jobs_rescued_total") > 0, 60)
            yield server
            loading.cancel()
            with suppress(asyncio.CancelledError):
                await loading


async def test_the_configuration_is_one_that_prometheus_takes(scraped: Server, tmp_path: Path) -> None:
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.safe_dump(configuration({"carafe-web": [1], "carafe-worker": [2], "keda": [3]})))
    done = await asyncio.to_thread(promtool, "check", "config", file)
    assert done.returncode == 0, done.stdout + done.stderr


async def test_every_query_of_the_dashboards_finds_something(scraped: Server) -> None:
    left = queries()
    assert len(left) > 80

    def none_is_empty() -> bool:
        nonlocal left
        left = [(where, query) for where, query in left if not scraped.query(query)]
        assert left == []
        return True

    # The long jobs may hold every slot twice, once more after the rescue, before the others have their turn.
    await eventually(none_is_empty, 240)


async def test_every_rule_is_evaluated_without_an_error(scraped: Server) -> None:
    def healthy() -> bool:
        rules = scraped.rules()
        assert len(rules) > 30
        assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"] == []
        return True

    await eventually(healthy, 60)


async def test_what_is_recorded_is_there(scraped: Server) -> None:
    def recorded_series() -> bool:
        names = {rule["name"] for rule in scraped.rules() if rule["type"] == "recording"}
        assert {name for name in names if not scraped.query(name)} == set()
        return True

    await eventually(recorded_series, 60)
