"""Attacks on a web process from outside: how much memory each costs the process, and whether the process still answers.

``python -m tests.web.attacks [NAME …]`` runs them against a `carafe serve` of its own, on loopback, prints what each cost,
and ends with a code above 0 if one cost too much: twice the idle memory, or an answer of /livez that took a second by the
clock.
Run it on a machine that has nothing else to do; `test_attacks.py` says what the suite asserts, which shares its machine.
The attacker is a process of its own that gives way to the one it attacks (nice), as another machine would. Each attack is
bounded in bytes, connections and time.
"""

import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tests.waiting import eventually

ROOT = Path(__file__).parent.parent.parent
TOKEN = "attacked"
BEARER = f"Authorization: Bearer {TOKEN}\r\n"
JSON = "Content-Type: application/json\r\n"

WATCHING = Path(__file__).parent / "watching.py"

AGAINST = "--against"
"""Before host, port, the dashboard's port and names: attack that, print what was seen as JSON."""

NICE = 15


@dataclass
class Target:
    """Where a web process is reached."""

    host: str
    port: int
    dashboard_port: int

    async def connect(self, port: int | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to its API, or to another port of it."""
        return await asyncio.open_connection(self.host, port or self.port)

    async def answer(self, request: bytes, port: int | None = None, within: float = 60.0) -> bytes:
        """What it answers to these bytes until it closes the connection, or has sent a whole answer."""
        reader, writer = await self.connect(port)
        try:
            async with asyncio.timeout(within):
                with contextlib.suppress(OSError):
                    writer.write(request)
                    await writer.drain()
                return await read_answer(reader)
        finally:
            writer.close()


@dataclass
class Web(Target):
    """A web process under attack."""

    process: asyncio.subprocess.Process
    idle: int = 0
    """Bytes of memory before any attack, after a first use."""
    lines: list[str] = field(default_factory=list)
    """What it logged."""

    def memory(self) -> int:
        """Bytes of memory that it has now."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1_024
        raise AssertionError("the web process has ended")


@dataclass
class Cost:
    """What an attack has cost."""

    peak: int
    """Bytes of memory at most while it went on."""
    slowest: float
    """Seconds of the slowest answer of /livez meanwhile, by the clock."""
    worked: float
    """Seconds of an answer of /livez in which the web process worked, at most: what is left of it on a busy machine."""
    fault: str
    """What was wrong with an answer of /livez, if anything was."""
    said: dict[str, object]
    """What each attack itself saw."""


Attack = Callable[[Target], Awaitable[object]]
ATTACKS: dict[str, Attack] = {}


def attack(function: Attack) -> Attack:
    """Adds one to the list, under its name."""
    ATTACKS[getattr(function, "__name__", "")] = function
    return function


# The web process, and looking at it.


@asynccontextmanager
async def attacked(database_url: str, redis_url: str) -> AsyncIterator[Web]:
    """A `carafe serve` with a token and a dashboard that asks for passwords."""
    from carafe.settings.settings import hash_token  # late: the attacker's process starts without it

    environment = {
        **{name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "TMPDIR", "LANG")},
        "ENVIRONMENT": "production",
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "HOST": "127.0.0.1",
        "PROBE_HOST": "127.0.0.1",
        "PORT": "0",
        "DASHBOARD_PORT": "0",
        "METRICS_PORT": "0",
        "STEWARD": "false",
        "DRAIN_TIMEOUT": "2",
        "API_TOKENS": f"attacker:operate:{hash_token(TOKEN)}",
        "DASHBOARD_USERS": "ana:operate:$argon2id$v=19$m=19456,t=2,p=1$RGln4m+dVoygBKaq33qrAA"
        "$WmaqiY1yYRe/NLi7aKahFGStcdedXNwckkppbrCVeCI",
        "DASHBOARD_SECRET_KEYS": "k" * 40,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "carafe", "serve", cwd=ROOT, env=environment, stderr=PIPE, limit=2**20
    )
    lines: list[str] = []
    logging: asyncio.Task[None] | None = None
    try:
        assert process.stderr is not None
        async with asyncio.timeout(60):
            while True:
                line = (await process.stderr.readline()).decode()
                assert line, "\n".join(lines)
                lines.append(line)
                if '"serving"' in line:
                    break
        logging = asyncio.create_task(_read(process.stderr, lines))
        told = json.loads(line)
        host, port = urlsplit(told["url"]).hostname, urlsplit(told["url"]).port
        assert host is not None
        assert port is not None
        web = Web(host, port, urlsplit(told["dashboard"]).port or 0, process, lines=lines)
        # What a first use imports and keeps is not a cost of an attack.
        for path in ("/livez", "/health", "/api/v1/jobs", "/openapi.json", "/docs"):
            assert b" 200 " in (await web.answer(get(path, BEARER))).partition(b"\r\n")[0], path
        assert b" 202 " in await web.answer(post("/api/v1/jobs/bulk", bulk(100), BEARER + JSON))
        assert b" 200 " in await web.answer(get("/login"), web.dashboard_port)
        web.idle = web.memory()
        yield web
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(30):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        if logging is not None:
            await logging


