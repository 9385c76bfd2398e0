"""dramatiq on Redis: threads in one process, no result backend, default middleware without Prometheus."""

import asyncio
import logging
import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware.asyncio import AsyncIO

from benchmarks import probe
from benchmarks.producer import Producer

# The command has no option for the level: `--skip-logging` leaves it to the application.
logging.basicConfig(level=logging.WARNING)

broker = RedisBroker(url=os.environ["REDIS_URL"])
broker.add_middleware(AsyncIO())
dramatiq.set_broker(broker)


@dramatiq.actor(max_retries=3)
def noop(number=-1):
    probe.started(number)


@dramatiq.actor(max_retries=3)
async def wait(seconds):
    probe.started()
    await asyncio.sleep(seconds)
    probe.ended()


class DramatiqProducer(Producer):
    async def enqueue(self, number):
        noop.send(number)

    async def enqueue_many(self, numbers):
        # No bulk: `group(...).run()` is the same loop over broker.enqueue.
        for number in numbers:
            noop.send(number)

    async def enqueue_waits(self, count, seconds):
        for _ in range(count):
            wait.send(seconds)


PRODUCER = DramatiqProducer()
