"""`carafe dev` as a process: it runs everything, and no accepted job is lost however the process ends."""

import asyncio
import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from carafe.dev.embedded import free_port
from carafe.settings.local_servers import announced
from tests.cli.conftest import ROOT, Command, as_the_repository, process
from tests.cli.running import Running, running
from tests.waiting import eventually

pytestmark = pytest.mark.process

READY = r"Ctrl-C stops everything"
SETTINGS = {
    "PORT": "0",
    "DASHBOARD_PORT": "0",
    "PROBE_PORT": "0",
    "JOB_MODULES": "tests.cli.declared",
    "HANDLER_MODULES": "tests.cli.handled",
    "MIGRATIONS": "",
    "WEB_APPLICATION": "tests.cli.web:application",
    "WORKER_APPLICATION": "carafe.engine.application:app",
}

STRANGER = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        for answer in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{answer}.complete"})
"""
"""A web application that has nothing of Carafe's."""


def embedded(folder: Path) -> list[psutil.Process]:
    """The servers that run on a data folder."""
    found = []
    for candidate in psutil.process_iter():
        try:
            if candidate.name() in ("postgres", "valkey-server") and str(folder) in " ".join(candidate.cmdline()):
                found.append(candidate)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A current folder whose embedded servers are gone afterwards, also those of a `carafe dev` that was killed."""
    yield tmp_path
    left = embedded(tmp_path)
    for server in left:
        server.terminate()
    psutil.wait_procs(left, timeout=20)


def url_of(dev: Running) -> str:
    return dev.says(r"web\s+(http://\S+)")[1]


def test_a_briefing_completes_and_sigterm_ends_it_all(folder: Path) -> None:
    as_the_repository(folder)
    with running("dev", folder=folder, PORT="0", DASHBOARD_PORT="0", PROBE_PORT="0") as dev:
        dev.says(READY)
        url = url_of(dev)
        probes = dev.says(r"(http://\S+)/readyz")[1]
        assert httpx.get(f"{probes}/readyz").text == "ok\n"
        assert httpx.get(f"{url}/health").json()["status"] == "ok"
        assert httpx.get(f"{url}/docs").status_code == 200
        posted = httpx.post(f"{url}/api/v1/briefings", json={"topic": "coffee"})
        assert posted.status_code == 202

        def content() -> str | None:
            briefing = httpx.get(url + posted.headers["location"]).json()
            return str(briefing["content"]) if briefing["status"] == "completed" else None

        assert "coffee" in str(asyncio.run(eventually(content, within=30.0)))
        listed = process("jobs", "list", "--json", folder=folder)
        assert [job["state"] for job in json.loads(listed.out)["jobs"]] == ["succeeded"]
        assert dev.end(signal.SIGTERM) == 0
        assert "Traceback" not in dev.output
    assert embedded(folder) == []
    assert announced(folder / ".carafe") is None


async def test_jobs_survive_kill_and_restart(folder: Path) -> None:
    with running("dev", folder=folder, **SETTINGS) as dev:
        dev.says(READY)
        held = process("enqueue", "cli.hold", folder=folder, **SETTINGS).out.strip()
        later = process("enqueue", "cli.greet", "name=Ada", "--delay", "1h", folder=folder, **SETTINGS).out.strip()
        os.kill(dev.pid, signal.SIGKILL)
        assert dev.wait() == -signal.SIGKILL
    away = process("jobs", "list", folder=folder, **SETTINGS)
    assert away.code == 5
    assert "no `carafe dev` is running" in away.err
    with running("dev", folder=folder, **SETTINGS) as again:
        again.says(READY)
        jobs = json.loads(process("jobs", "list", "--json", folder=folder, **SETTINGS).out)["jobs"]
        assert {job["id"] for job in jobs} == {held, later}
        assert process("jobs", "run_now", later, folder=folder, **SETTINGS).code == 0
        assert process("jobs", "wait", later, "--timeout", "30", folder=folder, **SETTINGS).code == 0
        assert process("jobs", "cancel", held, folder=folder, **SETTINGS).code == 0
        assert process("jobs", "wait", held, "--timeout", "60", folder=folder, **SETTINGS).code == 7
        assert again.end(signal.SIGINT) == 0
    assert embedded(folder) == []


def test_a_second_signal_hurries_and_hands_the_job_back(folder: Path) -> None:
    with running("dev", folder=folder, **SETTINGS, DRAIN_TIMEOUT="600") as dev:
        dev.says(READY)
        held = process("enqueue", "cli.hold", folder=folder, **SETTINGS).out.strip()
        dev.says(f"job started .*{held}")
        dev.send(signal.SIGINT)
        dev.says("draining")
        assert dev.end(signal.SIGINT) == 0
        assert "Traceback" not in dev.output  # the application could end, too
    with running("dev", folder=folder, **SETTINGS, LOG_LEVEL="INFO") as again:
        again.says(f"job started .*{held} attempt=1")
        assert process("jobs", "cancel", held, folder=folder, **SETTINGS).code == 0
        assert again.end() == 0


def test_ports_that_are_taken_are_told_by_their_settings(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with running("dev", folder=folder, **SETTINGS) as dev:
        dev.says(READY)
        port = url_of(dev).rpartition(":")[2]
        elsewhere = tmp_path_factory.mktemp("elsewhere")
        taken = process("dev", folder=elsewhere, **(SETTINGS | {"PORT": port, "PROBE_PORT": port}))
        assert taken.code == 2
        assert f"PORT: cannot listen on 127.0.0.1:{port}" in taken.err
        assert f"PROBE_PORT: cannot listen on 127.0.0.1:{port}" in taken.err
        assert embedded(elsewhere) == []
        for ports in ({}, {"PORT": port}):  # the true reason comes before the ports
            second = process("dev", folder=folder, **(SETTINGS | ports))
            assert second.code == 1
            assert re.search(rf"a `carafe dev` of this folder .* still runs .*\(kill {dev.pid}\)", second.err)
            assert "PORT" not in second.err
        assert dev.end() == 0


@pytest.mark.parametrize("options", [(), ("--servers",), ("--reload",)], ids=str)
@pytest.mark.parametrize("name", ["a-file", "a-file/below", "/proc/nope"])
def test_a_data_folder_that_cannot_be_used_is_told_by_its_setting(folder: Path, options: tuple[str, ...], name: str) -> None:
    (folder / "a-file").touch()
    answer = process("dev", *options, folder=folder, **SETTINGS, DATA_DIR=name)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"error: DATA_DIR: cannot make or write files in {folder / name}")
    assert "Traceback" not in answer.err


def test_a_file_in_the_place_of_a_servers_folder_is_told(folder: Path) -> None:
    (folder / ".carafe").mkdir()
    (folder / ".carafe" / "valkey").touch()
    answer = process("dev", "--servers", folder=folder)
    assert answer.code == 1
    assert "embedded Valkey cannot be started in" in answer.err
    assert "DATA_DIR" in answer.err
    assert "Traceback" not in answer.err


def test_servers_of_ones_own_are_used(folder: Path, database_url: str, redis_url: str) -> None:
    urls = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
    with running("dev", folder=folder, **SETTINGS, **urls) as dev:
        dev.says(READY)
        assert embedded(folder) == []
        assert process("enqueue", "cli.greet", "name=Ada", folder=folder, **SETTINGS, **urls).code == 0
        assert dev.end() == 0
    with running("dev", folder=folder, **SETTINGS, **urls, DATA_DIR="/proc/nope") as needs_no_folder:
        needs_no_folder.says(READY)
        assert needs_no_folder.end() == 0


@pytest.mark.parametrize("options", [(), ("--reload",)], ids=["dev", "reload"])
def test_due_jobs_run_beside_an_application_that_knows_nothing_of_carafe(
    folder: Path, database_url: str, redis_url: str, options: tuple[str, ...]
) -> None:
    """Its web side hosts no steward, nor is there a dashboard that could: the worker leads."""
    (folder / "stranger.py").write_text(STRANGER)
    urls = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
    strange = SETTINGS | urls | {"WEB_APPLICATION": "stranger:app", "PYTHONPATH": f"{ROOT}:{folder}", "DASHBOARD": "false"}
    with running("dev", *options, folder=folder, **strange) as dev:
        dev.says(READY)
        job = process("enqueue", "cli.greet", "name=Ada", "--delay", "1s", folder=folder, **SETTINGS, **urls).out.strip()
        assert process("jobs", "wait", job, "--timeout", "40", folder=folder, **SETTINGS, **urls).code == 0
        assert dev.end() == 0


def test_the_servers_run_alone_and_keep_their_urls(folder: Path) -> None:
    urls = []
    for _ in range(2):
        with running("dev", "--servers", folder=folder) as servers:
            servers.says("Ctrl-C stops them")
            urls.append(servers.says(r"DATABASE_URL=(\S+)\s+REDIS_URL=(\S+)").groups())
            found = announced(folder / ".carafe")
            assert found is not None
            assert (found.database_url, found.redis_url) == urls[-1]
            assert process("migrate", folder=folder, **SETTINGS).code == 0
            assert process("enqueue", "cli.greet", "name=Ada", folder=folder, **SETTINGS).code == 0
            assert servers.end(signal.SIGINT) == 0
        assert embedded(folder) == []
    assert urls[0] == urls[1]


def test_in_a_django_project_the_servers_print_its_databases(folder: Path) -> None:
    (folder / "manage.py").touch()
    with running("dev", "--servers", folder=folder) as servers:
        servers.says("Ctrl-C stops them")
        url = urlsplit(servers.says(r"DATABASE_URL=(\S+)")[1])
        printed: dict[str, object] = {}
        exec(servers.says(r"(?s)(    DATABASES = .*?\n    \}\})")[1].replace("\n    ", "\n").strip(), printed)
    (default,) = printed["DATABASES"].values()  # type: ignore[attr-defined]
    assert default == {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": url.hostname,
        "PORT": url.port,
        "NAME": url.path.strip("/"),
        "USER": url.username,
        "PASSWORD": url.password,
    }


def test_everything_else_may_run_on_servers_that_run_alone(folder: Path) -> None:
    with running("dev", "--servers", folder=folder) as servers:
        servers.says("Ctrl-C stops them")
        pids = {server.pid for server in embedded(folder)}
        for _ in range(2):
            with running("dev", folder=folder, **SETTINGS) as dev:
                dev.says(READY)
                job = process("enqueue", "cli.greet", "name=Ada", folder=folder, **SETTINGS).out.strip()
                assert process("jobs", "wait", job, "--timeout", "30", folder=folder, **SETTINGS).code == 0
                assert dev.end() == 0
        assert {server.pid for server in embedded(folder)} & pids == pids
        second = process("dev", "--servers", folder=folder)
        assert second.code == 1
        assert "belongs to another process" in second.err
        assert servers.end() == 0
    assert embedded(folder) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--servers", "--reload"], "--servers runs no web process"),
        (["--servers", "--port", "9000"], "--servers runs no web process"),
        (["--port", "99999"], "PORT"),
        (["--dashboard-port", "-1"], "DASHBOARD_PORT"),
    ],
    ids=" ".join,
)
def test_options_that_cannot_be_are_code_2(folder: Path, options: list[str], said: str) -> None:
    answer = process("dev", *options, folder=folder)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert embedded(folder) == []


def test_there_is_no_server_to_start_where_both_urls_are_set(folder: Path, database_url: str, redis_url: str) -> None:
    answer = process("dev", "--servers", folder=folder, DATABASE_URL=database_url, REDIS_URL=redis_url)
    assert answer.code == 2
    assert "DATABASE_URL and REDIS_URL are set" in answer.err


def test_ports_are_options_too(folder: Path) -> None:
    ports = [str(free_port()), str(free_port())]
    with running("dev", "--port", ports[0], "--dashboard-port", ports[1], folder=folder, **SETTINGS) as dev:
        dev.says(READY)
        assert url_of(dev) == f"http://127.0.0.1:{ports[0]}"
        dev.says(rf"dashboard\s+http://127\.0\.0\.1:{ports[1]}")
        assert dev.end() == 0


def test_the_default_of_the_probe_port_makes_room_for_another_program(
    folder: Path, database_url: str, redis_url: str
) -> None:
    others = SETTINGS | {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
    del others["PROBE_PORT"]
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # it is taken already
            other.bind(("127.0.0.1", 8082))
            other.listen()
        with running("dev", folder=folder, **others) as dev:
            dev.says("the default of PROBE_PORT is taken, a free port is used")
            dev.says(READY)
            probes = dev.says(r"(http://\S+)/readyz")[1]
            assert not probes.endswith(":8082")
            assert httpx.get(f"{probes}/readyz").text == "ok\n"
            assert dev.end() == 0
    # A port that the settings name is never replaced.
    with socket.create_server(("127.0.0.1", 0)) as other:
        refused = process("dev", folder=folder, **(others | {"PROBE_PORT": str(other.getsockname()[1])}))
        assert refused.code == 2
        assert "PROBE_PORT: cannot listen" in refused.err


WSGI = {
    "flask": "from flask import Flask\napp = Flask(__name__)\n",
    "factory": "from flask import Flask\ndef app():\n    return Flask(__name__)\n",
    "django": "from django.core.handlers.wsgi import WSGIHandler\napp = WSGIHandler.__new__(WSGIHandler)\n",
    "function": "def app(environ, start_response):\n    return []\n",
}


@pytest.mark.parametrize("name", WSGI)
def test_a_wsgi_application_is_told_in_words(carafe: Command, here: Path, name: str) -> None:
    (here / f"wsgi_{name}.py").write_text(WSGI[name])
    target = f"wsgi_{name}:app"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(here)
        for command in (["serve"], ["dev"]):
            answer = carafe(*command, WEB_APPLICATION=target)
            assert answer.code == 2, answer.err
            said = "is a WSGI application: serve it with gunicorn or another WSGI server, and leave WEB_APPLICATION unset"
            assert f"WEB_APPLICATION: {target!r} {said}" in answer.err
            assert "Traceback" not in answer.err
        found = carafe("doctor", "--json", WEB_APPLICATION=target).json
    told = [finding for finding in found if finding["subject"] == "web"]
    assert [(finding["level"], finding["text"]) for finding in told] == (
        [] if name == "factory" else [("broken", f"WEB_APPLICATION: {target!r} is a WSGI application")]
    )


def test_it_is_not_for_production(folder: Path, database_url: str, redis_url: str) -> None:
    token = json.loads(process("token", "ci", "view", "--json", folder=folder).out)["entry"]
    for option in ((), ("--reload",), ("--servers",)):
        answer = process(
            "dev",
            *option,
            folder=folder,
            ENVIRONMENT="production",
            DATABASE_URL=database_url,
            REDIS_URL=redis_url,
            API_TOKENS=token,
        )
        assert answer.code == 2
        assert "`carafe dev` is for development" in answer.err
