"""huey on Redis: blocking pops, results off, periodic tasks off (`-n`), hiredis. A popped job dies with its worker."""

from benchmarks.systems.system import CORES, SLOTS, WAITS, Program, Setting, System, Worker


def _worker(kind: str, workers: int) -> Worker:
    return Worker(("huey_consumer", "peer.huey", "-k", kind, "-w", str(workers), "-n", "-q"))


HUEY = System(
    name="huey",
    peer="huey",
    settings={
        SLOTS: Setting((_worker("thread", 5),), "`-k thread -w 5 -n`, results off", 10_000),
        CORES: Setting((_worker("process", 4),), "`-k process -w 4 -n`, results off", 12_000),
        WAITS: Setting(
            (
                Worker(
                    (
                        "python",
                        "-m",
                        "gevent.monkey",
                        Program("huey_consumer"),
                        "peer.huey",
                        "-k",
                        "greenlet",
                        "-w",
                        "1000",
                        "-n",
                        "-q",
                    )
                ),
            ),
            "`-k greenlet -w 1000 -n` under `python -m gevent.monkey`",
        ),
    },
    bulk=8_000,
)
