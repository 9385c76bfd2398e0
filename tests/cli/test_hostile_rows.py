"""The command line can show any row, and prints no characters that would control a terminal."""

import asyncio
import re
from uuid import UUID

import pytest

from tests import hostile_rows
from tests.cli.conftest import Command

STEERS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What steers a terminal, or turns the text around; a line's end is ours."""


@pytest.fixture(scope="module")
def made(database_url: str) -> list[UUID]:
    return asyncio.run(hostile_rows.insert(database_url))


def test_every_command_that_looks(carafe: Command, made: list[UUID]) -> None:
    ids = [str(job) for job in made]
    commands = [
        ["jobs", "list", "--limit", "500"],
        ["queues"],
        ["workers"],
        ["audit", "--limit", "500"],
        ["bulk"],
        ["jobs", "list", "--state", "dead"],
    ]
    commands += [["jobs", "show", job] for job in ids[::9]] + [["jobs", "show", "--full", ids[-1]]]
    for command in commands:
        told = carafe(*command)
        assert told.code == 0, (command, told.err)
        assert STEERS.search(told.out) is None, command
        assert STEERS.search(told.err) is None, command
        answered = carafe(*command, "--json")
        assert answered.code == 0, (command, answered.err)
        assert answered.json, command
    assert "unseen-secret" not in carafe("jobs", "list", "--limit", "500", "--json").out


def test_the_doctor_looks_at_such_a_database(carafe: Command, made: list[UUID]) -> None:
    answer = carafe("doctor", "--json")
    levels = {finding["subject"]: finding["level"] for finding in answer.json}
    assert (levels["statements"], levels["schema"], levels["workers"]) == ("ok", "ok", "warning")  # no versions registered