async def cost(web: Web, *names: str) -> Cost:
    """Run attacks, at the same time, and watch."""
    watcher = await asyncio.create_subprocess_exec(
        sys.executable, WATCHING, str(web.process.pid), web.host, str(web.port), stdin=PIPE, stdout=PIPE
    )
    try:
        assert watcher.stdout is not None
        assert await watcher.stdout.readline() == b"watching\n"
        said = await _attacked_by_another(web, names)
        seen = json.loads((await watcher.communicate(b""))[0])
    finally:
        if watcher.returncode is None:
            watcher.kill()
            await watcher.wait()
    return Cost(seen["peak"], seen["slowest"], seen["worked"], seen["fault"], said)


async def _attacked_by_another(web: Web, names: tuple[str, ...]) -> dict[str, object]:
    where = (web.host, str(web.port), str(web.dashboard_port))
    attacker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.web.attacks", AGAINST, *where, *names, cwd=ROOT, stdout=PIPE, stderr=PIPE
    )
    try:
        out, err = await attacker.communicate()
    finally:
        if attacker.returncode is None:
            attacker.kill()
            await attacker.wait()
    assert attacker.returncode == 0, err.decode()
    said: dict[str, object] = json.loads(out)
    return said


async def against(target: Target, names: list[str]) -> dict[str, object]:
    """Run attacks, at the same time. Gives way to what it attacks."""
    os.nice(NICE)
    return dict(zip(names, await asyncio.gather(*(ATTACKS[name](target) for name in names)), strict=True))


async def _read(stream: asyncio.StreamReader, lines: list[str]) -> None:
    async for line in stream:
        lines.append(line.decode())


