"""The SQL statements of the store: those that change a job's state, and others that several parts of Carafe run."""

from carafe.store.job_columns import one_job
from carafe.store.statement import Statement, made, statement


def _here(name: str) -> Statement:
    return statement(name, "carafe.store")


ENQUEUE = _here("enqueue")
UNIQUE_HOLDERS = _here("unique_holders")
REMEMBER_KEY = _here("remember_key")
RECALL_KEY = _here("recall_key")
ANSWER_KEY = _here("answer_key")
CLAIM = _here("claim")
FINISH = _here("finish")
SETTLE = _here("settle")
PROGRESS = _here("progress")
DRAIN_WORKER = _here("drain_worker")
AUDIT = _here("audit")
BULK_START = _here("bulk_start")
BULK_GET = _here("bulk_get")
BULK_LIST = _here("bulk_list")
BULK_STEER = _here("bulk_steer")
GET = made("get", one_job())
ATTEMPTS = _here("attempts")
WRITE_LOGS = _here("write_logs")
FORGET_LOGS = _here("forget_logs")
READ_LOGS = _here("read_logs")
QUEUES = _here("queues")
PAUSE = _here("pause")
RESUME = _here("resume")
RESUME_HINTS = _here("resume_hints")
PAUSED = _here("paused")
KNOWN_KINDS = _here("known_kinds")
WORKER_START = _here("worker_start")
WORKER_BEAT = _here("worker_beat")
WORKER_STOP = _here("worker_stop")
HELD_BACK = _here("held_back")
LIVE_COUNTS = _here("live_counts")
ENDED_IN_STATISTICS = _here("ended_in_statistics")
DEAD_SAMPLED = _here("dead_sampled")
DEAD_ERROR_CLASSES = _here("dead_error_classes")
LAST_ERRORS = _here("last_errors")
FACTS = _here("facts")
BEFORE_IT = _here("before_it")
KEY_HOLDER = _here("key_holder")
NOW = _here("now")
