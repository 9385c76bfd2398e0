"""oban (oban-py) on Postgres: its own command, which uses uvloop and orjson; metrics off, as it ships."""

from benchmarks.systems.system import CORES, SLOTS, WAITS, Setting, System, Worker


def _worker(limit: int) -> Worker:
    command = ("oban", "start", "--cron-modules", "peer", "--log-level", "WARNING")
    return Worker((*command, "--queues", f"default:{limit}"))


OBAN = System(
    name="oban",
    peer="oban",
    ends="""select count(*), extract(epoch from max(completed_at at time zone 'UTC'))
        from oban_jobs where state = 'completed'""",
    settings={
        SLOTS: Setting((_worker(5),), "`oban start --queues default:5`", 4_000),
        CORES: Setting((_worker(1_000),) * 2, "two workers, `--queues default:1000` each", 24_000),
        WAITS: Setting((_worker(1_000),), "`oban start --queues default:1000`"),
    },
    bulk=8_000,
    note="bulk: `enqueue_many`, 1,000 a call; needs Python 3.12 or newer",
)
