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


def statement(name: str) -> Statement:
    """Read ``sql/NAME.sql``."""
    text = _COMMENT.sub("", files("carafe.jobs").joinpath("sql", f"{name}.sql").read_text()).strip()
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
GET = statement("get")
ATTEMPTS = statement("attempts")
STATES = statement("states")
QUEUES = statement("queues")
PAUSE = statement("pause")
RESUME = statement("resume")
RESUME_HINTS = statement("resume_hints")
PAUSED = statement("paused")
KNOWN_KINDS = statement("known_kinds")
WORKER_START = statement("worker_start")
WORKER_BEAT = statement("worker_beat")
WORKER_STOP = statement("worker_stop")
WORKERS_SILENT = statement("workers_silent")
PRUNE_PARTITIONS = statement("prune_partitions")
PRUNE_ATTEMPTS = statement("prune_attempts")
PRUNE_PARTITION = statement("prune_partition")
PRUNE_OTHER_DAYS = statement("prune_other_days")
PRUNE_IDEMPOTENCY_KEYS = statement("prune_idempotency_keys")
PRUNE_GAUGES = statement("prune_gauges")
PRUNE_STATISTICS = statement("prune_statistics")
PRUNE_PODS = statement("prune_pods")
PRUNABLE = statement("prunable")
SAMPLE = statement("sample")
FOLD_STATISTICS = statement("fold_statistics")
LEASE = statement("lease")
LEASE_HOLDER = statement("lease_holder")
LEASE_RELEASE = statement("lease_release")
PODS = statement("pods")
PODS_REMEMBER = statement("pods_remember")
PODS_ABSENT = statement("pods_absent")
PODS_CONFIRM = statement("pods_confirm")
