"""What Carafe lends to the application's code (the transaction of a change of state, connections) comes back unchanged. If
it does not, only that job gets an error, once and with an explanation."""

from typing import Any

import pytest

from carafe import Client, State
from tests.engine.conftest import ClientWith, Words
from tests.engine.lending_jobs import Handled, Hooked, Looks, Partial
from tests.engine.worker_process import WorkerProcess
from tests.waiting import eventually

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("worker", "tables")]

HOOKS = 12
"""More than the connections that the engine has for hooks."""


@pytest.fixture(scope="module")
def worker_settings() -> dict[str, str]:
    return {
        "JOB_MODULES": "tests.engine.lending_jobs",
        "HANDLER_MODULES": "tests.engine.lending_handlers",
        "WORKER_CONCURRENCY": "2",
    }


@pytest.fixture(scope="module")
async def tables(database: Any) -> None:
    await database.execute(
        "create table parents (id int primary key);"
        " create table children (parent int references parents deferrable initially deferred)"
    )


@pytest.fixture(scope="module")
def once(client_with: ClientWith) -> Client:
    return client_with(max_retries=0)


FAULTS = {
    "swallow": "a statement in the job's own transaction has failed (DivisionByZeroError: division by zero)",
    "swallow a flush": "a statement in the job's own transaction has failed (UndefinedTableError: ",
    "swallow and go on": "a statement in the job's own transaction has failed (DivisionByZeroError: division by zero)",
    "break a deferred constraint": "ForeignKeyViolationError",
    "commit": "must not end the job's transaction itself",
    "roll back": "must not end the job's transaction itself",
    "close": "must not end the job's transaction itself",
    "roll back by a statement": "must not end the job's transaction itself",
}


@pytest.mark.parametrize("what", FAULTS)
@pytest.mark.parametrize("when", [State.RUNNING, State.SUCCEEDED])
async def test_a_hook_that_spoils_the_transaction_fails_its_own_job_once(
    once: Client, database: Any, effects: Words, what: str, when: State
) -> None:
    jobs = await once.enqueue_many([Hooked(what=what if index == 2 else "", when=when) for index in range(5)])
    bad = jobs.pop(2)
    record = await once.wait(bad.id, timeout=20)
    assert (record.state, record.error_class, record.attempt) == (State.DEAD, "HookFailed", 1)
    assert record.error is not None
    assert "tests.engine.lending_jobs.does" in record.error
    assert FAULTS[what] in record.error
    # Nothing runs without a claim, and what has run does not run again.
    assert await effects(bad.id) == ([] if when is State.RUNNING else ["run"])
    for job in jobs:
        assert (await once.wait(job.id, timeout=20)).state is State.SUCCEEDED


@pytest.mark.parametrize("what", ["swallow within a savepoint", "leave a statement"])
async def test_what_a_hook_does_within_its_rights_holds_up_nothing(once: Client, what: str) -> None:
    job = await once.enqueue(Hooked(what=what, when=State.SUCCEEDED))
    record = await once.wait(job.id, timeout=20)
    assert (record.state, record.error) == (State.SUCCEEDED, None)


@pytest.mark.parametrize("what", ["swallow", "roll back by a statement"])
async def test_a_hook_that_spoils_a_promotion_keeps_nobody_from_running(client: Client, effects: Words, what: str) -> None:
    jobs = await client.enqueue_many([Hooked(what=what, when=State.QUEUED), Hooked(when=State.QUEUED)])
    for job in jobs:
        record = await client.wait(job.id, timeout=30)
        assert (record.state, record.attempt) == (State.SUCCEEDED, 2)
        assert await effects(job.id) == ["run", "run"]


@pytest.mark.parametrize("when", [State.RUNNING, State.SUCCEEDED])
async def test_a_hook_may_be_any_object_that_can_be_called(once: Client, when: State) -> None:
    job = await once.enqueue(Partial(what="fail", when=when))
    record = await once.wait(job.id, timeout=20)
    assert (record.state, record.error_class) == (State.DEAD, "HookFailed")
    assert record.error is not None
    assert "tests.engine.lending_jobs.does" in record.error


async def test_sessions_that_hooks_keep_cost_nobody_a_connection(once: Client, database: Any) -> None:
    for job in await once.enqueue_many([Hooked(what="keep", when=State.SUCCEEDED) for _ in range(HOOKS)]):
        assert (await once.wait(job.id, timeout=20)).state is State.SUCCEEDED
    for job in await once.enqueue_many([*(Hooked() for _ in range(HOOKS)), Looks()]):
        assert (await once.wait(job.id, timeout=20)).state is State.SUCCEEDED
    assert await database.fetchval("select count(*) from pg_stat_activity where query = 'select ''kept'''") == 0


@pytest.mark.parametrize(
    ("kind", "what", "when"),
    [
        (Handled, "role", "session"),
        (Handled, "temporary table", "session"),
        (Handled, "codec", "session"),
        (Handled, "role", "transaction"),
        (Handled, "", "connection"),
        (Hooked, "role", State.SUCCEEDED),
        (Hooked, "codec", State.SUCCEEDED),
        (Hooked, "temporary table", State.SUCCEEDED),
    ],
)
async def test_what_is_left_on_a_connection_is_not_the_next_ones(
    once: Client, database: Any, kind: Any, what: str, when: str
) -> None:
    # One after the other, since they get the same connections then; a role is told to the transaction that ends the job.
    for _ in range(4):
        job = await once.enqueue(kind(what=what, when=when))
        await once.wait(job.id, timeout=20)
    table = await database.fetchval("select 'effects'::regclass::oid")
    for _ in range(4):
        jobs = await once.enqueue_many([Looks(), Hooked()])
        records = [await once.wait(job.id, timeout=20) for job in jobs]
        assert [(record.state, record.error) for record in records] == [(State.SUCCEEDED, None)] * 2
        assert records[0].result == [True, table, True, table]


@pytest.mark.parametrize("what", [what for what in FAULTS if what != "break a deferred constraint"])
async def test_a_handler_cannot_end_the_transaction_that_ends_its_job(
    client_with: ClientWith, effects: Words, what: str
) -> None:
    client = client_with(max_retries=1)
    job = await client.enqueue(Handled(what=what, when="transaction"))
    record = await client.wait(job.id, timeout=20)
    assert (record.state, record.attempt) == (State.DEAD, 2)
    assert record.error_class == f"carafe.errors.{'StatementFailed' if 'swallow' in what else 'TransactionEnded'}"
    assert FAULTS[what] in str(record.error)
    assert "current_setting" not in str(record.error)
    assert await effects(job.id) == []


async def test_another_loop_gets_no_connection_and_leaves_none(once: Client, worker: WorkerProcess) -> None:
    for _ in range(4):
        job = await once.enqueue(Handled(when="another loop"))
        record = await once.wait(job.id, timeout=20)
        assert (record.state, record.error_class) == (State.DEAD, "carafe.errors.AnotherLoop")
    for job in await once.enqueue_many([Looks() for _ in range(8)]):
        assert (await once.wait(job.id, timeout=20)).state is State.SUCCEEDED
    await eventually(lambda: worker.probe("/readyz") == (200, "ok"))
