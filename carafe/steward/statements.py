"""The SQL of the steward's services."""

from carafe.store.statement import Statement, statement


def _here(name: str) -> Statement:
    return statement(name, "carafe.steward")


PROMOTE = _here("promote")
REPUSH = _here("repush")
RESCUE = _here("rescue")
RESCUE_NOTE = _here("rescue_note")
BULK_DUE = _here("bulk_due")
BULK_LOCK = _here("bulk_lock")
BULK_ADVANCE = _here("bulk_advance")
BULK_TROUBLE = _here("bulk_trouble")
WORKERS_SILENT = _here("workers_silent")
PRUNE_PARTITIONS = _here("prune_partitions")
PRUNE_ATTEMPTS = _here("prune_attempts")
PRUNE_PARTITION = _here("prune_partition")
PRUNE_OTHER_DAYS = _here("prune_other_days")
PRUNE_IDEMPOTENCY_KEYS = _here("prune_idempotency_keys")
PRUNE_GAUGES = _here("prune_gauges")
PRUNE_LOGS = _here("prune_logs")
PRUNE_STATISTICS = _here("prune_statistics")
PRUNE_AUDIT = _here("prune_audit")
PRUNE_PODS = _here("prune_pods")
PRUNABLE = _here("prunable")
SAMPLE = _here("sample")
LATEST_GAUGES = _here("latest_gauges")
STALE_STATISTICS = _here("stale_statistics")
FOLD_STATISTICS = _here("fold_statistics")
LEASE = _here("lease")
LEASE_HOLDER = _here("lease_holder")
LEASE_RELEASE = _here("lease_release")
PODS = _here("pods")
PODS_REMEMBER = _here("pods_remember")
PODS_ABSENT = _here("pods_absent")
PODS_CONFIRM = _here("pods_confirm")
