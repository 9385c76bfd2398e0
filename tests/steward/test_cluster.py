"""What the cluster says of the workers' pods is in Postgres, for anyone who wants to know."""

from collections.abc import Iterator
from typing import Any

import pytest

from carafe import Client
from carafe.kubernetes.refusals import NotPermitted
from carafe.steward import Steward, cluster
from carafe.steward.cluster import Cluster
from carafe.steward.pods import KnownPod, pods
from carafe.steward.statements import PRUNE_PODS
from carafe.store.database import Database
from tests.jobs.by_hand import count, run
from tests.kubernetes.pods import BACK_OFF, CREATING, ERROR, OOM, RUNNING, Scripted, pod, unschedulable
from tests.waiting import eventually


@pytest.fixture
def source() -> Iterator[Scripted]:
    source = Scripted()
    yield source
    source.release()


@pytest.fixture
def watching(carafe_client: Client, source: Scripted) -> Iterator[Cluster]:
    """The service, whose rounds the test drives by hand."""
    watching = Cluster(carafe_client.database, "carafe", source)
    yield watching
    watching.stop()


async def rows(database: Database) -> dict[str, dict[str, Any]]:
    async with database.connection() as connection:
        return {row["uid"]: dict(row) for row in await connection.fetch("select * from carafe.pods")}


async def known(database: Database) -> dict[str, KnownPod]:
    async with database.connection() as connection:
        return {one.name: one for one in await pods(connection)}


async def until(watching: Cluster, database: Database, uid: str, **columns: Any) -> dict[str, Any]:
    """Rounds until the row of a pod says so; the row."""

    async def says_so() -> dict[str, Any] | None:
        await watching.round()
        row = (await rows(database)).get(uid)
        return row if row and all(row[name] == value for name, value in columns.items()) else None

    row: dict[str, Any] | None = await eventually(says_so)
    assert row is not None
    return row


async def test_a_pod_that_is_wanted_says_why_it_is_not_there(
    carafe_client: Client, watching: Cluster, source: Scripted
) -> None:
    database = carafe_client.database
    source.lists.append([unschedulable("0/1 nodes are available: insufficient cpu"), pod(uid="there", name="there")])
    first = await until(watching, database, "there", phase="Running")
    uid = next(uid for uid in await rows(database) if uid != "there")
    waiting = (await known(database))["carafe-worker-7d9c-x2x4k"]
    assert (waiting.phase, waiting.node) == ("Pending", "")
    assert waiting.trouble == "Unschedulable: 0/1 nodes are available: insufficient cpu"
    assert waiting.trouble_since is not None
    assert waiting.current
    assert ((await known(database))["there"].trouble, first["trouble_since"]) == ("", None)

    # Another reason: it is not there since the same moment.
    source.tell(("MODIFIED", pod(CREATING, uid=uid, phase="Pending", version="5")))
    row = await until(watching, database, uid, trouble="ContainerCreating")
    assert row["trouble_since"] == waiting.trouble_since
    source.tell(("MODIFIED", pod(RUNNING, uid=uid, version="6")))
    row = await until(watching, database, uid, trouble="")
    assert (row["trouble_since"], row["ready"]) == (None, True)


async def test_a_death_is_remembered_when_its_pod_is_gone(
    carafe_client: Client, watching: Cluster, source: Scripted
) -> None:
    database = carafe_client.database
    source.lists.append([pod(uid="a", name="one")])
    await until(watching, database, "a", ended=False)
    source.tell(("MODIFIED", pod(OOM, uid="a", name="one", version="5")))
    died = await until(watching, database, "a", ended=True)
    assert (died["death_reason"], died["death_exit_code"], died["gone_at"]) == ("OOMKilled", 137, None)
    assert (await known(database))["one"].last_death == "out of memory: OOMKilled (exit code 137), pod 'one' on node 'kit'"

    source.tell(("MODIFIED", pod(BACK_OFF, OOM, uid="a", name="one", version="6", restarts=1)))
    row = await until(watching, database, "a", restarts=1)
    assert row["death_seen_at"] == died["death_seen_at"]
    source.tell(("DELETED", pod(ERROR, OOM, uid="a", name="one", version="7", restarts=2)))
    row = await until(watching, database, "a", restarts=2)
    assert (row["death_reason"], row["death_seen_at"] > died["death_seen_at"]) == ("Error", True)
    assert row["gone_at"] is not None
    assert await known(database) == {}


