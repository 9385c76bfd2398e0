"""oban on Postgres: psycopg's pool, orjson and uvloop as its own command uses them, metrics off."""

import asyncio
import os

import orjson
from oban import Oban, worker
from oban.schema import install
from psycopg.types.json import set_json_dumps, set_json_loads
from psycopg_pool import AsyncConnectionPool

from benchmarks import probe
from benchmarks.producer import Producer

DSN = os.environ["DATABASE_URL"]
set_json_dumps(orjson.dumps)
set_json_loads(orjson.loads)


@worker(queue="default")
class Noop:
    async def process(self, job):
        probe.started(job.args["number"])


@worker(queue="default")
class Wait:
    async def process(self, job):
        probe.started()
        await asyncio.sleep(job.args["seconds"])
        probe.ended()


def pool():
    return AsyncConnectionPool(conninfo=DSN, min_size=1, max_size=10, open=False)


class ObanProducer(Producer):
    async def prepare(self):
        async with pool() as connections:
            await install(connections)

    async def open(self):
        self.pool = pool()
        await self.pool.open()
        self.oban = Oban(pool=self.pool)

    async def close(self):
        await self.pool.close()

    async def enqueue(self, number):
        await self.oban.enqueue(Noop.new({"number": number}))

    async def enqueue_many(self, numbers):
        for begin in range(0, len(numbers), 1000):
            await self.oban.enqueue_many([Noop.new({"number": number}) for number in numbers[begin : begin + 1000]])

    async def enqueue_waits(self, count, seconds):
        await self.oban.enqueue_many([Wait.new({"seconds": seconds}) for _ in range(count)])


PRODUCER = ObanProducer()
