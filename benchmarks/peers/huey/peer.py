"""huey on Redis: blocking pops, threads in one process, results off, periodic tasks off."""

import os
import time

from huey import RedisHuey

from benchmarks import probe
from benchmarks.producer import Producer

# One connection a worker: 1,000 greenlets want more than the pool's default.
huey = RedisHuey("peer", url=os.environ["REDIS_URL"] + "?max_connections=2000", results=False, blocking=True)


@huey.task()
def noop(number=-1):
    probe.started(number)


@huey.task()
def wait(seconds):
    probe.started()
    time.sleep(seconds)  # yields in the greenlet workers, which are the ones used for waits
    probe.ended()


class HueyProducer(Producer):
    async def enqueue(self, number):
        noop(number)

    async def enqueue_many(self, numbers):
        # No bulk.
        for number in numbers:
            noop(number)

    async def enqueue_waits(self, count, seconds):
        for _ in range(count):
            wait(seconds)


PRODUCER = HueyProducer()
