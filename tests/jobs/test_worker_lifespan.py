"""A worker lifespan is declared beside the handlers, checked at its declaration, and entered by the testing kit as by a
worker."""

import asyncio
import importlib
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from carafe import Client, Context, InvalidOption, Job, State, SyncClient, SyncContext, handler, testing, worker_lifespan
from carafe.engine.lifespans import LifespanFailed, Lifespans, trouble_of, value_of
from carafe.jobs import handlers as registry
from carafe.jobs import worker_lifespan as declaring
from carafe.jobs.worker_lifespan import WorkerLifespan, worker_lifespans


class Shout(Job[str], kind="tests.lifespan.shout", max_retries=0):
    """Uses what its worker shares."""

    word: str


class ShoutInThread(Shout, kind="tests.lifespan.shout_in_thread"):
    """The same in a thread."""


seen: list[str] = []
fails = False


def tone() -> Iterator[str]:
    seen.append("tone entered")
    yield "!"
    seen.append("tone left")


@asynccontextmanager
async def volume() -> AsyncIterator[int]:
    if fails:
        raise ConnectionRefusedError("nobody listens")
    seen.append("volume entered")
    yield 3
    seen.append("volume left")


@pytest.fixture(autouse=True)
def declared(monkeypatch: pytest.MonkeyPatch) -> dict[str, WorkerLifespan[Any]]:
    """The lifespans of these tests alone, and handlers that use them."""
    monkeypatch.setattr(declaring, "_declared", [])
    monkeypatch.setattr(registry, "_handlers", dict(registry._handlers))
    monkeypatch.setattr(f"{__name__}.fails", False)
    seen.clear()
    found: dict[str, WorkerLifespan[Any]] = {"tone": worker_lifespan(tone), "volume": worker_lifespan(volume)}

    @handler(Shout)
    async def shout(job: Shout, ctx: Context) -> str:
        return str(job.word + ctx.lifespan(found["tone"]) * ctx.lifespan(found["volume"]))

    @handler(ShoutInThread)
    def shout_in_thread(job: ShoutInThread, ctx: SyncContext) -> str:
        return str(job.word + ctx.lifespan(found["tone"]) * ctx.lifespan(found["volume"]))

    return found


WHOLE = ["tone entered", "volume entered", "volume left", "tone left"]


async def test_the_testing_kit_enters_it_at_the_first_job_and_leaves_it_with_the_block(carafe_client: Client) -> None:
    async with testing.inline(carafe_client):
        assert seen == []
        first = await carafe_client.enqueue(Shout(word="hey"))
        second = await carafe_client.enqueue(ShoutInThread(word="ho"))
        assert seen == WHOLE[:2]
    assert seen == WHOLE
    assert (await carafe_client.get(first)).result == "hey!!!"
    assert (await carafe_client.get(second)).result == "ho!!!"

    seen.clear()
    async with testing.manual(carafe_client) as jobs:
        await carafe_client.enqueue_many([Shout(word="a"), Shout(word="b")])
        assert [job.result for job in await jobs.drain()] == ["a!!!", "b!!!"]
    assert seen == WHOLE


def test_it_does_so_for_a_client_without_an_event_loop(carafe_sync_client: SyncClient) -> None:
    with testing.inline(carafe_sync_client):
        accepted = carafe_sync_client.enqueue(Shout(word="hey"))
    assert seen == WHOLE
    assert carafe_sync_client.get(accepted).result == "hey!!!"


