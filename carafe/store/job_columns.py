"""The columns of a job that are read, from the table of live jobs and from that of ended jobs. The fields of `JobRecord` are
the only list of them; this module makes the lists of columns from it.

Each field of the record is a column of both tables, or of a single one (`_LIVE_ALONE`, `_ENDED_ALONE`). So lists,
`Client.get` and the dashboard read a new column as soon as the record has a field for it.
"""

from dataclasses import fields
from typing import get_type_hints

from carafe.jobs.records import JobRecord

_MADE = frozenset({"note", "attempts", "cut"})
"""Fields of the record that are not columns."""

_LIVE_ALONE = {"deadline_at": "timestamptz"}
_ENDED_ALONE = {
    "ended_at": "timestamptz",
    "result": "jsonb",
    "error_class": "text",
    "error": "text",
    "resolved_at": "timestamptz",
    "resolved_by": "text",
    "resolved_reason": "text",
}
"""Columns that only the table of live jobs has (`_LIVE_ALONE`), or only the table of ended jobs (`_ENDED_ALONE`), each with
its type."""

_JSON = ("args", "result")
FIRST_LINE = 1_000
"""How many characters of an error are read in order to find its first line."""

SMALL = 2_000
"""The maximum number of bytes that a job's arguments may take in the table for a list of jobs to read them. What takes more
may lie in another table, compressed, and a list shows the beginning alone."""

_SMALL_ARGS = f"case when pg_column_size(j.args) <= {SMALL} then j.args end"

COLUMNS = tuple(field.name for field in fields(JobRecord) if field.name not in _MADE)
_TEXTS = tuple(name for name, kind in get_type_hints(JobRecord).items() if name in COLUMNS and kind in (str, str | None))


def columns(*, live: bool) -> str:
    """The record's columns in SQL, to be read from ``carafe.jobs j`` or ``carafe.jobs_ended j``. A column that the table
    does not have is null."""
    absent = _ENDED_ALONE if live else _LIVE_ALONE
    return ", ".join(f"null::{absent[name]} as {name}" if name in absent else f"j.{name}" for name in COLUMNS)


def returned(*, live: bool) -> tuple[str, ...]:
    """The record's columns in SQL, for the ``returning`` list of a statement that changes rows ``j``. JSON is cast to text,
    which every driver returns unchanged."""
    absent = _ENDED_ALONE if live else _LIVE_ALONE

    def column(name: str) -> str:
        if name in absent:
            return f"null::{'text' if name in _JSON else absent[name]} as {name}"
        return f"cast(j.{name} as text) as {name}" if name in _JSON else f"j.{name}"

    return tuple(map(column, COLUMNS))


def shown(longest: int | None) -> str:
    """The record's columns in SQL, to be read from a subquery ``j`` that selects `columns`, with long values cut.

    JSON of more than `longest` characters is left out, longer texts are shortened, and the column ``cut`` names both. If
    `longest` is 0, the result is left out, and so are arguments that take more than `SMALL` bytes in the table; only as much
    of an error is read as its first line needs. If it is None, nothing is cut.
    """
    if longest is None:
        return ", ".join(f"j.{name}" for name in COLUMNS)
    if longest == 0:
        read = {"args": _SMALL_ARGS, "result": "null", "error": f"left(j.error, {FIRST_LINE})"}
        return ", ".join(f"{read[name]} as {name}" if name in read else f"j.{name}" for name in COLUMNS)
    found = []
    for name in COLUMNS:
        if name in _JSON:
            found.append(f"case when length(j.{name}::text) <= {longest} then j.{name} end as {name}")
        elif name in _TEXTS:
            short = f"left(j.{name}, {longest - 1}) || '…'"
            found.append(f"case when length(j.{name}) > {longest} then {short} else j.{name} end as {name}")
        else:
            found.append(f"j.{name}")
    long = [f"case when length(j.{name}::text) > {longest} then '{name}' end" for name in (*_JSON, *_TEXTS)]
    return f"{', '.join(found)}, array_remove(array[{', '.join(long)}], null) as cut"


def one_job() -> str:
    """The SQL that reads one job, live or ended. It also reads further columns, for the job's page and for the sentence that
    says why the job waits.

    JSON is read as text, which every driver returns unchanged.
    """
    named = ", ".join(f"cast(j.{name} as text) as {name}" if name in _JSON else f"j.{name}" for name in COLUMNS)
    live = "j.trace, j.hinted_at, j.deferrals, j.suspect, null as error_fingerprint"
    ended = "j.trace, null, 0, false, j.error_fingerprint"
    return f"""
select {named}, j.trace, j.hinted_at, j.deferrals, j.suspect, j.error_fingerprint, w.name as worker_name,
    coalesce(w.state in ('running', 'draining'), false) as worker_alive, now() as now
from (
    select {columns(live=True)}, {live} from carafe.jobs j where j.id = :id
    union all
    select {columns(live=False)}, {ended} from carafe.jobs_ended j where j.id = :id
) as j
left join carafe.workers w on w.id = j.worker
limit 1
""".strip()  # noqa: S608  the text is ours alone; every value is bound
