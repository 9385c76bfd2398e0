"""`carafe queues pause` and `resume`, `carafe prune`."""

import asyncio

import asyncpg
import pytest

from carafe.store.database import plain_dsn
from tests.cli.conftest import Command


def test_a_queue_is_paused_and_resumed(carafe: Command) -> None:
    job_id = carafe("enqueue", "cli.greet", "name=Ada").out.strip()
    paused = carafe("queues", "pause", "--reason", "the webhook is down")
    assert paused.code == 0
    assert paused.out.startswith("default  paused since ")
    assert "the webhook is down" in carafe("queues").out
    again = carafe("queues", "pause", "--reason", "another")
    assert (again.code, again.out.startswith("default  was paused already, since ")) == (0, True)
    assert "the webhook is down" in again.out
    assert "a pause keeps its first reason" in again.err
    rows = carafe("audit", "--target", "default", "--json").json["rows"]
    assert [(row["reason"], row["details"]) for row in rows[:2]] == [
        ("another", {"unchanged": True}),
        ("the webhook is down", {}),
    ]
    assert "queue is paused since" in carafe("jobs", "show", job_id).out
    assert carafe("queues", "--json").json[0]["paused_reason"] == "the webhook is down"
    assert "resumed" in carafe("queues", "resume", "default").out
    assert carafe("queues", "resume", "default").out.startswith("default  was not paused, ")
    assert carafe("queues", "--json").json[0]["paused_at"] is None


def test_a_kind_is_paused_and_resumed(carafe: Command) -> None:
    paused = carafe("kinds", "pause", "cli.greet", "--reason", "the webhook is down")
    assert (paused.code, paused.out.startswith("cli.greet  paused since ")) == (0, True), paused.err
    job_id = carafe("enqueue", "cli.greet", "name=Ada").out.strip()
    again = carafe("kinds", "pause", "cli.greet", "--reason", "another")
    assert (again.code, again.out.startswith("cli.greet  was paused already, since ")) == (0, True)
    assert "a pause keeps its first reason" in again.err
    assert "kind 'cli.greet' is paused since" in carafe("jobs", "show", job_id).out
    heading, line = carafe("kinds", "paused").out.splitlines()
    assert heading.split()[0] == "KIND"
    assert line.split()[:3] == ["cli.greet", "1", "since"]
    assert carafe("kinds", "paused", "--json").json[0]["paused_reason"] == "the webhook is down"
    assert carafe("kinds", "resume", "cli.greet").out == "cli.greet  resumed\n"
    assert carafe("kinds", "resume", "cli.greet").out == "cli.greet  was not paused\n"
    assert carafe("kinds", "paused", "--json").json == []
    unknown = carafe("kinds", "pause", "cli.gret")
    assert (unknown.code, unknown.err.startswith("error: no kind 'cli.gret'")) == (3, True)


@pytest.mark.parametrize("action", ["pause", "resume"])
def test_a_queue_that_is_not_there_is_code_3(carafe: Command, action: str) -> None:
    answer = carafe("queues", action, "other")
    assert (answer.code, answer.out) == (3, "")
    assert answer.err.startswith("error: no queue 'other'")


def test_a_dry_run_says_what_would_go_and_pruning_does_it(carafe: Command, database_url: str) -> None:
    assert "nothing to prune" in carafe("prune", "--dry-run").err
    asyncio.run(_age(database_url))
    for _ in range(2):
        answer = carafe("prune", "--dry-run", "--json")
        assert [(one["name"], one["partition"], one["pruned"]) for one in answer.json] == [
            ("jobs_done_20200101", True, False),
            ("jobs_dead_other", False, False),
        ]
    heading, partition, rows = carafe("prune", "--dry-run").out.splitlines()
    assert heading.split() == ["NAME", "ROWS", "SIZE", "WHAT"]
    assert partition.endswith("would be dropped")
    assert rows.split()[:2] == ["jobs_dead_other", "1"]
    assert carafe("prune").out.splitlines()[1].endswith("dropped")
    assert carafe("prune", "--json").json == []


async def _age(database_url: str) -> None:
    """An old day of jobs, and an old dead one outside any day."""
    connection = await asyncpg.connect(plain_dsn(database_url))
    try:
        await connection.execute(
            "create table carafe.jobs_done_20200101 partition of carafe.jobs_done"
            " for values from ('2020-01-01 00:00+00') to ('2020-01-02 00:00+00')"
        )
        await connection.execute(
            "insert into carafe.jobs_ended (id, kind, queue, state, args, version, attempt, max_attempts, fence, snoozes,"
            " releases, timeout, created_at, due_at, ended_at)"
            " select gen_random_uuid(), 'cli.greet', 'default', state, '{}', 1, 1, 1, 1, 0, 0, 1, at, at, at"
            " from (values ('succeeded', timestamptz '2020-01-01 12:00+00'), ('dead', '2019-01-01 12:00Z')) as v(state, at)"
        )
    finally:
        await connection.close()
