"""procrastinate on Postgres: asynchronous tasks, LISTEN/NOTIFY on, ended jobs kept (its default)."""

from benchmarks.systems.system import CORES, SLOTS, WAITS, Setting, System, Worker


def _worker(concurrency: int) -> Worker:
    return Worker(("procrastinate", "--app=peer.app", "worker", "--concurrency", str(concurrency)))


PROCRASTINATE = System(
    name="procrastinate",
    peer="procrastinate",
    ends="select count(*), extract(epoch from max(at)) from procrastinate_events where type = 'succeeded'",
    settings={
        SLOTS: Setting((_worker(5),), "`worker --concurrency 5`, a pool of 4 to 10 connections", 1_000),
        CORES: Setting((_worker(5),) * 2, "two workers, `--concurrency 5` each", 1_000),
        WAITS: Setting((_worker(1_000),), "`worker --concurrency 1000`"),
    },
    bulk=20_000,
    note="bulk: `batch_defer`, 1,000 a call",
)
