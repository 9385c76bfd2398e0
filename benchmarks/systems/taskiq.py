"""taskiq on Redis streams, its broker with acknowledgement: uvloop, orjson, acknowledged when done (its default)."""

from benchmarks.systems.system import CORES, SLOTS, WAITS, Setting, System, Worker


def _worker(processes: int, slots: int, prefetch: int) -> Worker:
    command = ("taskiq", "worker", "peer:broker", "--log-level", "WARNING", "--no-parse")
    numbers = ("--workers", str(processes), "--max-async-tasks", str(slots), "--max-prefetch", str(prefetch))
    return Worker((*command, *numbers), {"BENCH_BATCH": "500" if prefetch > 100 else "100"})


TASKIQ = System(
    name="taskiq, streams",
    peer="taskiq",
    settings={
        SLOTS: Setting((_worker(1, 5, 100),), "`--workers 1 --max-async-tasks 5 --max-prefetch 100 --no-parse`", 6_000),
        CORES: Setting(
            (_worker(2, 50, 500),),
            "`--workers 2 --max-async-tasks 50 --max-prefetch 500 --no-parse`, xread_count=500",
            8_000,
        ),
        WAITS: Setting((_worker(1, 1_000, 100),), "`--workers 1 --max-async-tasks 1000`"),
    },
    bulk=6_000,
    note="bulk: 100 `kiq` at a time on one connection pool (no bulk call)",
)
