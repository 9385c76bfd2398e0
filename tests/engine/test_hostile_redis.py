"""Anyone who can write to Redis can send a worker any message. The worker continues, logs a flood of messages once, and
executes only five commands of Celery's remote control."""

import asyncio
import bz2
import zlib
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest
from celery import Celery
from celery.worker.control import Panel

from carafe import Client, State
from carafe.engine.control import ANSWERED, ANSWERS, Refused, read
from carafe.queue.hints import AFTER_ID, HEAD
from tests.engine.conftest import Counts, StartWorker
from tests.engine.jobs import NoOp
from tests.engine.worker_process import WorkerProcess
from tests.waiting import eventually

pytestmark = pytest.mark.process

CHANNEL = "/0.celery.pidbox"
FOREIGN = "dropped messages that are not hints"
CONTROL = "dropped remote control messages"
SEPARATOR = "\x06\x16"
"""Of the parts of an entry in a table of Celery's: routing key, pattern, queue."""


def celery_message(body: bytes, **headers: Any) -> bytes:
    """A message as Celery sends it."""
    return orjson.dumps(
        {
            "body": b64encode(body).decode(),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": headers,
            "properties": {
                "body_encoding": "base64",
                "delivery_tag": "x",
                "delivery_info": {"exchange": "", "routing_key": "x"},
            },
        }
    )


def command(method: Any, **more: Any) -> bytes:
    """A remote control message."""
    return celery_message(orjson.dumps({"method": method, "arguments": {}, "destination": None} | more))


BOMB = bz2.compress(bytes(2_000_000)) * 100
"""200 MB of zeros; compressed in parts, which are read as one, since compressing that much takes seconds."""
HOSTILE_HINTS = {
    "a bomb": celery_message(BOMB, task="some.task", id="x", compression="application/x-bz2"),
    "a pickle": celery_message(b"\x80\x05cposix\nsystem\n(S'false'\ntR.", task="some.task").replace(
        b"application/json", b"application/x-python-serialize"
    ),
    "a long one": celery_message(b"x" * 3_000_000, task="some.task"),
    "deep": b'{"headers":' * 30_000,
    "a task that is a list": celery_message(b"[]", task=["some.task"]),
    "headers that name nothing": celery_message(b"[]"),
}
HOSTILE_COMMANDS = {
    "no JSON": b"\xff\x00",
    "a list": b"[]",
    "a number": b"5",
    "deep": b"[" * 50_000,
    "no headers": b"{}",
    "long": command("ping", arguments={"x": "y" * 100_000}),
    "a bomb": celery_message(zlib.compress(b"[]"), compression="application/x-gzip"),
    "no method": celery_message(b"{}"),
    "a method that is a list": command(["ping"]),
    "arguments that are a list": command("ping", arguments=["x"]),
    "a regular expression": command("ping", pattern="(a+)+$", matcher="pcre"),
    "an answer elsewhere": command("ping", reply_to={"exchange": "", "routing_key": "default"}, ticket="x"),
    "an answer without a ticket": command("ping", reply_to={"exchange": "reply.celery.pidbox", "routing_key": "x"}),
}


@pytest.mark.parametrize("message", HOSTILE_COMMANDS.values(), ids=HOSTILE_COMMANDS)
def test_a_command_of_another_form_is_refused(message: bytes) -> None:
    with pytest.raises(Refused):
        read(message, 65_536)


def test_a_command_is_made_anew_from_what_is_known_of_it() -> None:
    message = read(command("ping", arguments={"state": 1, "x": 2}, destination=["a", 5], other="y"), 65_536)
    assert message["headers"] == {}
    assert orjson.loads(b64decode(message["body"])) == {"method": "ping", "arguments": {"x": 2}, "destination": ["a"]}


async def test_hostile_messages_cost_a_line_a_flood_and_nothing_else(
    client: Client, redis_connection: Any, counts: Counts, worker: WorkerProcess
) -> None:
    others = counts().get("messages of other tasks", 0)
    flood = celery_message(b"[]", task="flood")
    for message in HOSTILE_HINTS.values():
        redis_connection.lpush("default", message)
    for _ in range(20):
        redis_connection.lpush("default", *[flood] * 100)
    for message in HOSTILE_COMMANDS.values():
        redis_connection.publish(CHANNEL, message)
    for _ in range(200):
        redis_connection.publish(CHANNEL, b"flood")
    for _ in range(50):
        redis_connection.publish(CHANNEL, command("shutdown"))
        redis_connection.publish(CHANNEL, command("x" * 1000))
        redis_connection.publish(CHANNEL, command("revoke"))
    job = await client.enqueue(NoOp())
    assert (await client.wait(job.id, timeout=30)).state is State.SUCCEEDED
    await eventually(lambda: counts().get("messages of other tasks", 0) >= others + 2000)
    assert worker.process.poll() is None
    assert worker.probe("/readyz")[0] == 200
    said = worker.events(FOREIGN)
    assert len([line for line in said if "flood" in line["reason"]]) <= 2
    assert any(line["reason"] == "longer than 65536 bytes" for line in said)
    assert len(worker.events(CONTROL, reason="malformed: JSONDecodeError")) <= 2
    assert worker.events("refused a remote control command", reason="shutdown")
    refused = [line["reason"] for line in worker.events("refused a remote control command")]
    assert 1 <= len([reason for reason in refused if reason.startswith("revoke: TypeError")]) <= 2
    assert not worker.events_like("pidbox command error")
    assert "Traceback" not in worker.log
    # No more memory than the bytes that came: the bomb would have been 200 MB.
    status = await asyncio.to_thread(Path(f"/proc/{worker.pid}/status").read_text)
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    assert peak < 200_000


