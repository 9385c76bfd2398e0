"""The users of Redis have the rights that they need, on a real server: a worker as `carafe`, the autoscaler's count as
`keda`."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError

from carafe import Client, State
from carafe.jobs.queue_name import QUEUE
from carafe.queue.redis_rights import BUSY, RUNNING, acl
from carafe.store.postgres_rights import grants
from tests.deploy.manifests import KUSTOMIZE, the
from tests.engine.conftest import workers
from tests.engine.jobs import AsyncDo, NoOp
from tests.engine.worker_process import ROOT, bare_environment
from tests.waiting import eventually

pytestmark = pytest.mark.process

COUNT = """
if redis.call('type', KEYS[1]).ok == 'zset' then return redis.call('zcard', KEYS[1]) end
return redis.call('llen', KEYS[1])
"""
"""What KEDA's scaler does, in short: it looks at the type, and counts."""


def lines() -> list[str]:
    acl: str = the("Secret", "carafe-redis", KUSTOMIZE / "overlays/dev")["stringData"]["users.acl"]
    return acl.splitlines()


@pytest.fixture
def root(redis_url: str) -> Iterator["Redis"]:
    """The server of this session with the users of the manifest, but for `default`, which the other tests use."""
    with Redis.from_url(redis_url, decode_responses=True) as connection:
        users = [line.split()[1:] for line in lines() if line.split()[1] != "default"]
        for name, *rules in users:
            connection.execute_command("ACL", "SETUSER", name, "reset", *rules)
        connection.acl_log_reset()
        yield connection
        connection.acl_deluser(*(name for name, *_ in users))


def as_user(redis_url: str, name: str, password: str) -> str:
    return urlunsplit(urlsplit(redis_url)._replace(netloc=f"{name}:{password}@{redis_url.rpartition('@')[2].split('/')[0]}"))


def test_the_user_of_web_and_workers_may_do_what_the_code_lists_and_no_more() -> None:
    (rules,) = (line for line in lines() if line.startswith("user carafe "))
    assert rules.removeprefix("user carafe on >carafe-development ") == acl()
    document = (ROOT / "docs/deploy.md").read_text()
    assert f"user carafe on >$redis {acl()}\n" in document
    assert all(f"{grant};" in document for grant in grants("carafe_worker"))


async def test_a_worker_its_steward_and_its_client_need_no_more_than_they_may(
    root: "Redis", redis_url: str, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    url = as_user(redis_url, "carafe", "carafe-development")
    environment = {
        "DATABASE_URL": database_url,
        "REDIS_URL": url,
        "JOB_MODULES": "tests.engine.jobs",
        "HANDLER_MODULES": "tests.engine.handlers",
        "LOG_FORMAT": "json",
        "PROBE_PORT": "0",
        "DRAIN_TIMEOUT": "1",
    }
    async with (
        workers(environment, tmp_path_factory) as start,
        Client.connect(database_url=database_url, redis_url=url) as client,
    ):
        worker = await start()
        job = await client.enqueue(AsyncDo(what="for ever"))
        await eventually(lambda: root.zcard(RUNNING) == 1)
        asked = [sys.executable, "-m", "celery", "-A", "carafe.engine.application:app", "inspect", "active", "-t", "5"]
        answer = await asyncio.to_thread(
            subprocess.run, asked, capture_output=True, text=True, env=bare_environment() | environment, check=False
        )
        assert str(job.id) in answer.stdout, answer.stdout + answer.stderr
        await client.cancel(job.id)
        assert (await client.wait(job.id, timeout=20)).state is State.CANCELLED
        await client.pause()
        await client.resume()
        # The steward has looked at the list; a wiped one is filled by it.
        root.delete(QUEUE)
        again = await client.enqueue(NoOp(), delay=0.2)
        assert (await client.wait(again.id, timeout=20)).state is State.SUCCEEDED
        running = await client.enqueue(AsyncDo(what="for ever"))
        await eventually(lambda: root.zcard(RUNNING) == 1)
        await worker.stop()
        assert (await client.get(running.id)).state is State.QUEUED
    assert root.acl_log() == []
    root.delete(QUEUE)


def test_keda_counts_and_does_nothing_else(root: "Redis", redis_url: str) -> None:
    root.rpush(QUEUE, "hint")
    root.zadd(RUNNING, {"job": 1})
    root.set("other", "secret")
    with Redis.from_url(as_user(redis_url, "keda", "carafe-development-keda")) as keda:
        assert keda.ping()
        assert [keda.eval(COUNT, 1, key) for key in (QUEUE, RUNNING, BUSY)] == [1, 1, 0]
        for refused in (
            lambda: keda.eval(COUNT, 1, "other"),
            lambda: keda.lpop(QUEUE),
            lambda: keda.lrange(QUEUE, 0, -1),
            lambda: keda.get("other"),
            keda.flushall,
            lambda: keda.publish("carafe:cancels", ""),
        ):
            with pytest.raises(NoPermissionError):
                refused()
    root.delete(QUEUE, RUNNING, "other")


def test_the_probe_may_ping_and_nobody_comes_without_a_name(root: "Redis", redis_url: str) -> None:
    assert lines()[0] == "user default off"
    with Redis.from_url(as_user(redis_url, "probe", "probe")) as probe:
        assert probe.ping()
        with pytest.raises(NoPermissionError):
            probe.get("other")
    with (
        Redis.from_url(as_user(redis_url, "carafe", "wrong")) as stranger,
        pytest.raises(AuthenticationError),
    ):
        stranger.ping()
