"""pgqueuer on Postgres: asyncpg, durable tables (its default)."""

import asyncio
import os

import asyncpg
import uvloop
from pgqueuer import PgQueuer, Queries

from benchmarks import probe
from benchmarks.producer import Producer

DSN = os.environ["DATABASE_URL"]


async def serve(limit, batch, in_hand):
    pgq = PgQueuer.from_asyncpg_connection(await asyncpg.connect(DSN))

    @pgq.entrypoint("noop", concurrency_limit=limit)
    async def noop(job):
        probe.started(int(job.payload))

    @pgq.entrypoint("wait")
    async def wait(job):
        probe.started()
        await asyncio.sleep(float(job.payload))
        probe.ended()

    await pgq.run(batch_size=batch, max_concurrent_tasks=in_hand)


def work():
    """The worker process: `PgQueuer.run` with the arguments that `pgq run` has, on uvloop."""
    numbers = (int(os.environ.get(name, "0")) for name in ("BENCH_LIMIT", "BENCH_BATCH", "BENCH_IN_HAND"))
    limit, batch, in_hand = numbers
    uvloop.run(serve(limit, batch or 10, in_hand or None))


class PgqueuerProducer(Producer):
    async def prepare(self):
        connection = await asyncpg.connect(DSN)
        await Queries.from_asyncpg_connection(connection).install()
        await connection.close()

    async def open(self):
        self.connection = await asyncpg.connect(DSN)
        self.queries = Queries.from_asyncpg_connection(self.connection)

    async def close(self):
        await self.connection.close()

    async def enqueue(self, number):
        await self.queries.enqueue("noop", b"%d" % number)

    async def enqueue_many(self, numbers):
        for begin in range(0, len(numbers), 1000):
            some = numbers[begin : begin + 1000]
            await self.queries.enqueue(["noop"] * len(some), [b"%d" % number for number in some], [0] * len(some))

    async def enqueue_waits(self, count, seconds):
        await self.queries.enqueue(["wait"] * count, [b"%f" % seconds] * count, [0] * count)


PRODUCER = PgqueuerProducer()
