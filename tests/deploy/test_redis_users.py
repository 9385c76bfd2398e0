"""The users of Redis may do what they must, on a real server: a worker as `carafe`, the autoscaler's count as `keda`."""

from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError

from carafe.engine.scaling import BUSY, RUNNING
from carafe.jobs import Client, State
from carafe.jobs.hints import QUEUE
from tests.deploy.manifests import KUSTOMIZE, the
from tests.engine.conftest import workers
from tests.engine.jobs import OnRedis
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


async def test_a_worker_and_its_client_need_no_more_than_they_may(
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
    }
    async with (
        workers(environment, tmp_path_factory) as start,
        Client.connect(database_url=database_url, redis_url=url) as client,
    ):
        worker = await start()
        job = await client.enqueue(OnRedis(gate="gate"))
        await eventually(lambda: root.zcard(RUNNING) == 1)
        root.lpush("gate", "open")

        async def done() -> bool:
            return (await client.get(job.id)).state is State.SUCCEEDED

        await eventually(done)
        await worker.stop()
    assert root.acl_log() == []


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
