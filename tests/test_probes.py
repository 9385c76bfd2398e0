"""The worker's health server answers every valid request, whatever else happens in the process."""

import http.client
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from prometheus_client import Counter

from carafe.settings.settings import SettingsError
from carafe.telemetry import probes
from carafe.telemetry.instruments import registry
from carafe.telemetry.probes import ProbeServer


class Checks:
    """Checks whose answers a test sets."""

    def __init__(self) -> None:
        self.live: str | None = None
        self.ready: str | None = None
        self.started: str | None = None

    def livez(self) -> str | None:
        if self.live == "raise":
            raise RuntimeError("no idea")
        return self.live

    def readyz(self) -> str | None:
        return self.ready

    def startupz(self) -> str | None:
        return self.started


@pytest.fixture
def checks() -> Checks:
    return Checks()


@pytest.fixture
def server(checks: Checks) -> Iterator[ProbeServer]:
    server = ProbeServer("127.0.0.1", 0, checks)
    assert server.start() == server.port > 0
    yield server
    server.stop()


def ask(server: ProbeServer, path: str, method: str = "GET", **headers: str) -> tuple[int, str, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode(), response.headers
    finally:
        connection.close()


def raw(server: ProbeServer, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return connection.makefile("rb").read()


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/startupz", "/livez?verbose"])
def test_a_check_that_holds_is_200(server: ProbeServer, path: str) -> None:
    assert ask(server, path)[:2] == (200, "ok\n")


def test_a_check_that_does_not_hold_is_503_with_its_reason(server: ProbeServer, checks: Checks) -> None:
    checks.live, checks.ready, checks.started = "the loop is blocked", "draining", "not consuming yet"
    assert ask(server, "/livez")[:2] == (503, "the loop is blocked\n")
    assert ask(server, "/readyz")[:2] == (503, "draining\n")
    assert ask(server, "/startupz")[:2] == (503, "not consuming yet\n")
    checks.ready = None
    assert ask(server, "/readyz")[:2] == (200, "ok\n")


def test_a_check_that_fails_is_503_and_not_silence(server: ProbeServer, checks: Checks) -> None:
    checks.live = "raise"
    status, body, _ = ask(server, "/livez")
    assert (status, body) == (503, "the check failed: RuntimeError: no idea\n")


def test_head_answers_without_a_body(server: ProbeServer) -> None:
    status, body, headers = ask(server, "/livez", "HEAD")
    assert (status, body, headers["content-length"]) == (200, "", "3")
    assert headers["x-content-type-options"] == "nosniff"


def test_other_methods_and_paths_are_refused(server: ProbeServer) -> None:
    status, _, headers = ask(server, "/livez", "POST")
    assert (status, headers["allow"]) == (405, "GET, HEAD")
    assert ask(server, "/")[0] == 404


def test_metrics_are_prometheus_text(server: ProbeServer) -> None:
    Counter("carafe_test_probes", "Made by a test.", registry=registry()).inc(3)
    status, body, headers = ask(server, "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    assert "carafe_test_probes_total 3.0" in body
    openmetrics = ask(server, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert openmetrics[2]["content-type"].startswith("application/openmetrics-text")
    assert openmetrics[1].endswith("# EOF\n")


@pytest.mark.parametrize(
    "request_", [b"\r\n\r\n", b"\xff\x00 x\r\n\r\n", b"GET /livez\r\n\r\n", b"GET /livez SPDY/9\r\n\r\n"]
)
def test_nonsense_is_a_bad_request(server: ProbeServer, request_: bytes) -> None:
    assert raw(server, request_).startswith(b"HTTP/1.1 400 ")


def test_a_head_that_is_too_large_is_refused(server: ProbeServer) -> None:
    assert raw(server, b"GET /livez HTTP/1.1\r\nX: " + b"x" * 2 * probes.REQUEST_LIMIT).startswith(b"HTTP/1.1 431 ")


def test_silent_clients_cost_nobody_else_the_answer(server: ProbeServer) -> None:
    with ExitStack() as open_ones:
        for _ in range(2 * probes.CONNECTIONS):
            open_ones.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10))
        assert ask(server, "/livez")[0] == 200


def test_a_silent_client_is_closed(server: ProbeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "CLIENT_TIMEOUT", 0.05)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        assert connection.recv(100) == b""


def test_an_answer_that_nobody_takes_is_given_up(server: ProbeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "CLIENT_TIMEOUT", 0.2)
    monkeypatch.setattr(probes, "_metrics", lambda _: b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 20_000_000)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        # Nothing is read; the server's side is closed once it refuses what is sent.
        deadline = time.monotonic() + 10
        while not _refuses(connection):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def _refuses(connection: socket.socket) -> bool:
    try:
        connection.sendall(b"x")
    except OSError:
        return True
    return False


def test_a_port_that_is_taken_is_told_by_the_settings_name(server: ProbeServer, checks: Checks) -> None:
    with pytest.raises(SettingsError, match=r"PROBE_PORT: .*already in use.*set PROBE_PORT"):
        ProbeServer("127.0.0.1", server.port, checks).start()


def test_stop_gives_the_port_free_and_may_be_called_twice(checks: Checks) -> None:
    first = ProbeServer("127.0.0.1", 0, checks)
    port = first.start()
    first.stop()
    first.stop()
    second = ProbeServer("127.0.0.1", port, checks)
    assert second.start() == port
    second.stop()
