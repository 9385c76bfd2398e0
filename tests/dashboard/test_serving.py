"""The dashboard in real processes: with the web application, alone, and in `carafe dev`. Each process exits at once, even
while pages are open."""

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from tests.cli.conftest import ROOT, application, process
from tests.cli.running import Running, running
from tests.cli.test_dev import STRANGER
from tests.dashboard.streaming import following

pytestmark = pytest.mark.process

TABS = 5


async def ends_with_open_tabs(server: Running, dashboard: str) -> None:
    """Opens pages that follow what happens, then asks the process to end: it does, in far less than DRAIN_TIMEOUT."""
    async with httpx.AsyncClient(base_url=dashboard, timeout=30) as http, AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(following(http, "overview,jobs,dead")) for _ in range(TABS)]
        for reader in readers:
            await reader.until("state")
        server.send(signal.SIGTERM)
        for reader in readers:
            await reader.until("ended", "stopping")
    assert await asyncio.to_thread(server.wait, 20) == 0
    assert "Traceback" not in server.output
    assert "graceful shutdown exceeded" not in server.output


def settings(database_url: str, redis_url: str) -> dict[str, str]:
    # A drain that nothing may wait for.
    return application(database_url, redis_url) | {"WEB_APPLICATION": "tests.cli.web:application", "DRAIN_TIMEOUT": "600"}


def test_the_web_process_serves_it_beside_and_exits_with_five_tabs_open(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    with running("serve", folder=tmp_path, **settings(database_url, redis_url)) as web:
        dashboard = web.says(r"dashboard=(http://\S+)")[1]
        url = web.says(r"url=(http://\S+)")[1]
        assert httpx.get(f"{url}/health").status_code == 200
        assert httpx.get(f"{url}/jobs").status_code == 404
        page = httpx.get(f"{dashboard}/")
        assert page.status_code == 200
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert httpx.get(f"{dashboard}/api/v1/jobs").status_code == 404
        asyncio.run(ends_with_open_tabs(web, dashboard))


def test_it_runs_alone(database_url: str, redis_url: str, tmp_path: Path) -> None:
    values = settings(database_url, redis_url) | {"DASHBOARD": "false"}
    with running("serve", "--dashboard", folder=tmp_path, **values) as alone:
        dashboard = alone.says(r"dashboard=(http://\S+)")[1]
        assert " url=" not in alone.output
        assert httpx.get(f"{dashboard}/livez").text == "ok\n"
        assert httpx.get(f"{dashboard}/").status_code == 200
        asyncio.run(ends_with_open_tabs(alone, dashboard))
    with running("serve", folder=tmp_path, **values) as web:
        web.says(r"url=(http://\S+)")
        assert "dashboard=http" not in web.output
        assert web.end() == 0
    assert process("serve", "--worker", "--dashboard", folder=tmp_path, **values).code == 2


def test_dev_serves_it_and_exits_with_five_tabs_open(database_url: str, redis_url: str, tmp_path: Path) -> None:
    with running("dev", folder=tmp_path, **settings(database_url, redis_url)) as dev:
        dashboard = dev.says(r"dashboard\s+(http://\S+)")[1]
        dev.says("Ctrl-C stops everything")
        assert httpx.get(f"{dashboard}/").status_code == 200
        asyncio.run(ends_with_open_tabs(dev, dashboard))


def test_upkeep_goes_on_beside_an_application_that_knows_nothing_of_carafe(
    carafe_database_url: str, redis_url: str, tmp_path: Path
) -> None:
    """Such a web process does the upkeep by its dashboard, also where no worker could."""
    (tmp_path / "stranger.py").write_text(STRANGER)
    values = settings(carafe_database_url, redis_url) | {
        "WEB_APPLICATION": "stranger:app",
        "PYTHONPATH": f"{ROOT}:{tmp_path}",
    }
    with running("serve", folder=tmp_path, **values) as web:
        web.says(r"steward leads .*name='?web ")
        assert web.end() == 0


def test_a_port_that_is_taken_is_told_by_its_setting(database_url: str, redis_url: str, tmp_path: Path) -> None:
    values = settings(database_url, redis_url)
    with running("serve", folder=tmp_path, **values) as web:
        port = web.says(r"dashboard=http://\S+:(\d+)")[1]
        for arguments in (["serve"], ["serve", "--dashboard"], ["dev"]):
            refused = process(*arguments, folder=tmp_path, **(values | {"DASHBOARD_PORT": port}))
            assert refused.code == 2, arguments
            assert f"DASHBOARD_PORT: cannot listen on 127.0.0.1:{port}" in refused.err
            assert "Traceback" not in refused.err
        assert web.end() == 0
