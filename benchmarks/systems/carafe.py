"""Carafe as it ships: hooks, limits, validation, probes, steward and heartbeat on; nothing is turned off for a number."""

import os
import sys

from benchmarks.systems.system import CORES, CPU, SLOTS, WAITS, Setting, System, Worker

_WORKER = (sys.executable, "-m", "carafe", "serve", "--worker")

CARAFE = System(
    name="carafe",
    peer=None,
    producer="benchmarks.carafe_producer",
    ends="select count(*), extract(epoch from max(ended_at)) from carafe.jobs_ended where state = 'succeeded'",
    variables={
        "JOB_MODULES": "benchmarks.carafe_jobs",
        "HANDLER_MODULES": "benchmarks.carafe_handlers",
        "WORKER_APPLICATION": "carafe.engine.application:app",
        "MIGRATIONS": "",
        "LOG_LEVEL": "WARNING",
        "PROBE_PORT": "0",
    },
    settings={
        SLOTS: Setting((Worker(_WORKER, {"WORKER_CONCURRENCY": "5"}),), "`carafe serve --worker`, the defaults", 100_000),
        CORES: Setting((Worker(_WORKER),) * 2, "two such processes, 5 slots each", 150_000),
        WAITS: Setting((Worker(_WORKER, {"WORKER_CONCURRENCY": "1000"}),), "WORKER_CONCURRENCY=1000"),
        CPU: Setting(
            (Worker(_WORKER, {"WORKER_CONCURRENCY": str(os.cpu_count() or 1)}),), "WORKER_CONCURRENCY = the cores", 1_000
        ),
    },
    bulk=100_000,
    note="`enqueue_many` with 10,000 jobs a call, validation included; steward, probes, heartbeat and hooks on",
)