async def test_one_that_fails_in_a_test_is_raised_there_and_leaves_the_others(
    carafe_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.fails", True)
    async with testing.manual(carafe_client) as jobs:
        job = await carafe_client.enqueue(Shout(word="hey"))
        with pytest.raises(LifespanFailed, match=r"volume failed at its start: ConnectionRefusedError: nobody listens"):
            await jobs.drain()
    assert seen == ["tone entered", "tone left"]
    assert (await carafe_client.get(job.id)).state is State.QUEUED


async def test_inline_raises_at_the_end_of_its_block_when_one_has_failed(
    carafe_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.fails", True)
    words = r"volume failed at its start: ConnectionRefusedError: nobody listens"
    with pytest.raises(LifespanFailed, match=words):
        async with testing.inline(carafe_client):
            first = await carafe_client.enqueue(Shout(word="hey"))
    assert (await carafe_client.get(first.id)).state is State.QUEUED


def test_inline_of_a_client_without_an_event_loop_raises_it_too(
    carafe_sync_client: SyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.fails", True)
    with pytest.raises(LifespanFailed, match="volume failed at its start"), testing.inline(carafe_sync_client):
        accepted = carafe_sync_client.enqueue(Shout(word="hey"))
    assert carafe_sync_client.get(accepted.id).state is State.QUEUED


async def test_one_that_hangs_in_a_test_is_bounded(carafe_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    @worker_lifespan
    async def hangs() -> AsyncIterator[int]:
        await asyncio.Event().wait()
        yield 1

    monkeypatch.setattr("carafe.testing.executor.START", 0.2)
    async with testing.manual(carafe_client) as jobs:
        await carafe_client.enqueue(Shout(word="hey"))
        with pytest.raises(LifespanFailed, match=r"hangs did not start: .* not entered within 0.2 s"):
            await jobs.drain()
    assert seen == WHOLE


@pytest.mark.parametrize("blocks", [False, True])
def test_a_check_names_one_that_does_not_start(monkeypatch: pytest.MonkeyPatch, blocks: bool) -> None:
    let_go = threading.Event()

    @worker_lifespan
    async def hangs() -> AsyncIterator[int]:
        await (asyncio.sleep(0, let_go.wait()) if blocks else asyncio.Event().wait())
        yield 1

    monkeypatch.setattr("carafe.engine.lifespans.UNDONE", 0.1)
    try:
        said = trouble_of([hangs], 0.2)
    finally:
        let_go.set()
    assert said is not None
    assert f"the worker lifespan {hangs.name} {'blocks the event loop' if blocks else 'did not start'}" in said


async def test_lifespans_that_one_function_makes_are_different() -> None:
    def make(name: str) -> WorkerLifespan[str]:
        @worker_lifespan
        def pool() -> Iterator[str]:
            yield name

        return pool

    one, two = make("db1"), make("db2")
    assert two.name == f"{one.name} (2)"

    lifespans = Lifespans(worker_lifespans())
    assert await lifespans.enter()
    assert (value_of(lifespans.values, one), value_of(lifespans.values, two)) == ("db1", "db2")
    await lifespans.leave(10)


def test_a_module_that_is_imported_again_declares_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "declares_two.py").write_text(
        "from carafe import worker_lifespan\n"
        "def make(value):\n    @worker_lifespan\n    def pool():\n        yield value\n    return pool\n"
        "one, two = make(1), make(2)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    others = list(declaring.worker_lifespans())
    module = importlib.import_module("declares_two")
    before = (module.one, module.two)
    assert list(declaring.worker_lifespans()) == [*others, *before]
    importlib.reload(module)
    assert list(declaring.worker_lifespans()) == [*others, module.one, module.two]
    assert module.one not in before


async def test_one_that_ends_early_is_told_and_closes_no_other() -> None:
    @worker_lifespan
    async def brief() -> AsyncIterator[int]:
        async with asyncio.timeout(None) as limit:
            limits.append(limit)
            yield 1

    limits: list[asyncio.Timeout] = []
    ended: asyncio.Queue[str] = asyncio.Queue()
    lifespans = Lifespans(worker_lifespans(), ended=ended.put_nowait)
    assert await lifespans.enter()
    limits[0].reschedule(0)
    assert await asyncio.wait_for(ended.get(), 10) == brief.name
    assert seen == WHOLE[:2]
    await lifespans.leave(10)
    assert seen == WHOLE


async def test_a_lifespan_that_was_not_entered_is_refused_in_words(
    carafe_client: Client, declared: dict[str, WorkerLifespan[Any]]
) -> None:
    def late() -> Iterator[int]:
        yield 1

    async with testing.inline(carafe_client):
        await carafe_client.enqueue(Shout(word="hey"))
        declared["tone"] = worker_lifespan(late)
        accepted = await carafe_client.enqueue(Shout(word="hey"))
    record = await carafe_client.get(accepted)
    assert record.attempts[0].error_class == f"{InvalidOption.__module__}.{InvalidOption.__qualname__}"
    assert "late was not entered in this process: declare it in a module of HANDLER_MODULES" in str(record.error)


async def nothing() -> None: ...


def with_argument(name: str) -> Iterator[str]:
    yield name


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (nothing, "nothing is an `async def` that yields nothing: yield the shared value once"),
        (print, "yields nothing"),
        (with_argument, "with_argument is called without arguments"),
        (contextmanager(with_argument), "with_argument is called without arguments"),
        (3, "is put on a function"),
    ],
)
def test_a_declaration_that_cannot_work_is_refused(function: Any, words: str) -> None:
    with pytest.raises(TypeError, match=rf"@worker_lifespan: .*{words}|@worker_lifespan: {words}"):
        worker_lifespan(function)


async def test_a_lifespan_can_be_entered_by_other_code_too() -> None:
    async with worker_lifespan(volume)() as value:
        assert value == 3
    with worker_lifespan(tone)() as value:
        assert value == "!"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ConnectionRefusedError])
async def test_a_plain_lifespan_fails_by_the_name_of_its_own_error(error: type[BaseException]) -> None:
    @contextmanager
    def stops() -> Iterator[None]:
        if (stopped := error("not now")).args:
            raise stopped
        yield

    with pytest.raises(LifespanFailed, match=f"failed at its start: {error.__name__}: not now") as raised:
        await Lifespans([WorkerLifespan(stops, asynchronous=False)]).enter()
    assert type(raised.value.__cause__) is error
