"""Only the leader shows the gauges of the whole installation, from the newest sample and from Redis."""

from typing import Any

import pytest
import redis

from carafe import Client
from carafe.jobs.queue_name import QUEUE
from carafe.queue.redis_rights import BUSY, RUNNING
from carafe.steward import Steward, exported
from carafe.telemetry import metrics
from carafe.telemetry.instruments import Gauge, Readings
from tests.jobs.kinds import Greet

DEFAULT = (QUEUE,)


@pytest.fixture
async def leader(carafe_client: Client) -> Steward:
    """A steward that leads, and whose services the test drives by hand."""
    steward = Steward(carafe_client.database, carafe_client.queue, name="by hand")
    assert await steward.lease.renew()
    return steward


def shown(steward: Steward) -> dict[Gauge, Readings]:
    return {metric: values for metric in metrics.LED if (values := steward.exporter.values(metric))}


async def look(steward: Steward) -> None:
    await steward.sampler.work()
    await steward.exporter.work()


async def test_a_leader_shows_them_all(leader: Steward, carafe_client: Client) -> None:
    for _ in range(3):
        await carafe_client.enqueue(Greet(name="ada"))
    await carafe_client.enqueue(Greet(name="ada"), delay=60)
    await look(leader)
    found = shown(leader)
    assert set(found) == set(metrics.LED)
    assert found[metrics.JOBS_QUEUED] == found[metrics.SCALING_QUEUED] == {DEFAULT: 3}
    assert found[metrics.JOBS_SCHEDULED] == {DEFAULT: 1}
    assert found[metrics.OLDEST_WAIT][DEFAULT] > 0
    assert found[metrics.WORKERS] == {(): 0}
    assert found[metrics.PAUSED] == {DEFAULT: 0}


async def test_one_that_has_lost_the_lease_shows_nothing_at_once(leader: Steward) -> None:
    await look(leader)
    assert shown(leader)
    await leader.lease.release()
    assert shown(leader) == {}


async def test_what_is_old_is_not_shown(leader: Steward, monkeypatch: pytest.MonkeyPatch) -> None:
    await look(leader)
    monkeypatch.setattr(exported, "FRESH", 0.0)
    assert shown(leader) == {}


async def test_redis_that_is_away_takes_only_its_own_along(
    leader: Steward, carafe_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> None:
        raise redis.ConnectionError

    monkeypatch.setattr(carafe_client.queue.redis, "eval", away)
    await look(leader)
    assert set(shown(leader)) == set(metrics.LED) - exported.OF_REDIS


async def test_what_no_worker_has_said_of_late_is_not_counted_for_long(leader: Steward, carafe_redis_url: str) -> None:
    with redis.Redis.from_url(carafe_redis_url) as connection:
        now = int(connection.time()[0])
        said = {"said just now": now + 10, "said a minute ago": now - 50, "to count for ever": 9e15, "without end": "inf"}
        for key in (RUNNING, BUSY):
            connection.zadd(key, said)
        await look(leader)
        assert [connection.zrange(key, 0, -1) for key in (RUNNING, BUSY)] == [[b"said just now"]] * 2
    assert shown(leader)[metrics.SCALING_RUNNING] == shown(leader)[metrics.SCALING_BUSY] == {DEFAULT: 1}


async def test_a_policy_that_evicts_is_told(leader: Steward, carafe_redis_url: str) -> None:
    with redis.Redis.from_url(carafe_redis_url) as connection:
        try:
            connection.config_set("maxmemory-policy", "allkeys-lru")
            await look(leader)
            assert leader.exporter.values(metrics.REDIS_NOEVICTION) == {(): 0}
        finally:
            connection.config_set("maxmemory-policy", "noeviction")
    await look(leader)
    assert leader.exporter.values(metrics.REDIS_NOEVICTION) == {(): 1}
