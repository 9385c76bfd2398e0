"""What SQL statements have in common, by name: lists of a job's columns, and the condition that a job is not paused. A
statement names a list as ``{name}``, or as ``{e.name}`` for the columns of the table ``e``.

The columns in `kept` never change, not even when a dead job is retried. Those in `carried` are copied unchanged when a job
ends. The others (state, attempt, trace, cancel_requested_at) change when a job ends, so each statement sets them itself.
"""

from collections.abc import Mapping
from types import MappingProxyType

from carafe.jobs.options import CLASS_OPTIONS, ENQUEUE_OPTIONS, STORED

_OPTIONS = tuple(option.column for option in STORED.values())

_KEPT = (
    "id",
    "kind",
    "queue",
    "args",
    "secrets",
    "version",
    "fence",
    "snoozes",
    *(column for column in _OPTIONS if column != "max_attempts"),
    "created_at",
    "created_by",
)

_CARRIED = (
    *_KEPT,
    "max_attempts",
    "releases",
    "worker",
    "due_at",
    "started_at",
    "progress",
    "progress_note",
)

_UNPAUSED = """
queue <> all (array(select name from carafe.queues where paused_at is not null))
    and kind <> all (array(select kind from carafe.paused_kinds))
""".strip()

LISTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "options": _OPTIONS,
        "kept": _KEPT,
        "carried": _CARRIED,
        # All that live and ended rows have in common.
        "job": (*_CARRIED, "state", "attempt", "trace", "cancel_requested_at"),
        # Whether neither the queue nor the kind of a row of carafe.jobs is paused. Read once for each statement.
        "unpaused": (_UNPAUSED,),
        # What a row that is enqueued may name, with its types, for json_to_recordset.
        "given_options": tuple(f"{option.column} {option.sql}" for option in {**CLASS_OPTIONS, **ENQUEUE_OPTIONS}.values()),
    }
)
