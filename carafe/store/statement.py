"""SQL statements. Each is a file in a folder's ``sql/``; it has a name, and begins with a line about what it guarantees.

The files use named parameters (``:ids``). So the same text runs on asyncpg, which the hot path uses, through SQLAlchemy on a
caller's own session, whatever its driver, and on a caller's own DB-API connection. A list of columns that several files need
has a name too: ``{carried}`` or, for the columns of the table ``e``, ``{e.carried}`` (`carafe.store.columns`).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

from carafe.store.columns import LISTS

_PARAMETER = re.compile(r"(?<![:\w]):([a-z_]+)\b")
_LIST = re.compile(r"\{(?:([a-z_]+)\.)?([a-z_]+)\}")
_COMMENT = re.compile(r"--[^\n]*")

Row = Mapping[str, Any]
"""A row that a statement returned: an asyncpg record, which maps column names to values."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement. `text` has named parameters; in `numbered` these are replaced by ``$1``, ``$2``, …, in the order of
    `parameters`.

    `fetch`, `fetchrow`, `fetchval` and `execute` take an asyncpg connection, and the parameters as keywords. They raise
    ``TypeError`` for a parameter that is missing or unknown, and asyncpg's errors. `timeout` is in seconds; with None, the
    timeout of the connection applies.
    """

    name: str
    text: str
    numbered: str
    parameters: tuple[str, ...]

    async def fetch(self, connection: Any, *, timeout: float | None = None, **values: Any) -> list[Row]:  # noqa: ASYNC109
        """Run the statement, and return all rows."""
        rows: list[Row] = await connection.fetch(self.numbered, *self.arguments(values), timeout=timeout)
        return rows

    async def fetchrow(self, connection: Any, *, timeout: float | None = None, **values: Any) -> Row | None:  # noqa: ASYNC109
        """Run the statement, and return the first row, or None if there is none."""
        row: Row | None = await connection.fetchrow(self.numbered, *self.arguments(values), timeout=timeout)
        return row

    async def fetchval(self, connection: Any, *, timeout: float | None = None, **values: Any) -> Any:  # noqa: ASYNC109
        """Run the statement, and return the first column of the first row, or None if there is no row."""
        return await connection.fetchval(self.numbered, *self.arguments(values), timeout=timeout)

    async def execute(self, connection: Any, *, timeout: float | None = None, **values: Any) -> None:  # noqa: ASYNC109
        """Run the statement, and ignore the rows that it returns."""
        await connection.execute(self.numbered, *self.arguments(values), timeout=timeout)

    @property
    def pyformat(self) -> str:
        """The text for a DB-API driver with the parameter style ``pyformat``."""
        return _pyformat(self.text)

    def arguments(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """The values of the mapping `values`, in the order of `parameters`. Raises ``TypeError`` for a value that is missing
        or unknown."""
        if len(values) == len(self.parameters):
            try:
                return tuple([values[name] for name in self.parameters])
            except KeyError:
                pass
        raise TypeError(f"{self.name}.sql takes {', '.join(self.parameters) or 'no parameters'}, not {', '.join(values)}")


def statement(name: str, package: str, lists: Mapping[str, Sequence[str]] = LISTS) -> Statement:
    """The statement in the file ``sql/NAME.sql`` of a package. In its text, the names of column lists are replaced by the
    columns in `lists`. Raises ``ValueError`` when the text names an unknown list."""
    file = files(package).joinpath("sql", f"{name}.sql")
    return made(name, with_columns(_COMMENT.sub("", file.read_text()).strip(), str(file), lists))


def made(name: str, text: str) -> Statement:
    """Makes a `Statement` from a SQL text with named parameters."""
    parameters = tuple(dict.fromkeys(_PARAMETER.findall(text)))
    numbered = _PARAMETER.sub(lambda match: f"${parameters.index(match[1]) + 1}", text)
    return Statement(name, text, numbered, parameters)


@lru_cache
def _pyformat(text: str) -> str:
    return _PARAMETER.sub(r"%(\1)s", text.replace("%", "%%"))


def with_columns(text: str, place: str, lists: Mapping[str, Sequence[str]] = LISTS) -> str:
    """Returns `text` with the names of column lists replaced by the columns. Raises ``ValueError``, with `place` in its
    message, for the name of an unknown list."""

    def written_out(match: re.Match[str]) -> str:
        table, name = match.groups()
        if name not in lists:
            raise ValueError(f"{place}: {match[0]} is not a list of columns; the lists are {', '.join(sorted(lists))}")
        return ", ".join(f"{table}.{column}" if table else column for column in lists[name])

    return _LIST.sub(written_out, text)