async def test_every_other_command_of_celery_is_refused_in_words(
    client: Client, redis_url: str, worker: WorkerProcess
) -> None:
    name = worker.events("worker starting")[0]["name"]
    refused = [*sorted(set(Panel.data) - set(ANSWERED)), "anything"]
    assert {"cancel_consumer", "add_consumer", "shutdown", "pool_restart", "rate_limit", "time_limit", "conf"} <= set(
        refused
    )
    with Celery(broker=redis_url, set_as_current=False) as application:
        for method in refused:
            (answer,) = application.control.broadcast(
                method, arguments={}, destination=[name], reply=True, timeout=10, limit=1
            )
            assert f"does not take {method!r}" in answer[name]["error"]
        too_many = application.control.broadcast(
            "revoke", arguments={"task_id": ["x"] * 1001}, destination=[name], reply=True, timeout=10, limit=1
        )
    assert "at most 1000 at once" in too_many[0][name]["error"]
    job = await client.enqueue(NoOp())
    assert (await client.wait(job.id, timeout=20)).state is State.SUCCEEDED
    assert worker.probe("/readyz") == (200, "ok")


HOSTILE_TABLES = {
    "no table": (b"x", b"", b"\xff\xfe"),
    "another's list": (f"asked{SEPARATOR}{SEPARATOR}default",),
    "another's set": (f"asked{SEPARATOR}{SEPARATOR}carafe:busy",),
    "thousands for one": tuple(f"asked{SEPARATOR}{SEPARATOR}{number}.{ANSWERS}" for number in range(1_000)),
}


@pytest.mark.parametrize("members", HOSTILE_TABLES.values(), ids=HOSTILE_TABLES)
async def test_an_answer_goes_nowhere_but_to_who_asked(
    members: tuple[str | bytes, ...], redis_connection: Any, redis_url: str, worker: WorkerProcess
) -> None:
    table = f"_kombu.binding.{ANSWERS}"
    redis_connection.sadd(table, *members)
    foreign = len(worker.events(FOREIGN))
    redis_connection.publish(CHANNEL, command("ping", reply_to={"exchange": ANSWERS, "routing_key": "asked"}, ticket="x"))
    with Celery(broker=redis_url, set_as_current=False) as application:
        # Who asks as Celery does is answered all the same, and after the other.
        assert application.control.broadcast("ping", reply=True, timeout=10, limit=1)
    redis_connection.srem(table, *members)
    assert [key for key in redis_connection.keys(f"*.{ANSWERS}") if not key.startswith(b"_kombu")] == []
    assert len(worker.events(FOREIGN)) == foreign
    assert worker.events_like("Control command error") == []


async def test_a_key_of_celerys_that_is_somebody_elses_keeps_no_worker_from_its_jobs(
    client: Client, redis_connection: Any, start_worker: StartWorker
) -> None:
    taken = ["_kombu.binding.default", "_kombu.binding.celery.pidbox", "_kombu.binding_deadlines"]
    redis_connection.delete(*taken)
    redis_connection.mset(dict.fromkeys(taken, "somebody else's"))
    try:
        worker = await start_worker()
        job = await client.enqueue(NoOp())
        assert (await client.wait(job.id, timeout=20)).state is State.SUCCEEDED
        assert worker.events(CONTROL, reason="another program uses the key of one of Celery's tables")
        await worker.stop()
    finally:
        redis_connection.delete(*taken)


async def test_what_is_remembered_of_kinds_is_short(
    client: Client, redis_connection: Any, counts: Counts, worker: WorkerProcess
) -> None:
    before = counts().get("hints malformed", 0) + counts().get("messages of other tasks", 0)
    idle = memory_of(worker.pid)
    for size in (60_000, 1_000_000):
        for number in range(100):
            kind = f"{number}".encode() + b"x" * size
            redis_connection.lpush("default", HEAD + str(uuid4()).encode() + AFTER_ID + kind + b'"}}')

    def dropped() -> bool:
        return counts().get("hints malformed", 0) + counts().get("messages of other tasks", 0) == before + 200

    await eventually(dropped, 30)
    job = await client.enqueue(NoOp())
    assert (await client.wait(job.id, timeout=20)).state is State.SUCCEEDED
    # Kept, they would be 200 MB: each as it came and as text.
    assert memory_of(worker.pid) < idle + 80_000


def memory_of(pid: int) -> int:
    """Kilobytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
