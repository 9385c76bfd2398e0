"""The SQL of the read model. Each statement only reads.

Statements whose text depends on a filter are made in carafe.store.keyset. Statements that read one job are in carafe.store.
"""

from carafe.store.statement import Statement, statement


def _here(name: str) -> Statement:
    return statement(name, "carafe.readmodel")


OLDEST_WAIT = _here("oldest_wait")
RATES = _here("rates")
RECENT_DEATHS = _here("recent_deaths")
LEFT_KINDS = _here("left_kinds")
LOST_WORKERS = _here("lost_workers")
DEAD_GROUP_KEYS = _here("dead_group_keys")
DEAD_GROUPS = _here("dead_groups")
DEAD_NEW_KEYS = _here("dead_new_keys")
DEAD_FIRST = _here("dead_first")
DEAD_ERRORS = _here("dead_errors")
DEAD_SLICE = _here("dead_slice")
SERIES_GAUGES = _here("series_gauges")
SERIES_ENDS = _here("series_ends")
MARKERS = _here("markers")
JOB_ACTIONS = _here("job_actions")
VERSIONS = _here("versions")
WORKERS = _here("workers")
KINDS = _here("kinds")
LIVE_BY_KIND = _here("live_by_kind")
KINDS_ENDED = _here("kinds_ended")
KIND_ENDED = _here("kind_ended")
AUDIT_PAGE = _here("audit_page")
BULK_ACTIONS = _here("bulk_actions")
