"""Declare a job, write its handler, enqueue it, read its result."""

import pytest
from pydantic import BaseModel, ValidationError

from carafe import Client, Context, Job, NewJob, State, SyncContext, handler, testing

# A job is a pydantic model: its fields are the arguments. The kind is its name everywhere else (database, API, dashboard),
# and stays when the class is renamed.


class Greet(Job, kind="tutorial.greet"):
    name: str


# A handler is the function that runs the jobs of a class. It belongs to a module that only workers import.


@handler(Greet)
async def greet(job: Greet, ctx: Context) -> str:
    return f"Hello, {job.name}!"


async def test_what_a_handler_returns_is_the_result_of_its_job(carafe_client: Client) -> None:
    async with testing.inline(carafe_client):
        accepted = await carafe_client.enqueue(Greet(name="Ada"))

    # `enqueue` has answered when the job was committed; a worker runs it afterwards.
    assert accepted.state is State.QUEUED
    record = await carafe_client.get(accepted.id)
    assert record.state is State.SUCCEEDED
    assert record.result == "Hello, Ada!"


# The caller's side checks the arguments: a mistake is an error there and then, and never a job that fails later. The HTTP
# API and the command line check them by the same model.


def test_arguments_are_checked_where_the_job_is_made() -> None:
    with pytest.raises(ValidationError, match="name"):
        Greet(nome="Ada")  # type: ignore[call-arg]  # mypy sees it before it runs


# A result may be a pydantic model, a dataclass, or anything that JSON can hold.


class Count(Job, kind="tutorial.count"):
    text: str


class Counted(BaseModel):
    words: int


# A plain function runs in a thread of the worker, so it may block. Its context is a `SyncContext`.


@handler(Count)
def count(job: Count, ctx: SyncContext) -> Counted:
    return Counted(words=len(job.text.split()))


async def test_a_plain_function_runs_in_a_thread(carafe_client: Client) -> None:
    async with testing.inline(carafe_client):
        accepted = await carafe_client.enqueue(Count(text="nothing was spilled"))

    assert (await carafe_client.get(accepted.id)).result == {"words": 3}


async def test_a_bulk_is_stored_whole_in_one_statement(carafe_client: Client) -> None:
    async with testing.manual(carafe_client) as jobs:
        await carafe_client.enqueue_many([Greet(name="Ada"), NewJob(Greet(name="Grace"), delay=60)])

        jobs.assert_enqueued(Greet, count=2)
        ran = await jobs.drain()

    # The second job is for later, and has not run yet.
    assert [record.result for record in ran] == ["Hello, Ada!"]
