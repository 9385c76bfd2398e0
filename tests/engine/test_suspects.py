"""Suspects run side by side, each in a process of its own, and share what memory the container has left."""

from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import pytest

from carafe import State
from carafe.engine import cgroup
from carafe.engine.claim import Claim
from carafe.engine.suspects import LEAST, admit
from carafe.jobs.identifiers import uuid7
from carafe.steward.steward import Steward
from tests.engine.conftest import ClientWith, Gates, StartWorker, Words
from tests.engine.jobs import AsyncDo, NoOp, ThreadDo
from tests.waiting import eventually

SLOTS = "7"


@pytest.mark.process
async def test_after_a_death_the_innocent_run_at_once_and_side_by_side(
    client_with: ClientWith, steward: Steward, start_worker: StartWorker, gate: Gates, effects: Words
) -> None:
    client = client_with(max_retries=1, timeout=3600)
    first = await start_worker(WORKER_CONCURRENCY=SLOTS)

    async def begun(jobs: Sequence[UUID], times: int) -> bool:
        return all([(await effects(job)).count("begun") == times for job in jobs])

    async with gate() as number:
        holds = [AsyncDo(what="hold", gate=number)] * 4 + [ThreadDo(what="hold", gate=number)]
        innocent = [job.id for job in await client.enqueue_many(holds)]
        await eventually(lambda: begun(innocent, 1))
        poison = [job.id for job in await client.enqueue_many([AsyncDo(what="segfault")] * 2)]
        await eventually(lambda: first.process.poll() is not None)

        second = await start_worker(WORKER_CONCURRENCY=SLOTS)
        await eventually(lambda: begun(innocent, 2), 60)  # all of them, while none has ended
        for job in poison:
            record = await client.wait(job, timeout=60)
            assert (record.state, record.attempts[-1].cause) == (State.DEAD, "crash")
        assert (await client.wait((await client.enqueue(NoOp())).id, timeout=20)).state is State.SUCCEEDED
        for job in innocent:
            record = await client.get(job)
            assert (record.state, record.attempt) == (State.RUNNING, 0)
            assert [attempt.summary for attempt in record.attempts] == ["its worker was lost, and no attempt is spent"]
    for job in innocent:
        record = await client.wait(job, timeout=20)
        assert (record.state, record.attempt, record.result) == (State.SUCCEEDED, 1, "held")
    assert second.process.poll() is None


def claims(number: int) -> list[Claim]:
    rows = [{"id": uuid7(), "kind": "tests", "fence": 1, "attempt": 0, "suspect": True} for _ in range(number)]
    return [Claim(row, b"", 0.0) for row in rows]


@pytest.fixture
def limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with the container's memory limit."""
    monkeypatch.setattr(cgroup, "PLACES", ((tmp_path / "limit", tmp_path / "events"),))
    return tmp_path / "limit"


def test_there_are_at_most_as_many_suspects_as_slots(limited: Path) -> None:
    limited.write_text("max\n")
    held, coming = claims(3), claims(4)

    assert admit(coming, held, slots=5) == coming[2:]
    assert admit(coming, [*held, *coming[:2]], slots=5) == coming
    assert {claim.memory for claim in coming} == {None}


def test_suspects_that_come_together_share_the_memory_that_is_left(limited: Path) -> None:
    limited.write_text(f"{64 << 30}")
    coming = claims(3)
    assert admit(coming, [], slots=5) == []

    left = cgroup.memory_left()
    assert left is not None
    assert len({claim.memory for claim in coming}) == 1
    assert LEAST < sum(claim.memory or 0 for claim in coming) < left < 64 << 30

    # These have it all: another is left to other workers.
    late = claims(1)
    assert admit(late, coming, slots=5) == late
    assert admit(late, coming[1:], slots=5) == []
    assert coming[0].memory is not None
    assert LEAST <= (late[0].memory or 0) <= coming[0].memory + LEAST


def test_in_a_full_container_one_suspect_runs_all_the_same(limited: Path) -> None:
    limited.write_text(f"{1 << 20}")
    coming = claims(2)

    assert admit(coming, [], slots=5) == coming[1:]
    assert coming[0].memory == LEAST
