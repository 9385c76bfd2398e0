"""Plain Celery on Redis: prefork and solo, each with and without a Redis result backend; gevent for the waits.

From its "Optimizing" guide: a high prefetch multiplier for many short tasks (128; 4 is the default and is as fast here).
Gossip, mingle and the event heartbeat are off, as its documentation advises where nobody uses them: a second less of
start and a few per cent of rate. Remote control stays on. Celery documents no bulk: a loop on one held producer.
"""

import os

from benchmarks.systems.system import CORES, CPU, SLOTS, WAITS, Setting, System, Worker


def _worker(pool: str, concurrency: int, node: str = "a") -> Worker:
    options = ("--without-gossip", "--without-mingle", "--without-heartbeat")
    return Worker(
        (
            "celery",
            "-A",
            "peer",
            "worker",
            "-P",
            pool,
            "-c",
            str(concurrency),
            "-n",
            f"{node}@%h",
            "-l",
            "WARNING",
            *options,
        ),
        {"BENCH_PREFETCH": "128" if pool != "gevent" else "1"},
    )


def _celery(pool: str, *, results: bool) -> System:
    slots = 5 if pool == "prefork" else 1
    processes = "five child processes" if pool == "prefork" else "one task at a time, its only way"
    settings = {SLOTS: Setting((_worker(pool, slots),), f"`-P {pool} -c {slots}`: {processes}", 2_000)}
    if not results:  # the slower kind has no best of its own
        two = (_worker(pool, 1, "a"), _worker(pool, 1, "b"))
        if pool == "prefork":
            cores = os.cpu_count() or 1
            settings[CPU] = Setting((_worker(pool, cores),), f"`-P prefork -c {cores}`", 1_000)
        settings[CORES] = Setting(two, f"two workers, `-P {pool} -c 1` each (the parents are the bottleneck)", 4_000)
    return System(
        name=f"celery {pool}" + (", result backend" if results else ""),
        peer="celery",
        variables={"BENCH_RESULTS": "1"} if results else {},
        settings=settings,
        bulk=4_000 if pool == "prefork" else 0,
    )


PREFORK = _celery("prefork", results=False)
PREFORK_RESULTS = _celery("prefork", results=True)
SOLO = _celery("solo", results=False)
SOLO_RESULTS = _celery("solo", results=True)
GEVENT = System(
    name="celery gevent",
    peer="celery",
    settings={WAITS: Setting((_worker("gevent", 1_000),), "`-P gevent -c 1000` (Celery has no asyncio pool)")},
)
