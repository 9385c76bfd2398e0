"""pgqueuer on Postgres: asyncpg, uvloop, its default (durable) tables.

Five slots are `max_concurrent_tasks=5`, which it enforces in the database and allows with batches of at most half of it.
Without a limit it was at its best with batches of 500 (against 100 and 1,000; README.md).
"""

from benchmarks.systems.system import CORES, SLOTS, WAITS, Setting, System, Worker

_COMMAND = ("python", "-c", "import peer; peer.work()")

PGQUEUER = System(
    name="pgqueuer",
    peer="pgqueuer",
    ends="select count(*), extract(epoch from max(created)) from pgqueuer_log where status = 'successful'",
    settings={
        SLOTS: Setting(
            (Worker(_COMMAND, {"BENCH_BATCH": "2", "BENCH_IN_HAND": "5"}),), "max_concurrent_tasks=5, batch_size=2", 2_000
        ),
        CORES: Setting((Worker(_COMMAND, {"BENCH_BATCH": "500"}),) * 2, "two workers, no limit, batch_size=500", 60_000),
        WAITS: Setting((Worker(_COMMAND, {"BENCH_BATCH": "500"}),), "no limit, batch_size=500"),
    },
    bulk=80_000,
    note="bulk: `enqueue` with lists of 1,000",
)
