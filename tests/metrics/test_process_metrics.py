"""A process's metrics about itself: the lag of its loop, and whether servers answer."""

import asyncio

import pytest

from carafe.process.metrics import LOOK, WINDOW, LoopLag, vitals
from carafe.queue.queue import Queue
from carafe.store.database import Database
from carafe.telemetry import metrics
from tests.proxy import Proxy
from tests.waiting import eventually


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lag(clock: Clock) -> LoopLag:
    return LoopLag(clock)


def pass_by(clock: Clock, lag: LoopLag, seconds: float) -> None:
    """Looks that are on time, for so long."""
    for _ in range(round(seconds / LOOK)):
        clock.now += LOOK
        lag.looked()


def test_a_loop_on_time_has_no_lag(clock: Clock, lag: LoopLag) -> None:
    pass_by(clock, lag, 60)
    assert lag.seconds() == pytest.approx(0)


def test_a_lag_is_shown_for_one_window_at_least_and_two_at_most(clock: Clock, lag: LoopLag) -> None:
    clock.now += LOOK + 3
    lag.looked()
    pass_by(clock, lag, WINDOW - 1)
    assert lag.seconds() == pytest.approx(3)
    pass_by(clock, lag, WINDOW + 2)
    assert lag.seconds() == pytest.approx(0)


def test_a_loop_that_stands_still_is_late_while_it_does(clock: Clock, lag: LoopLag) -> None:
    pass_by(clock, lag, 5)
    clock.now += LOOK + 7
    assert lag.seconds() == pytest.approx(7)


def test_the_worst_of_a_window_counts(clock: Clock, lag: LoopLag) -> None:
    for late in (1, 4, 2):
        clock.now += LOOK + late
        lag.looked()
    assert lag.seconds() == pytest.approx(4)


async def test_servers_that_go_away_and_come_back(
    carafe_database_url: str, carafe_redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carafe.process.metrics.INTERVAL", 0.05)
    postgres, redis = Proxy(carafe_database_url), Proxy(carafe_redis_url)
    await postgres.listen()
    await redis.listen()
    database, queue = Database(postgres.url, pool_size=1), Queue(redis.url)

    def up() -> tuple[float | None, float | None]:
        return metrics.POSTGRES_UP.read().get(()), metrics.REDIS_UP.read().get(())

    try:
        async with vitals(database, queue):
            await eventually(lambda: up() == (1, 1))
            await redis.refuse()
            await eventually(lambda: up() == (1, 0))
            await postgres.refuse()
            await eventually(lambda: up() == (0, 0))
            assert metrics.POSTGRES_SECONDS.read() == metrics.REDIS_SECONDS.read() == {}
            await redis.listen()
            await postgres.listen()
            await eventually(lambda: up() == (1, 1))
        assert up() == (None, None), "a process that has ended says nothing any more"
    finally:
        await queue.close()
        await database.close()
        for proxy in (postgres, redis):
            await proxy.refuse()


async def test_a_pool_that_is_full_is_no_postgres_that_is_away(
    carafe_database_url: str, carafe_redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carafe.process.metrics.INTERVAL", 0.05)
    database, queue = Database(carafe_database_url, pool_size=1), Queue(carafe_redis_url)
    monkeypatch.setattr(database, "_connect_timeout", 0.1)
    looks = asyncio.Event()
    try:
        async with vitals(database, queue):
            await eventually(lambda: metrics.POSTGRES_UP.read() == {(): 1})
            async with database.connection():
                busy = 0
                original = database.connection

                def counting() -> object:
                    nonlocal busy
                    busy += 1
                    if busy > 2:
                        looks.set()
                    return original()

                monkeypatch.setattr(database, "connection", counting)
                async with asyncio.timeout(20):
                    await looks.wait()
                assert metrics.POSTGRES_UP.read() == {(): 1}
    finally:
        await queue.close()
        await database.close()
