"""Carafe's producing side: its asynchronous client, as an application uses it."""

import os
from collections.abc import Sequence

from benchmarks.carafe_jobs import Cpu, CpuProcess, Fail, Noop, Thread, Wait
from benchmarks.producer import Producer
from carafe import Client
from carafe.store.database import migrate

_BULK = 10_000


class CarafeProducer(Producer):
    """Enqueues through `carafe.jobs.Client`; making and validating the job objects is part of what is timed."""

    async def prepare(self) -> None:
        await migrate(os.environ["DATABASE_URL"])

    async def open(self) -> None:
        self.client = Client.connect(database_url=os.environ["DATABASE_URL"], redis_url=os.environ["REDIS_URL"])

    async def close(self) -> None:
        await self.client.close()

    async def enqueue(self, number: int) -> None:
        await self.client.enqueue(Noop(x=number))

    async def enqueue_many(self, numbers: Sequence[int]) -> None:
        for begin in range(0, len(numbers), _BULK):
            await self.client.enqueue_many([Noop(x=number) for number in numbers[begin : begin + _BULK]])

    async def enqueue_waits(self, count: int, seconds: float) -> None:
        await self.client.enqueue_many([Wait(seconds=seconds) for _ in range(count)])

    async def enqueue_kind(self, name: str, count: int) -> None:
        kind = {"thread": Thread, "fail": Fail, "cpu": Cpu, "cpu process": CpuProcess}[name]
        for begin in range(0, count, _BULK):
            await self.client.enqueue_many([kind() for _ in range(min(_BULK, count - begin))])

    async def enqueue_later(self, count: int) -> None:
        for _ in range(count):
            await self.client.enqueue(Noop(), delay=86_400)


PRODUCER = CarafeProducer()
