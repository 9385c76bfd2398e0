"""The server reports a port in use with a clear error, finishes requests under way, and leaves signals to the process."""

import asyncio
import json
import os
import signal
import socket
import sys
import types
from asyncio.subprocess import PIPE
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Request

from carafe.serving import load_application
from carafe.settings.settings import Settings
from carafe.web.server import CannotServe, WebServer
from carafe.web.stopping import stopping_of


def settings(**values: object) -> Settings:
    return Settings.model_validate({"port": 0, "dashboard_port": 0, **values})


async def test_the_system_picks_a_port() -> None:
    web = WebServer(FastAPI(), settings())
    ready = asyncio.Event()
    serving = asyncio.create_task(web.serve(ready=ready.set))
    await ready.wait()
    assert web.port > 0
    async with httpx.AsyncClient() as http:
        assert (await http.get(f"{web.url}/openapi.json")).status_code == 200
    web.stop()
    await serving
    with socket.socket() as again:
        again.bind(("127.0.0.1", web.port))


def test_a_port_that_is_taken_names_the_setting() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CannotServe, match=rf"^PORT: cannot listen on 127\.0\.0\.1:{port}"):
            WebServer(FastAPI(), settings(port=port))


def test_a_host_that_is_none_names_the_setting() -> None:
    with pytest.raises(CannotServe, match=r"^HOST: "):
        WebServer(FastAPI(), settings(host="no.such.host.invalid", allow_open_api=True))


async def test_requests_in_hand_are_finished() -> None:
    app = FastAPI()
    begun, go_on = asyncio.Event(), asyncio.Event()

    @app.get("/slow")
    async def slow() -> str:
        begun.set()
        await go_on.wait()
        return "finished"

    web = WebServer(app, settings())
    ready = asyncio.Event()
    serving = asyncio.create_task(web.serve(ready=ready.set))
    await ready.wait()
    async with httpx.AsyncClient() as http:
        request = asyncio.create_task(http.get(f"{web.url}/slow"))
        await begun.wait()
        web.stop()
        assert web.stopping
        go_on.set()
        assert (await request).json() == "finished"
    await serving


async def test_a_kept_connection_is_answered_once_more_and_told_to_end() -> None:
    app = FastAPI()
    stopping = asyncio.Event()

    @app.get("/")
    async def root(request: Request) -> str:
        told = stopping_of(request)
        assert told is not None
        told.tell(stopping.set)
        return "here"

    web = WebServer(app, settings())
    ready = asyncio.Event()
    serving = asyncio.create_task(web.serve(ready=ready.set))
    await ready.wait()
    async with httpx.AsyncClient(base_url=web.url) as http:
        before = await http.get("/")
        assert "connection" not in before.headers
        web.stop()
        await stopping.wait()
        after = await http.get("/")
        assert (after.json(), after.headers["connection"]) == ("here", "close")
        assert after.extensions["network_stream"] is before.extensions["network_stream"]
    await serving


async def test_signals_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    web = WebServer(FastAPI(), settings())
    ready = asyncio.Event()
    serving = asyncio.create_task(web.serve(ready=ready.set))
    await ready.wait()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    web.stop()
    await serving


async def test_a_start_that_fails_is_an_error() -> None:
    class Broken:
        async def __aenter__(self) -> None:
            raise RuntimeError("no")

        async def __aexit__(self, *_: object) -> None:
            pass

    with pytest.raises(CannotServe, match="could not start"):
        await WebServer(FastAPI(lifespan=lambda _: Broken()), settings()).serve()


def test_an_application_is_an_object_or_what_makes_one(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("an_application_of_tests")
    made = FastAPI()
    module.app = made  # type: ignore[attr-defined]
    module.plain = lambda: made  # type: ignore[attr-defined]
    module.with_settings = lambda settings: (made, settings)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def load(name: str) -> tuple[object, Settings]:
        chosen = settings(web_application=f"{module.__name__}:{name}")
        return load_application(chosen), chosen

    assert load("app")[0] is made
    assert load("plain")[0] is made
    loaded, given = load("with_settings")
    assert loaded == (made, given)
    with pytest.raises(CannotServe, match="has no 'missing'"):
        load("missing")


def test_an_application_that_is_not_there_names_the_setting() -> None:
    with pytest.raises(CannotServe, match="WEB_APPLICATION: no module 'nowhere'"):
        load_application(settings(web_application="nowhere.main:app"))


@pytest.mark.process
async def test_the_web_process_serves_until_sigterm(database_url: str, redis_url: str) -> None:
    program = (
        "import gc; from carafe.telemetry.logging import configure_logging; "
        "from carafe.settings.settings import load_settings; "
        "from carafe.serving import run_web; settings = load_settings(); configure_logging(settings); "
        # What it has made to start is kept from the collector, whose pauses would be everybody's.
        "code = run_web(settings); raise SystemExit(code if gc.get_freeze_count() > 100_000 else 99)"
    )
    values = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "PORT": "0", "DASHBOARD_PORT": "0"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        cwd=Path(__file__).parent.parent.parent,
        env={**os.environ, **values, "LOG_FORMAT": "json"},
        stderr=PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(30):
            while b"serving" not in (line := await process.stderr.readline()):
                assert line, "it ended before it served"
            url = json.loads(line)["url"]
            async with httpx.AsyncClient() as http:
                assert (await http.get(f"{url}/health")).json()["status"] == "ok"
            process.terminate()
            assert b"Traceback" not in await process.stderr.read()
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
