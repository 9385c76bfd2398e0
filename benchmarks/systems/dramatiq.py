"""dramatiq on Redis: threads. Prefetch is raised by its documented variable (twice the threads is the default)."""

from benchmarks.systems.system import CORES, SLOTS, WAITS, Setting, System, Worker


def _worker(processes: int, threads: int, prefetch: int) -> Worker:
    command = ("dramatiq", "peer", "-p", str(processes), "-t", str(threads), "--skip-logging")
    return Worker(command, {"dramatiq_queue_prefetch": str(prefetch)})


DRAMATIQ = System(
    name="dramatiq",
    peer="dramatiq",
    settings={
        SLOTS: Setting((_worker(1, 5, 100),), "`-p 1 -t 5`, dramatiq_queue_prefetch=100", 8_000),
        CORES: Setting((_worker(2, 5, 500),), "`-p 2 -t 5`, dramatiq_queue_prefetch=500", 10_000),
        WAITS: Setting(
            (Worker(("dramatiq-gevent", "peer", "-p", "1", "-t", "1000", "--skip-logging")),),
            "`dramatiq-gevent -p 1 -t 1000` (its AsyncIO middleware holds a thread a job, and was slower)",
        ),
    },
    bulk=6_000,
)
