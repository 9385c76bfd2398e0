"""The SQL of the job system: one file a statement in ``sql/``, each opened by a line that says what it guarantees.

The files name their parameters (``:ids``), so that the same text runs on asyncpg, where the hot path is, and through
SQLAlchemy on a caller's own session, whatever its driver.
"""

import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

_PARAMETER = re.compile(r"(?<![:\w]):([a-z_]+)\b")
_COMMENT = re.compile(r"--[^\n]*")


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL file. `text` has named parameters, `positional` has ``$1`` and on in the order of `parameters`."""

    name: str
    text: str
    positional: str
    parameters: tuple[str, ...]

    def arguments(self, **values: Any) -> tuple[Any, ...]:
        """The values in positional order. Raises ``KeyError`` for one that is missing, ``TypeError`` for one too many."""
        if len(values) != len(self.parameters):
            raise TypeError(f"{self.name}.sql takes {', '.join(self.parameters)}")
        return tuple(values[name] for name in self.parameters)


def statement(name: str, package: str = "carafe.jobs") -> Statement:
    """Read ``sql/NAME.sql`` of a package."""
    text = _COMMENT.sub("", files(package).joinpath("sql", f"{name}.sql").read_text()).strip()
    parameters = tuple(dict.fromkeys(_PARAMETER.findall(text)))
    positional = _PARAMETER.sub(lambda match: f"${parameters.index(match[1]) + 1}", text)
    return Statement(name, text, positional, parameters)


ENQUEUE = statement("enqueue")
UNIQUE_HOLDERS = statement("unique_holders")
REMEMBER_KEY = statement("remember_key")
RECALL_KEY = statement("recall_key")
ANSWER_KEY = statement("answer_key")
CLAIM = statement("claim")
FINISH = statement("finish")
FAIL = statement("fail")
SNOOZE = statement("snooze")
RELEASE = statement("release")
DEFER = statement("defer")
UNDEFER = statement("undefer")
PROGRESS = statement("progress")
PROMOTE = statement("promote")
REPUSH = statement("repush")
RESCUE = statement("rescue")
CANCEL = statement("cancel")
RETRY = statement("retry")
RUN_NOW = statement("run_now")
DISCARD = statement("discard")
DRAIN_WORKER = statement("drain_worker")
AUDIT = statement("audit")
BULK_START = statement("bulk_start")
BULK_GET = statement("bulk_get")
BULK_LIST = statement("bulk_list")
BULK_STEER = statement("bulk_steer")
BULK_DUE = statement("bulk_due")
BULK_LOCK = statement("bulk_lock")
BULK_ADVANCE = statement("bulk_advance")
BULK_TROUBLE = statement("bulk_trouble")
GET = statement("get")
ATTEMPTS = statement("attempts")
STATES = statement("states")
WRITE_LOGS = statement("write_logs")
FORGET_LOGS = statement("forget_logs")
READ_LOGS = statement("read_logs")
QUEUES = statement("queues")
PAUSE = statement("pause")
RESUME = statement("resume")
RESUME_HINTS = statement("resume_hints")
PAUSED = statement("paused")
KNOWN_KINDS = statement("known_kinds")
WORKER_START = statement("worker_start")
WORKER_BEAT = statement("worker_beat")
WORKER_UNHELD = statement("worker_unheld")
WORKER_STOP = statement("worker_stop")
WORKERS_SILENT = statement("workers_silent")
PRUNE_PARTITIONS = statement("prune_partitions")
PRUNE_ATTEMPTS = statement("prune_attempts")
PRUNE_PARTITION = statement("prune_partition")
PRUNE_OTHER_DAYS = statement("prune_other_days")
PRUNE_IDEMPOTENCY_KEYS = statement("prune_idempotency_keys")
PRUNE_GAUGES = statement("prune_gauges")
PRUNE_LOGS = statement("prune_logs")
PRUNE_STATISTICS = statement("prune_statistics")
PRUNE_AUDIT = statement("prune_audit")
PRUNE_PODS = statement("prune_pods")
PRUNABLE = statement("prunable")
SAMPLE = statement("sample")
LATEST_GAUGES = statement("latest_gauges")
STALE_STATISTICS = statement("stale_statistics")
HELD_BACK = statement("held_back")
FOLD_STATISTICS = statement("fold_statistics")
LEASE = statement("lease")
LEASE_HOLDER = statement("lease_holder")
LEASE_RELEASE = statement("lease_release")
PODS = statement("pods")
PODS_REMEMBER = statement("pods_remember")
PODS_ABSENT = statement("pods_absent")
PODS_CONFIRM = statement("pods_confirm")
