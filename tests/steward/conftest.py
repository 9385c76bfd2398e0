"""What these tests share: a worker by hand, the list in Redis, and time that passes when a test says so."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from uuid import UUID

import pytest

from carafe import Client
from carafe.engine.claim import Claim
from carafe.engine.statements import WORKER_UNHELD
from carafe.steward import Steward
from carafe.store.statements import WORKER_BEAT, WORKER_START
from tests.jobs.by_hand import ByHand, run
from tests.jobs.conftest import hinted, worker
from tests.steward.processes import Child

__all__ = ["hinted", "worker"]

Later = Callable[..., Awaitable[None]]


@pytest.fixture
def later(carafe_client: Client) -> Later:
    """Lets seconds pass for the hints of queued jobs: their stamps are moved back."""

    async def move(seconds: float = 10.0) -> None:
        async with carafe_client.database.connection() as connection:
            await connection.execute(
                "update carafe.jobs set hinted_at = hinted_at - $1 * interval '1 second' where state = 'queued'", seconds
            )

    return move


@pytest.fixture
def steward(carafe_client: Client) -> Steward:
    """A steward whose services the test drives by hand."""
    return Steward(carafe_client.database, carafe_client.queue, name="by hand")


@pytest.fixture
def child() -> Iterator[Child]:
    """A process to look for, and to kill."""
    with Child() as child:
        yield child


async def announce(
    worker: ByHand,
    *,
    kinds: Sequence[str] = (),
    versions: Sequence[int] | None = None,
    concurrency: int = 5,
    incarnation: str = "x",
    pod: str = "",
) -> None:
    """What a worker says of itself at its start. `versions`: by default 1 for each kind."""
    await run(
        worker.database,
        WORKER_START,
        id=worker.id,
        name="by hand",
        host="here",
        pid=1,
        incarnation=incarnation,
        pod=pod,
        version="0",
        kinds=list(kinds),
        versions=[1] * len(kinds) if versions is None else list(versions),
        concurrency=concurrency,
    )


Findings = dict[str, set[tuple[UUID, int | None]]]


async def beat(worker: ByHand, *held: Claim, claiming: Sequence[UUID] = (), since: datetime | None = None) -> Findings:
    """One heartbeat of a worker that holds these claims: what it is told, as (id, fence). No ``beat``: it was declared lost.

    `since` is the time of the beat before; None: everything was claimed before it.
    """
    since = since or datetime(9999, 1, 1, tzinfo=UTC)
    old = [claim for claim in held if claim.row["started_at"] < since]
    claims = [*old, *(claim for claim in held if claim not in old)]
    ids = [claim.id for claim in claims]
    fences = [claim.fence for claim in claims]
    rows = await run(worker.database, WORKER_BEAT, id=worker.id, state="running", ids=ids, fences=fences, settled=len(old))
    findings: Findings = {}
    looked = await run(worker.database, WORKER_UNHELD, id=worker.id, since=since, ids=ids, claiming=list(claiming))
    if looked:
        findings["unheld"] = {(row["id"], row["fence"]) for row in looked}
    for row in rows:
        findings.setdefault(row["what"], set()).add((row["id"], row["fence"]))
    return findings
