"""dbos on Postgres: one workflow a job (it records results and can resume them: more than a queue does).

It polls: 1 ms between polls is the fastest that made sense (1 s is the default, and would bound 5 slots to 5 jobs/s).
"""

from benchmarks.systems.system import CORES, SLOTS, WAITS, Setting, System, Worker

_COMMAND = ("python", "-c", "import peer; peer.work()")

DBOS = System(
    name="dbos",
    peer="dbos",
    ends="select count(*), max(updated_at) / 1000.0 from dbos.workflow_status where status = 'SUCCESS'",
    settings={
        SLOTS: Setting((Worker(_COMMAND, {"BENCH_LIMIT": "5"}),), "worker_concurrency=5, polled every millisecond", 1_500),
        CORES: Setting(
            tuple(Worker(_COMMAND, {"BENCH_EXECUTOR": name}) for name in "ab"),
            "two processes, no limit, polled every millisecond",
            3_000,
        ),
        WAITS: Setting((Worker(_COMMAND),), "no limit, polled every millisecond"),
    },
    bulk=3_000,
    note="bulk: 1,000 `enqueue_in_transaction` a transaction (no bulk call)",
)
