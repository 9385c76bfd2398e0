"""While another session's lock prevents an end from being written, the log names the job and the session."""

import asyncio

import asyncpg
import pytest
from structlog.testing import capture_logs

from carafe import Client, State
from carafe.store.database import Database
from tests.jobs.by_hand import ByHand
from tests.jobs.kinds import Greet
from tests.waiting import eventually


@pytest.mark.parametrize(
    "lock", ["select 1 from carafe.jobs for update", "lock table carafe.jobs in access exclusive mode"], ids=["row", "table"]
)
async def test_who_holds_the_row_of_an_end_is_named(carafe_client: Client, lock: str) -> None:
    url = carafe_client.database.url
    job = await carafe_client.enqueue(Greet(name="Ada"))
    database = Database(url, pool_size=3, name="carafe worker w1", command_timeout=0.3)
    other = await asyncpg.connect(url, server_settings={"application_name": "a forgotten psql"})
    try:
        worker = ByHand(database)
        [claim] = await worker.claim(job.id)
        await other.execute(f"begin; {lock}")
        with capture_logs() as lines:
            writing = asyncio.ensure_future(worker.succeed(claim))
            [line, *_] = await eventually(lambda: [line for line in lines if line.get("held_by")], within=20)
        assert line["event"] == "ends not written yet, trying again"
        assert line["jobs"] == [str(job.id)]
        assert f"pid {other.get_server_pid()} (a forgotten psql" in line["held_by"]
        await other.execute("rollback")
        await writing
        assert (await carafe_client.get(job.id)).state is State.SUCCEEDED
    finally:
        await other.close()
        await database.close()
