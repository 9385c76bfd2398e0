"""dbos on Postgres: one durable workflow a job, system database pool of 20, the queue polled as often as it allows."""

import asyncio
import os
import signal

import sqlalchemy
from dbos import DBOS, DBOSClient

from benchmarks import probe
from benchmarks.producer import Producer

DSN = os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://")
QUEUE = "default"


@DBOS.workflow(name="noop")
def noop(number=-1):
    probe.started(number)


@DBOS.workflow(name="wait")
async def wait(seconds):
    probe.started()
    await asyncio.sleep(seconds)
    probe.ended()


def launch():
    DBOS(
        config={
            "name": "peer",
            "system_database_url": DSN,
            "log_level": "WARNING",
            "application_version": "1",
            "executor_id": os.environ.get("BENCH_EXECUTOR", "local"),
            "sys_db_pool_size": 20,
        }
    )
    DBOS.launch()
    limit = int(os.environ.get("BENCH_LIMIT", "0"))
    DBOS.register_queue(
        QUEUE,
        worker_concurrency=limit or None,
        polling_interval_sec=float(os.environ.get("BENCH_POLL", "0.001")),
        on_conflict="always_update",
    )


class DbosProducer(Producer):
    async def prepare(self):
        await asyncio.to_thread(launch)
        await asyncio.to_thread(DBOS.destroy)

    async def open(self):
        self.client = DBOSClient(system_database_url=DSN, application_name="peer")
        self.engine = sqlalchemy.create_engine(DSN)

    async def close(self):
        self.engine.dispose()
        self.client.destroy()

    async def enqueue(self, number):
        self.client.enqueue({"workflow_name": "noop", "queue_name": QUEUE}, number)

    async def enqueue_many(self, numbers):
        # No bulk, but many in one transaction of the caller's own: a thousand.
        for begin in range(0, len(numbers), 1000):
            with self.engine.begin() as connection:
                for number in numbers[begin : begin + 1000]:
                    self.client.enqueue_in_transaction(connection, {"workflow_name": "noop", "queue_name": QUEUE}, number)

    async def enqueue_waits(self, count, seconds):
        with self.engine.begin() as connection:
            for _ in range(count):
                self.client.enqueue_in_transaction(connection, {"workflow_name": "wait", "queue_name": QUEUE}, seconds)


def work():
    """The worker process: `python -c "import peer; peer.work()"`."""
    launch()
    signal.sigwait([signal.SIGTERM, signal.SIGINT])


PRODUCER = DbosProducer()
