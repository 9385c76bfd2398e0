"""taskiq on Redis streams (the broker with acknowledgement), uvloop, orjson."""

import asyncio
import os

from taskiq.serializers import ORJSONSerializer
from taskiq_redis import RedisStreamBroker

from benchmarks import probe
from benchmarks.producer import Producer

broker = RedisStreamBroker(
    os.environ["REDIS_URL"],
    consumer_id="0",  # the jobs of a drain are in the stream before its first worker is
    xread_count=int(os.environ.get("BENCH_BATCH", "100")),
).with_serializer(ORJSONSerializer())


@broker.task("noop")
async def noop(number=-1):
    probe.started(number)


@broker.task("wait")
async def wait(seconds):
    probe.started()
    await asyncio.sleep(seconds)
    probe.ended()


class TaskiqProducer(Producer):
    async def open(self):
        await broker.startup()

    async def close(self):
        await broker.shutdown()

    async def enqueue(self, number):
        await noop.kiq(number)

    async def enqueue_many(self, numbers):
        # No bulk: as many at a time as pays on one connection pool.
        for begin in range(0, len(numbers), 100):
            await asyncio.gather(*[noop.kiq(number) for number in numbers[begin : begin + 100]])

    async def enqueue_waits(self, count, seconds):
        await asyncio.gather(*[wait.kiq(seconds) for _ in range(count)])


PRODUCER = TaskiqProducer()
