"""Whoever can write to Redis can send a worker anything: it goes on, says so once a flood, and does nothing that it is told
beside the five commands of Celery's remote control that remain."""

import asyncio
import bz2
import zlib
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import orjson
import pytest
from celery import Celery
from celery.worker.control import Panel

from carafe.engine.control import ANSWERED, Refused, read
from carafe.jobs import Client, State
from tests.engine.conftest import Counts
from tests.engine.jobs import NoOp
from tests.engine.worker_process import WorkerProcess
from tests.waiting import eventually

pytestmark = pytest.mark.process

CHANNEL = "/0.celery.pidbox"
FOREIGN = "dropped messages that are no hints"
CONTROL = "dropped remote control messages"


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


BOMB = bz2.compress(bytes(200_000_000))
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