async def test_what_vanished_while_nobody_looked_is_gone(carafe_client: Client, watching: Cluster, source: Scripted) -> None:
    database = carafe_client.database
    source.lists.append([pod(uid="a"), pod(uid="b")])
    await until(watching, database, "b", ended=False)
    elsewhere = Cluster(database, "elsewhere", Scripted())
    await elsewhere.round()
    elsewhere.stop()
    watching.stop()
    source.tell()
    await eventually(lambda: not watching._watch.well)

    source.lists.append([pod(uid="b")])
    row = await until(watching, database, "a", ended=True)
    assert (row["gone_at"] is not None, row["ready"]) == (True, False)
    assert (await rows(database))["b"]["gone_at"] is None
    # It was there after all (another leader's list was older): then it is back.
    source.tell(("MODIFIED", pod(uid="a", version="8")))
    row = await until(watching, database, "a", ended=False)
    assert row["gone_at"] is None


async def test_more_pods_than_one_batch(
    carafe_client: Client, watching: Cluster, source: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "BATCH", 3)
    source.lists.append([pod(uid=f"{n}", name=f"{n}") for n in range(10)])

    await until(watching, carafe_client.database, "9", ended=False)

    assert len(await known(carafe_client.database)) == 10


async def test_what_could_not_be_written_is_written_later(
    carafe_client: Client, watching: Cluster, source: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.lists.append([pod(uid="a"), pod(uid="b")])
    execute = watching._execute
    failed: list[Any] = []

    async def fail_once(statement: Any, **values: Any) -> None:
        if not failed and values.get("pods"):
            failed.append(statement)
            raise RuntimeError("as when Postgres goes away")
        await execute(statement, **values)

    monkeypatch.setattr(watching, "_execute", fail_once)
    await eventually(lambda: _round_until(watching, failed))

    await until(watching, carafe_client.database, "a", ended=False)
    assert (await rows(carafe_client.database)).keys() == {"a", "b"}


async def _round_until(watching: Cluster, happened: list[Any]) -> bool:
    await watching.round()
    return bool(happened)


async def test_nothing_is_known_where_nobody_may_look(carafe_client: Client, watching: Cluster, source: Scripted) -> None:
    source.lists.append(NotPermitted("Forbidden (403)"))

    async def refused() -> bool:
        await watching.round()
        return bool(source.asked)

    await eventually(refused)
    for _ in range(3):
        await watching.round()
    assert source.asked == ["list"]
    assert await known(carafe_client.database) == {}


async def test_what_nobody_confirms_is_not_current(carafe_client: Client, watching: Cluster, source: Scripted) -> None:
    database = carafe_client.database
    source.lists.append([pod(uid="a", name="one")])
    await until(watching, database, "a", ended=False)
    async with database.connection() as connection:
        await connection.execute("update carafe.pods set confirmed_at = now() - interval '31 seconds'")
    assert not (await known(database))["one"].current

    watching._confirmed = 0.0
    await watching.round()
    assert (await known(database))["one"].current


async def test_pods_are_forgotten_a_day_after_they_were_gone(
    carafe_client: Client, watching: Cluster, source: Scripted
) -> None:
    database = carafe_client.database
    source.lists.append([pod(uid=uid) for uid in ("old", "new", "there")])
    await until(watching, database, "there", ended=False)
    async with database.connection() as connection:
        for uid, age in (("old", "25 hours"), ("new", "23 hours")):
            await connection.execute(f"update carafe.pods set gone_at = now() - interval '{age}' where uid = $1", uid)

    watching._pruned = -1e9
    await watching.round()

    assert (await rows(database)).keys() == {"new", "there"}
    await run(database, PRUNE_PODS, keep=1.0, limit=0)
    assert await count(database, "pods") == 2


def test_outside_a_cluster_there_is_no_such_service(steward: Steward) -> None:
    assert steward.cluster is None
    assert "cluster" not in [service.name for service in steward.services]
