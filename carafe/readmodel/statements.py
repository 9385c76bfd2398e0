"""The SQL of the read model: one file a statement in ``sql/``, as in carafe.jobs.statements. Each one only reads.

Those whose text depends on a filter are made in carafe.readmodel.walks.
"""

from carafe.jobs.statements import Statement, statement


def _here(name: str) -> Statement:
    return statement(name, "carafe.readmodel")


NOW = _here("now")
FACTS = _here("facts")
OLDEST_WAIT = _here("oldest_wait")
RATES = _here("rates")
RECENT_DEATHS = _here("recent_deaths")
LEFT_KINDS = _here("left_kinds")
LOST_WORKERS = _here("lost_workers")
LIVE_COUNTS = _here("live_counts")
ENDED_IN_STATISTICS = _here("ended_in_statistics")
DEAD_SAMPLED = _here("dead_sampled")
LAST_ERRORS = _here("last_errors")
DEAD_GROUP_KEYS = _here("dead_group_keys")
DEAD_GROUPS = _here("dead_groups")
DEAD_NEW_KEYS = _here("dead_new_keys")
DEAD_FIRST = _here("dead_first")
DEAD_ERRORS = _here("dead_errors")
DEAD_SLICE = _here("dead_slice")
SERIES_GAUGES = _here("series_gauges")
SERIES_ENDS = _here("series_ends")
MARKERS = _here("markers")
JOB = _here("job")
JOB_ACTIONS = _here("job_actions")
VERSIONS = _here("versions")
KEY_HOLDER = _here("key_holder")
BEFORE_IT = _here("before_it")
WORKERS = _here("workers")
KINDS = _here("kinds")
AUDIT_PAGE = _here("audit_page")
BULK_ACTIONS = _here("bulk_actions")
