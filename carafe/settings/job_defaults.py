"""The defaults of jobs and the bounds of the settings that change them. `Settings` and `Limits` both use the values in this
module.

Durations are in seconds, sizes in bytes of JSON.
"""

DAY = 86_400.0

TIMEOUT = 300.0
"""Seconds that one attempt may take (JOB_TIMEOUT)."""

MAX_TIMEOUT = 7 * DAY

RETRIES = 3
"""How many times a job is retried after its first attempt has failed (JOB_MAX_RETRIES)."""

MAX_RETRIES = 1_000

ARGS_BYTES = 262_144
"""The maximum number of bytes that a job's arguments may have (JOB_ARGS_LIMIT)."""

RESULT_BYTES = 262_144
"""The maximum number of bytes that a job's result may have (JOB_RESULT_LIMIT)."""

BULK = 10_000
"""The maximum number of jobs that one bulk request may enqueue (BULK_LIMIT)."""

IDEMPOTENCY_TTL = DAY
"""Seconds for which an idempotency key is remembered (RETENTION_IDEMPOTENCY)."""
