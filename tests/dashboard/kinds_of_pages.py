"""Kinds of jobs that the tests of the pages enqueue and edit."""

import dataclasses
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, Field, NaiveDatetime, SecretStr

from carafe import Job
from carafe.jobs import definition


class Size(StrEnum):
    """How large."""

    SMALL = "small"
    LARGE = "large"


class Item(BaseModel):
    """One of many."""

    name: str
    amount: int = Field(ge=1)


class Every(Job, kind="pages.every"):
    """One argument of every sort.

    Its second paragraph.
    """

    text: str
    note: str | None = "none yet"
    count: int = Field(ge=1, le=10, description="How often.")
    share: float = 0.5
    size: Size = Size.SMALL
    level: Literal[1, 2, 3] = 1
    loud: bool = False
    day: date | None = None
    moment: AwareDatetime | None = None
    local: NaiveDatetime | None = None
    items: list[Item] = Field(default_factory=list)
    anything: Any = None


class Secretive(Job, kind="pages.secretive"):
    """Knows secrets."""

    user: str
    password: SecretStr
    hints: list[dict[str, SecretStr]] = Field(default_factory=list)


class Marked(Job, kind="pages.marked"):
    """<script>alert("its description")</script>"""

    value: Any = None


def rename(job: type[Job], kind: str) -> None:
    """Give a class a kind that no declaration may have; a release from before there was an alphabet may have stored such."""
    definition._kinds[kind] = definition._kinds.pop(job.job_options.kind)
    job.job_options = dataclasses.replace(job.job_options, kind=kind)


rename(Marked, "<b>pages.marked</b>")


class Old(Job, kind="pages.old", version=2):
    """Its second version has another name for what it has."""

    new_name: int

    @classmethod
    def upgrade(cls, arguments: dict[str, Any], version: int) -> dict[str, Any]:
        return {"new_name": arguments["old_name"]}


LATER = datetime.fromisoformat("2031-01-01T06:00:00+00:00")
