"""The limits of one connection, each also with a request just within the limit. Times are shortened; everything else is as
in production."""

import asyncio
import gc
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from structlog.testing import capture_logs

from carafe.settings.settings import Settings
from carafe.web import connections
from carafe.web.server import WebServer
from tests.waiting import eventually
from tests.web.attacks import get, head, read_answer, status

ECHO = "/echo"


async def endless(app: FastAPI) -> AsyncIterator[bytes]:
    """An answer without end; the application knows when it has ended all the same."""
    try:
        while True:
            yield b"x"
            await asyncio.sleep(0)
    finally:
        app.state.ended.set()


def application() -> FastAPI:
    """Says what it was sent; refuses without reading; answers much, or for ever, or when told."""
    app = FastAPI()
    app.state.ended, app.state.go_on = asyncio.Event(), asyncio.Event()

    @app.post(ECHO)
    async def echo(request: Request) -> str:
        return str(len(await request.body()))

    @app.post("/refuse")
    async def refuse() -> Response:
        return Response(status_code=401)

    @app.get("/much")
    async def much() -> Response:
        return Response(b"x" * 20_000_000)

    @app.get("/health")
    async def health() -> Response:
        await app.state.go_on.wait()
        return Response()

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(endless(app))

    @app.post("/role")
    async def role(request: Request) -> str:
        await request.body()
        return request.headers.get("x-role", "none") + str(request.scope["headers"].count((b"x-role", b"admin")))

    @app.get("/livez")
    async def livez(request: Request) -> PlainTextResponse:
        assert request.client is not None
        return PlainTextResponse(request.client.host)

    return app


@dataclass
class Web:
    """The server's port, and its application."""

    port: int
    application: FastAPI


@pytest.fixture
async def web(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Web]:
    """A server with ten connections at most, and little patience."""
    for name, value in (("HEAD_TIME", 0.5), ("BODY_GRACE", 0.5), ("LINGER_TIME", 0.5), ("WRITE_TIME", 0.5), ("SWEEP", 0.02)):
        monkeypatch.setattr(connections, name, value)
    app = application()
    server = WebServer(app, Settings.model_validate({"port": 0, "web_connections": 10}))
    ready = asyncio.Event()
    serving = asyncio.create_task(server.serve(ready=ready.set))
    await ready.wait()
    web_of_tests = Web(server.port, app)
    yield web_of_tests
    app.state.go_on.set()
    monkeypatch.setattr("carafe.web.server.QUIET", 0.0)  # nobody is left who is to be told to go
    server.stop()
    await serving


Opened = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def opened(web: Web) -> Opened:
    """A connection."""
    return await asyncio.open_connection("127.0.0.1", web.port)