def get(path: str, headers: str = "") -> bytes:
    """A request without a body."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode()


def post(path: str, body: bytes, headers: str = "") -> bytes:
    """A request with a body."""
    return head(path, len(body), headers) + body


def head(path: str, length: int, headers: str = "") -> bytes:
    """The head of a request with a body of that length."""
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{headers}\r\n".encode()


def bulk(jobs: int, size: int = 0) -> bytes:
    """A bulk that is valid, of arguments of that size."""
    entry = json.dumps({"kind": "briefing.generate", "args": {"briefing_id": "01980a2e-7c11-7000-8000-000000000001"}})
    return b'{"jobs": [' + b", ".join([entry.encode() + b" " * size] * jobs) + b"]}"


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    """A whole answer, or what there is of it when the connection ends."""
    found = b""
    with contextlib.suppress(OSError):
        while chunk := await reader.read(65_536):
            found += chunk
            top, end, body = found.partition(b"\r\n\r\n")
            fields = dict(line.lower().split(b": ", 1) for line in top.split(b"\r\n")[1:] if b": " in line)
            if end and len(body) >= int(fields.get(b"content-length", b"1000000000")):
                break
    return found


def status(answer: bytes) -> str:
    """The status of an answer; empty when the connection was closed without one."""
    return answer[9:12].decode()


async def many(count: int, do: Callable[[int], Awaitable[str]]) -> dict[str, int]:
    """Does it that many times at once; how often each came out."""
    found: dict[str, int] = {}
    for outcome in await asyncio.gather(*(do(number) for number in range(count)), return_exceptions=True):
        name = outcome if isinstance(outcome, str) else type(outcome).__name__
        found[name] = found.get(name, 0) + 1
    return found


async def _sent(writer: asyncio.StreamWriter, data: bytes) -> bool:
    """Whether these bytes could be sent."""
    try:
        writer.write(data)
        await writer.drain()
    except OSError:
        return False
    return True


async def _gone(reader: asyncio.StreamReader) -> bytes:
    """Everything that comes until the connection is closed."""
    try:
        return await reader.read()
    except OSError:
        return b""


# Heads.


@attack
async def a_head_of_20_megabytes(web: Target) -> str:
    """One connection, one header that does not end."""
    reader, writer = await web.connect()
    await _sent(writer, b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: ")
    for _ in range(320):
        if not await _sent(writer, b"x" * 65_536):
            break
    answer = await _gone(reader)
    writer.close()
    return status(answer)


@attack
async def a_target_of_a_megabyte(web: Target) -> str:
    """The request's line does not end."""
    return status(await web.answer(b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"))


@attack
async def headers_by_the_ten_thousand(web: Target) -> dict[str, int]:
    """Each is small, and costs many times its bytes."""

    async def one(number: int) -> str:
        return status(await web.answer(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"a:\r\n" * 10_000 + b"\r\n"))

    return await many(50, one)


@attack
async def connections_that_say_nothing(web: Target) -> int:
    """500 of them, twice, on both ports; how many are closed."""

    async def one(number: int) -> str:
        reader, writer = await web.connect(web.dashboard_port if number % 2 else None)
        try:
            async with asyncio.timeout(60):
                return "closed" if await _gone(reader) == b"" else "answered"
        finally:
            writer.close()

    return (await many(500, one)).get("closed", 0)


@attack
async def heads_that_stay_half_sent(web: Target) -> dict[str, int]:
    """500 connections bring 40 KB of a head each, and then a byte now and then."""

    async def one(number: int) -> str:
        reader, writer = await web.connect(web.dashboard_port if number % 2 else None)
        ended = asyncio.create_task(_gone(reader))
        try:
            await _sent(writer, b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"y" * 40_000)
            async with asyncio.timeout(60):
                while not ended.done():
                    await _sent(writer, b"y")
                    await asyncio.wait([ended], timeout=0.5)
                return status(await ended)
        finally:
            ended.cancel()
            writer.close()

    return await many(500, one)


@attack
async def more_connections_than_there_may_be(web: Target) -> int:
    """1,300 silent ones where 1,000 may be: the oldest go, new ones are answered. How many were open in the end."""
    connections = [await web.connect() for _ in range(1_300)]
    try:
        reader, writer = connections[-1]
        writer.write(get("/livez"))
        assert status(await read_answer(reader)) == "200"
        ended = [asyncio.create_task(_gone(reader)) for reader, _ in connections[:300]]
        await asyncio.wait(ended, timeout=30)
        return sum(not task.done() for task in ended)
    finally:
        for _, writer in connections:
            writer.close()


@attack
async def requests_by_the_ten_thousand_on_one_connection(web: Target) -> str:
    """Pipelined, without reading an answer."""
    _, writer = await web.connect()
    for _ in range(20):
        if not await _sent(writer, get("/livez") * 2_000):
            break
    writer.close()
    return "closed"


# Bodies.


@attack
async def a_body_of_nobody(web: Target) -> dict[str, int]:
    """50 times 5 MB without a token: answered at once; a sender that goes on loses the answer with the connection."""

    async def one(number: int) -> str:
        return status(await web.answer(post("/api/v1/jobs/bulk", b"x" * 5_000_000, JSON)))

    found = await many(50, one)
    assert set(found) <= {"401", ""}, found
    return found


@attack
async def a_form_of_nobody(web: Target) -> dict[str, int]:
    """50 times 1.8 MB for the sign-in page."""
    form = b"name=ana&password=" + b"x" * 1_800_000
    origin = f"http://127.0.0.1:{web.dashboard_port}"
    headers = f"Origin: {origin}\r\nContent-Type: application/x-www-form-urlencoded\r\n"

    async def one(number: int) -> str:
        request = post("/login", form, headers).replace(b"Host: localhost", f"Host: 127.0.0.1:{web.dashboard_port}".encode())
        return status(await web.answer(request, web.dashboard_port))

    found = await many(50, one)
    assert set(found) <= {"413", ""}, found
    return found


@attack
async def bodies_that_dawdle(web: Target) -> dict[str, int]:
    """200 bodies of somebody who may send them come at 100 bytes a second."""

    async def one(number: int) -> str:
        reader, writer = await web.connect()
        ended = asyncio.create_task(_gone(reader))
        try:
            await _sent(writer, head("/api/v1/jobs", 100_000, BEARER + JSON))
            async with asyncio.timeout(60):
                while not ended.done():
                    await _sent(writer, b" " * 50)
                    await asyncio.wait([ended], timeout=0.5)
                return status(await ended)
        finally:
            ended.cancel()
            writer.close()

    return await many(200, one)


@attack
async def chunks_of_one_byte(web: Target) -> dict[str, int]:
    """Twenty bodies of 100,000 chunks, and twenty whose chunks are nearly all extension."""

    async def one(number: int) -> str:
        chunk = b"1\r\n \r\n" if number % 2 else b"1;" + b"e" * 4_000 + b"\r\n \r\n"
        top = f"POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n{BEARER}{JSON}\r\n".encode()
        return status(await web.answer(top + chunk * (100_000 if number % 2 else 2_000) + b"0\r\n\r\n"))

    return await many(40, one)


@attack
async def a_bulk_of_half_a_million(web: Target) -> dict[str, int]:
    """1 MB of nothing much."""
    bodies = (b'{"jobs": [' + b"0," * 499_999 + b"0]}", b'{"jobs": [' + b"{}," * 349_999 + b"{}]}")

    async def one(number: int) -> str:
        return status(await web.answer(post("/api/v1/jobs/bulk", bodies[number % 2], BEARER + JSON)))

    return await many(6, one)


@attack
async def a_bulk_that_is_wrong_all_over(web: Target) -> str:
    """As many jobs as there may be, each with 60 unknown fields; the answer is bounded too."""
    entry = b"{" + b",".join(b'"x%d":0' % number for number in range(60)) + b"}"
    answer = await web.answer(post("/api/v1/jobs/bulk", b'{"jobs": [' + b",".join([entry] * 10_000) + b"]}", BEARER + JSON))
    assert len(answer) < 300_000, len(answer)
    return status(answer)


@attack
async def many_large_bulks(web: Target) -> dict[str, int]:
    """200 valid ones of 1 MB at a time: some are taken, the others told to come again."""
    request = post("/api/v1/jobs/bulk", bulk(500, 2_000), BEARER + JSON)

    async def one(number: int) -> str:
        answer = await web.answer(request, within=120)
        assert status(answer) != "503" or b"retry-after" in answer.lower()
        return status(answer)

    return await many(200, one)


@attack
async def deep_nesting(web: Target) -> dict[str, int]:
    """Brackets in brackets, as deep as a body is long."""

    async def one(number: int) -> str:
        inside = (b"[" * 250_000 + b"]" * 250_000) if number % 2 else b'{"a":' * 100_000 + b"1" + b"}" * 100_000
        body = b'{"kind": "briefing.generate", "args": {"v": ' + inside + b"}}"
        return status(await web.answer(post("/api/v1/jobs", body, BEARER + JSON)))

    return await many(20, one)


# Answers.


@attack
async def answers_that_nobody_takes(web: Target) -> int:
    """100 connections ask for ten large answers each and read none."""
    connections = [await web.connect() for _ in range(100)]
    try:
        for _, writer in connections:
            await _sent(writer, get("/docs/swagger-ui-bundle.js") * 10)
        # Each is worked on by now: what comes after them on other connections is answered.
        assert status(await web.answer(get("/livez"))) == "200"
        return len(connections)
    finally:
        for _, writer in connections:
            writer.close()


@attack
async def websockets(web: Target) -> dict[str, int]:
    """Asked for where there are none: an ordinary answer, and the end of the connection."""
    headers = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA\r\n"

    async def one(number: int) -> str:
        return status(await web.answer(get("/livez", headers) + b"\x81\x05hello" * 1_000))

    return await many(50, one)


# Run by hand.


@contextmanager
def servers() -> Iterator[tuple[str, str]]:
    """A migrated database and an empty Redis, for this run."""
    from carafe.testing.databases import Databases
    from carafe.testing.servers import Servers

    with tempfile.TemporaryDirectory() as folder:
        started = Servers(Path(folder))
        databases = Databases(started.postgres_url, ["briefings.migrations"])
        try:
            with databases.fresh() as url:
                yield url, started.redis_url
        finally:
            databases.close()
            started.stop()


async def run(names: list[str], database_url: str, redis_url: str) -> int:
    """Runs them, and prints what each cost. Returns how many cost too much."""
    bad = 0
    async with attacked(database_url, redis_url) as web:
        print(f"idle: {web.idle / 1e6:.0f} MB")  # noqa: T201
        for name in names or list(ATTACKS):
            began = time.monotonic()
            found = await cost(web, name)
            wrong = found.peak >= 2 * web.idle or found.slowest > 1 or found.fault
            bad += bool(wrong)
            took = f"{found.peak / web.idle:.2f} times idle, /livez {found.slowest:.2f} s, {time.monotonic() - began:.1f} s"
            print(f"{'TOO MUCH ' if wrong else ''}{name}: {took}; {found.said[name]} {found.fault}", flush=True)  # noqa: T201
            await eventually(lambda: web.memory() < 1.9 * web.idle, within=30)
        for line in web.lines:
            if '"warning"' in line or ('"error"' in line and "answered 503" not in line):
                print(line.rstrip())  # noqa: T201
    return bad


if __name__ == "__main__":
    if sys.argv[1:2] == [AGAINST]:
        host, port, dashboard_port, *names = sys.argv[2:]
        print(json.dumps(asyncio.run(against(Target(host, int(port), int(dashboard_port)), names))))  # noqa: T201
        sys.exit()
    with servers() as (url, redis):
        sys.exit(asyncio.run(run(sys.argv[1:], url, redis)))
