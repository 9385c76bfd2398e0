"""procrastinate on Postgres: psycopg's asynchronous pool, LISTEN/NOTIFY on, jobs kept after their end (its default)."""

import asyncio
import os

from procrastinate import App, PsycopgConnector

from benchmarks import probe
from benchmarks.producer import Producer

app = App(
    connector=PsycopgConnector(
        conninfo=os.environ["DATABASE_URL"],
        min_size=int(os.environ.get("BENCH_POOL", "4")),
        max_size=int(os.environ.get("BENCH_POOL", "10")),
    )
)


@app.task(name="noop")
async def noop(number=-1):
    probe.started(number)


@app.task(name="wait")
async def wait(seconds):
    probe.started()
    await asyncio.sleep(seconds)
    probe.ended()


class ProcrastinateProducer(Producer):
    async def prepare(self):
        async with app.open_async():
            await app.schema_manager.apply_schema_async()

    async def open(self):
        await app.open_async()

    async def close(self):
        await app.close_async()

    async def enqueue(self, number):
        await noop.defer_async(number=number)

    async def enqueue_many(self, numbers):
        for begin in range(0, len(numbers), 1000):
            await noop.batch_defer_async(*[{"number": number} for number in numbers[begin : begin + 1000]])

    async def enqueue_waits(self, count, seconds):
        await wait.batch_defer_async(*[{"seconds": seconds}] * count)


PRODUCER = ProcrastinateProducer()
