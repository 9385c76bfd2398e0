"""If a job's class declares the type that its handler returns, results are returned as that type."""

from dataclasses import dataclass
from datetime import date
from typing import Any, Generic, TypeVar
from uuid import UUID

import pytest
from pydantic import BaseModel, Field

from carafe import Client, Context, Discard, InvalidResult, Job, State, SyncClient, handler, testing
from carafe.jobs.typed_results import result_type, typed_result
from tests.jobs.kinds import Greet

T = TypeVar("T")


class Exported(BaseModel):
    """A result with names that its JSON does not have."""

    url: str = Field(alias="URL")
    day: date


class Export(Job[Exported], kind="tests.export"):
    """Fails when it is told to."""

    fails: bool = False


@handler(Export)
async def export(job: Export, ctx: Context) -> Exported:
    """Returns what the class says."""
    if job.fails:
        raise Discard("told to fail")
    return Exported(URL="/x", day=date(2030, 1, 31))


@dataclass
class Point:
    """A plain dataclass."""

    x: int


class Everywhere(Job["dict[str, list[Point]]"], kind="tests.everywhere"):
    """A result of several layers, written as text."""


class Parent(Job[T], Generic[T]):
    """An application's own parent, with the result open."""


class Payload(Job, Generic[T]):
    """An application's own generic parent that has nothing to do with results."""

    payload: T


class FromParent(Parent[UUID], kind="tests.from_parent"):
    """Says through its parent what it returns."""


class FromPayload(Payload[int], kind="tests.from_payload"):
    """Says nothing of its result."""


class Child(Export, kind="tests.export_child"):
    """Returns what its parent does."""


class Nothing(Job[None], kind="tests.returns_nothing"):
    """Returns nothing."""


async def test_a_result_comes_back_as_its_type(carafe_client: Client) -> None:
    async with testing.inline(carafe_client):
        accepted = await carafe_client.enqueue(Export())
        record = await carafe_client.wait(accepted, timeout=10)

    expected = Exported(URL="/x", day=date(2030, 1, 31))
    assert record.result == expected
    assert (await carafe_client.get(accepted)).result == expected
    # By its id a job is anybody's, and its result plain data.
    assert (await carafe_client.get(accepted.id)).result == {"url": "/x", "day": "2030-01-31"}


def test_it_does_without_an_event_loop(carafe_sync_client: SyncClient) -> None:
    with testing.inline(carafe_sync_client):
        accepted = carafe_sync_client.enqueue(Export())

    record = carafe_sync_client.wait(accepted, timeout=10)
    assert record.result is not None
    assert record.result.day == date(2030, 1, 31)
    assert carafe_sync_client.get(accepted).result == record.result


async def test_a_job_that_did_not_succeed_has_no_result(carafe_client: Client) -> None:
    async with testing.inline(carafe_client):
        accepted = await carafe_client.enqueue(Export(fails=True))
        record = await carafe_client.wait(accepted, timeout=10)

    assert (record.state, record.result) == (State.DEAD, None)


@pytest.mark.parametrize(
    ("job_class", "expected"),
    [
        (Export, Exported),
        (Child, Exported),
        (FromParent, UUID),
        (Everywhere, dict[str, list[Point]]),
        (Nothing, None),
        (Greet, Any),
        (FromPayload, Any),
    ],
)
def test_the_type_is_that_of_the_class_or_its_parents(job_class: type[Job], expected: Any) -> None:
    assert result_type(job_class) == expected


def test_results_are_read_as_they_were_written() -> None:
    assert typed_result(Everywhere, {"a": [{"x": 1}]}) == {"a": [Point(1)]}
    assert typed_result(FromParent, "0190e6a0-7c1e-7d3a-9d0a-5f6a3f5d2b11") == UUID("0190e6a0-7c1e-7d3a-9d0a-5f6a3f5d2b11")
    assert typed_result(Greet, {"any": "data"}) == {"any": "data"}
    # What only a newer release knows is left out.
    assert typed_result(Export, {"url": "/x", "day": "2030-01-31", "pages": 3}) == Exported(URL="/x", day=date(2030, 1, 31))


def test_a_result_of_another_shape_is_refused_in_words_without_its_values() -> None:
    with pytest.raises(InvalidResult, match=r"the result of 'tests\.export' does not fit its type: day: ") as raised:
        typed_result(Export, {"url": "/x", "day": "hunter2"})

    assert "hunter2" not in str(raised.value)
    assert "`Client.get(id)` has it as plain data" in str(raised.value)


def test_a_parametrised_class_is_no_kind_of_its_own() -> None:
    assert Export.__bases__ == (Job,)
    assert Export.model_fields.keys() == {"fails"}