async def sent(web: Web, data: bytes) -> bytes:
    """What comes back for these bytes until the server closes the connection, which it must."""
    reader, writer = await opened(web)
    writer.write(data)
    async with asyncio.timeout(30):
        found = await until_closed(reader)
    writer.close()
    return found


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection is closed, or reset."""
    found = b""
    try:
        while chunk := await reader.read(65_536):
            found += chunk
    except ConnectionError:
        pass
    return found


async def answered(web: Web, data: bytes) -> bytes:
    """One answer."""
    reader, writer = await opened(web)
    writer.write(data)
    async with asyncio.timeout(30):
        found = await read_answer(reader)
    writer.close()
    return found


def padded(size: int) -> bytes:
    """A head of that many bytes."""
    start = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: "
    return start + b"x" * (size - len(start) - 4) + b"\r\n\r\n"


async def test_a_head_of_64_kib_is_read_and_a_larger_one_is_not(web: Web) -> None:
    assert status(await answered(web, padded(60_000))) == "200"
    for size in (70_000, 500_000):
        answer = await sent(web, padded(size))
        assert status(answer) == "431"
        top, _, body = answer.partition(b"\r\n\r\n")
        assert json.loads(body)["type"] == "/problems/request-head-too-large"
        for field in (b"x-content-type-options: nosniff", b"cache-control: no-store", b"connection: close"):
            assert field in top.lower()
    assert status(await sent(web, b"GET /" + b"x" * 70_000)) == "431"
    # A field that never ends is not a field to the parser yet: nothing but the bytes tells how large it has become.
    assert status(await sent(web, b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000)) == "431"


async def test_large_heads_that_are_not_there_yet_have_a_bound_together(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_TIME", 30)
    monkeypatch.setattr(connections, "LARGE_HEADS", 100_000)
    begun = [await opened(web) for _ in range(3)]
    for _, writer in begun:
        writer.write(padded(45_000)[:-4])
    reading = {asyncio.create_task(read_answer(reader)): writer for reader, writer in begun}
    async with asyncio.timeout(20):
        refused, others = await asyncio.wait(reading, return_when=asyncio.FIRST_COMPLETED)
        assert [status(task.result()) for task in refused] == ["431"]
        for task in others:
            reading[task].write(b"\r\n\r\n")
        assert [status(await task) for task in others] == ["200", "200"]
    for _, writer in begun:
        writer.close()
    # What they held is given back.
    assert status(await answered(web, padded(45_000))) == "200"


async def test_a_head_has_128_fields(web: Web) -> None:
    for count, expected in ((120, "200"), (140, "431")):
        fields = "".join(f"x-{number}: 1\r\n" for number in range(count))
        assert status(await answered(web, get("/livez", fields))) == expected


async def test_fields_after_a_body_count_too(web: Web) -> None:
    body = f"POST {ECHO} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
    assert status(await answered(web, body.encode() + b"A: b\r\n\r\n")) == "200"
    assert status(await sent(web, body.encode() + b"A: b\r\n" * 200 + b"\r\n")) in ("431", "")


async def test_a_head_is_there_in_time(web: Web) -> None:
    assert await sent(web, b"") == b""
    assert status(await sent(web, b"GET /livez HT")) == "408"
    reader, writer = await opened(web)
    writer.write(get("/livez"))
    assert status(await read_answer(reader)) == "200"
    # Quiet between two requests is not a fault; half a request is.
    writer.write(b"GET /")
    assert status(await reader.read()) == "408"
    writer.close()


async def test_a_look_that_fails_costs_one_connection_and_no_bound(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    look = connections.Connection.look
    faulty: list[connections.Connection] = []

    def stumbles(self: connections.Connection, now: float) -> None:
        faulty.extend([] if faulty else [self])
        if self in faulty:
            raise KeyError("a fault of ours")
        look(self, now)

    monkeypatch.setattr(connections.Connection, "look", stumbles)
    reader, writer = await opened(web)
    with capture_logs() as logged:
        async with asyncio.timeout(30):
            assert await until_closed(reader) == b""
    writer.close()
    assert [line["event"] for line in logged] == ["a connection could not be checked, so it is closed"]
    # The looks go on: half a head is refused as ever.
    assert status(await sent(web, b"GET /livez HT")) == "408"


async def test_a_body_comes_at_some_speed(web: Web) -> None:
    assert status(await answered(web, head(ECHO, 500_000) + b"x" * 500_000)) == "200"
    assert status(await sent(web, head(ECHO, 500_000) + b"x" * 1_000)) == "408"


async def test_a_body_that_comes_at_that_speed_may_take_long(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "BODY_RATE", 100)
    reader, writer = await opened(web)
    writer.write(head(ECHO, 20_000) + b"x" * 10_000)
    # One that began later has had all the time that any body may take.
    assert status(await sent(web, head(ECHO, 20_000) + b"x")) == "408"
    writer.write(b"x" * 10_000)
    async with asyncio.timeout(20):
        assert status(await read_answer(reader)) == "200"
    writer.close()


async def test_chunks_carry_something(web: Web) -> None:
    top = f"POST {ECHO} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    assert status(await answered(web, top + b"64\r\n" + b"x" * 100 + b"\r\n" + b"0\r\n\r\n")) == "200"
    assert status(await answered(web, top + b"1\r\nx\r\n" * 5_000 + b"0\r\n\r\n")) == "200"
    assert status(await sent(web, top + b"1\r\nx\r\n" * 50_000)) == "400"
    assert status(await sent(web, top + b"1;" + b"e" * 90_000)) == "400"


async def test_what_is_answered_without_its_body_is_the_last(web: Web) -> None:
    answer = await sent(web, head("/refuse", 2_000_000) + b"x" * 1_000_000)
    assert status(answer) == "401"
    assert b"connection: close" in answer.lower()
    # A whole request, refused or not, leaves the connection as it is.
    assert b"connection" not in (await answered(web, head("/refuse", 10) + b"x" * 10)).lower()


@pytest.mark.parametrize(("name", "value", "chunk"), [("LINGER_BYTES", 100_000, 20_000), ("LINGER_TIME", 0.1, 1)])
async def test_what_is_thrown_away_has_a_bound(
    web: Web, monkeypatch: pytest.MonkeyPatch, name: str, value: float, chunk: int
) -> None:
    monkeypatch.setattr(connections, "LINGER_TIME", 60)
    monkeypatch.setattr(connections, name, value)
    reader, writer = await opened(web)
    writer.write(head("/refuse", 2_000_000_000) + b"x")
    assert status(await read_answer(reader)) == "401"
    await eventually(lambda: _gone(writer, chunk))
    writer.close()


async def test_refusals_beyond_the_first_are_told_by_their_number(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_TIME", 30.0)  # however slow the machine is, none is refused for its lateness
    with capture_logs() as logged:
        await asyncio.gather(*(sent(web, padded(70_000)) for _ in range(5)))
        monkeypatch.setattr(connections, "FLOOD", 0.0)  # as if its seconds were over
        refused = "a request was refused: request-head-too-large"
        # Servers of the tests before, on the same loop, tell now what they have counted, too.
        await eventually(lambda: any(line["event"] == refused and line.get("times") == 4 for line in logged))
    assert len([line for line in logged if line["event"] == refused and "times" not in line]) == 1


async def test_a_connection_asks_for_so_many_answers_at_once(web: Web) -> None:
    reader, writer = await opened(web)
    writer.write(get("/livez") * 10)
    found = b""
    while found.count(b"127.0.0.1") < 10:
        found += await reader.read(65_536)
    writer.close()
    assert (await sent(web, get("/livez") * 5_000)).count(b"127.0.0.1") < 100
    # So few that their heads are within the bound of bytes; they come in one piece.
    assert (await sent(web, get("/livez") * 40 + get("/livez", "Connection: close\r\n"))).count(b"127.0.0.1") < 40


async def test_the_longest_silent_goes_and_probes_are_always_answered(web: Web) -> None:
    silent = [await opened(web) for _ in range(10)]
    assert status(await answered(web, get("/livez"))) == "200"
    assert await silent[0][0].read() == b""
    assert not silent[5][0].at_eof()
    for _, writer in silent:
        writer.close()
    # Those that are in the middle of something are not silent.
    busy = [await opened(web) for _ in range(10)]
    for _, writer in busy:
        writer.write(head(ECHO, 1_000_000) + b"x" * 100_000)

    async def full() -> bool:
        return status(await answered(web, get("/docs"))) == "503"

    await eventually(full)
    assert status(await answered(web, get("/livez"))) == "200"
    for _, writer in busy:
        writer.close()


async def test_who_is_silent_for_longer_goes_first_whatever_it_did_before(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_TIME", 30)
    reader, writer = await opened(web)
    writer.write(get("/livez"))
    assert status(await read_answer(reader)) == "200"
    younger = [await opened(web) for _ in range(9)]
    with capture_logs() as logged:
        newest = await opened(web)
        async with asyncio.timeout(10):
            assert await reader.read() == b""
    assert [line["event"] for line in logged] == [
        "too many connections: closed the one that was silent for the longest time"
    ]
    assert not any(other.at_eof() for other, _ in younger)
    for _, each in (*younger, newest, (reader, writer)):
        each.close()


async def test_who_still_takes_an_answer_is_not_silent(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "WRITE_TIME", 30)
    reader, writer = await opened(web)
    writer.write(get("/much"))
    found = await reader.readuntil(b"\r\n\r\n")
    assert found
    others = []
    for _ in range(12):
        others.append(await opened(web))
        others[-1][1].write(get("/livez"))
        assert status(await read_answer(others[-1][0])) == "200"
    async with asyncio.timeout(20):
        for gone, _ in others[:3]:
            assert await gone.read() == b""
        assert len(await reader.readexactly(20_000_000)) == 20_000_000
    # It has all of it: now it is one of those that wait, and may go.
    writer.write(get("/livez"))
    assert status(await read_answer(reader)) == "200"
    for _, each in (*others, (reader, writer)):
        each.close()


async def test_who_has_its_last_answer_goes_before_all_others(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LINGER_TIME", 30)
    monkeypatch.setattr(connections, "HEAD_TIME", 30)
    silent = await opened(web)
    lingering = [await opened(web) for _ in range(9)]
    for reader, writer in lingering:
        writer.write(head("/refuse", 100_000) + b"x")
        assert status(await read_answer(reader)) == "401"
    # None of them is busy; any number of further ones is answered, and none waits for another's end.
    for _ in range(30):
        assert status(await answered(web, head("/refuse", 100_000) + b"x")) == "401"
        assert status(await answered(web, get("/docs"))) == "200"
    assert not silent[0].at_eof()
    silent[1].write(get("/livez"))
    assert status(await read_answer(silent[0])) == "200"
    for _, writer in (silent, *lingering):
        writer.close()


async def test_requests_of_probes_have_a_bound_too(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SPARE", 3)
    busy = [await opened(web) for _ in range(10)]
    for _, writer in busy:
        writer.write(get("/health"))

    async def full() -> bool:
        return status(await answered(web, get("/docs"))) == "503"

    await eventually(full)
    probes = []
    for _ in range(3):
        probes.append(await opened(web))
        probes[-1][1].write(get("/health"))

    async def closed() -> bool:
        return status(await answered(web, get("/livez"))) == ""

    await eventually(closed)
    for _, writer in (*busy, *probes):
        writer.close()


async def test_no_refusal_comes_between_the_bytes_of_an_answer_before_it(web: Web) -> None:
    chunked = f"POST {ECHO} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    assert status(await sent(web, chunked + b"no size\r\n")) == "400"
    assert await sent(web, get("/health") + chunked + b"no size\r\n") == b""


async def test_a_stream_is_told_that_its_peer_left_also_with_a_request_behind_it(web: Web) -> None:
    reader, writer = await opened(web)
    writer.write(get("/stream") + get("/livez"))
    await reader.readuntil(b"x")
    writer.transport.abort()
    await asyncio.wait_for(web.application.state.ended.wait(), 20)


async def test_what_comes_after_a_body_is_no_header(web: Web) -> None:
    top = "POST /role HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = await answered(web, top.encode() + b"1\r\nx\r\n0\r\nX-Role: admin\r\n\r\n")
    assert answer.endswith(b'"none0"')


async def test_a_request_that_is_over_needs_no_garbage_collector(web: Web) -> None:
    def requests() -> list[object]:
        return [found for found in gc.get_objects() if type(found).__name__ in ("RequestResponseCycle", "Connection")]

    gc.collect()
    before = {id(found) for found in requests()}
    gc.disable()
    try:
        for data in (get("/livez"), head("/refuse", 10) + b"x" * 10, get("/livez") * 5, head("/refuse", 100_000)):
            await answered(web, data)
        await eventually(lambda: {id(found) for found in requests()} <= before)
    finally:
        gc.enable()


async def test_an_answer_is_taken(web: Web) -> None:
    reader, writer = await opened(web)
    writer.write(get("/much"))
    await reader.readuntil(b"\r\n\r\n")
    # Nothing more is read, until the server has given up.
    await eventually(lambda: _gone(writer))
    assert len(await until_closed(reader)) < 20_000_000
    writer.close()


def _gone(writer: asyncio.StreamWriter, chunk: int = 1) -> bool:
    # A connection that was reset refuses what is written to it.
    writer.write(b"x" * chunk)
    return writer.transport.is_closing()


async def test_answers_that_nobody_takes_are_few(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WRITE_TIME", 60.0), ("UNSENT", 50_000_000), ("UNSENT_TIME", 0.05)):
        monkeypatch.setattr(connections, name, value)
    closed: list[connections.Connection] = []
    leave = connections.Connection.leave_at_once

    def noted(connection: connections.Connection) -> None:
        closed.append(connection)
        leave(connection)

    monkeypatch.setattr(connections.Connection, "leave_at_once", noted)
    with capture_logs() as logs:
        peers = [await opened(web) for _ in range(5)]
        for _, writer in peers:
            writer.write(get("/much"))
        # Two answers of 20 MB may wait, not three.
        await eventually(lambda: len(closed) == 3)
        taken = [len(await read_answer(reader)) for reader, _ in peers]
    assert sum(size > 20_000_000 for size in taken) == 2
    assert "too many answers are not read: closed the connection that waited for the longest time" in {
        line["event"] for line in logs
    }
    for _, writer in peers:
        writer.close()


def test_the_system_holds_little_of_what_is_not_taken() -> None:
    server = WebServer(application(), Settings.model_validate({"port": 0}))
    with server._socket:
        # Linux doubles what it is asked for, to have room for its own.
        assert server._socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2 * connections.SEND_BUFFER


def test_the_body_of_an_answer_does_not_wait_for_the_acknowledgement_of_its_head() -> None:
    server = WebServer(application(), Settings.model_validate({"port": 0}))
    with server._socket, socket.create_connection(("127.0.0.1", server.port)):
        server._socket.setblocking(True)
        accepted, _ = server._socket.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_the_peer_is_who_it_is(web: Web) -> None:
    answer = await answered(web, get("/livez", "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n"))
    assert answer.endswith(b"127.0.0.1")


@pytest.mark.parametrize("nonsense", [b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"])
async def test_nonsense_is_a_bad_request(web: Web, nonsense: bytes) -> None:
    assert status(await sent(web, nonsense)) == "400"


async def test_nothing_is_upgraded_to(web: Web) -> None:
    fields = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
    answer = await sent(web, get("/livez", fields) + get("/livez"))
    assert answer.count(b"HTTP/1.1") == 1
    assert status(answer) == "200"
