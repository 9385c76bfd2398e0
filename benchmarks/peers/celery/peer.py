"""Celery on Redis. The worker is Celery's own command; everything else that is tuned stands in `conf` below."""

import os
import time

from celery import Celery

from benchmarks import probe
from benchmarks.producer import Producer

results = os.environ.get("BENCH_RESULTS") == "1"
app = Celery("peer", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"] if results else None)
app.conf.update(
    task_ignore_result=not results,
    # "Optimizing": many short tasks want a high multiplier (it names 50 to 150); 4 is the default.
    worker_prefetch_multiplier=int(os.environ.get("BENCH_PREFETCH", "4")),
    broker_connection_retry_on_startup=True,
)


@app.task(name="noop")
def noop(number=-1):
    probe.started(number)
    return {"ok": True}


@app.task(name="wait")
def wait(seconds):
    probe.started()
    time.sleep(seconds)  # yields in the gevent pool, which is the one used for waits
    probe.ended()


@app.task(name="cpu")
def cpu():
    probe.started()
    probe.work(0.01)
    probe.ended()


class CeleryProducer(Producer):
    async def open(self):
        self.producer = app.amqp.producer_pool.acquire(block=True)

    async def close(self):
        self.producer.release()

    async def enqueue(self, number):
        noop.apply_async((number,), producer=self.producer)

    async def enqueue_many(self, numbers):
        # Celery has no bulk: a loop on one held producer is the fastest that it documents.
        for number in numbers:
            noop.apply_async((number,), producer=self.producer)

    async def enqueue_waits(self, count, seconds):
        for _ in range(count):
            wait.apply_async((seconds,), producer=self.producer)

    async def enqueue_kind(self, name, count):
        tasks = {"cpu": cpu}
        for _ in range(count):
            tasks[name].apply_async((), producer=self.producer)


PRODUCER = CeleryProducer()
