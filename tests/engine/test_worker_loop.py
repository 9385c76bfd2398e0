"""The worker's event loop: ordinary code works on it, and handlers cannot harm it."""

import asyncio
import inspect
import os
import sysconfig
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextvars import Context
from typing import Any

import pytest
from structlog.testing import capture_logs

import carafe
from carafe.engine.captured_logs import running
from carafe.engine.claim import Claim
from carafe.engine.loop_watch import NOBODY, LoopWatch
from carafe.engine.threads import Threads
from carafe.engine.worker_loop import GuardedTask, SharedLoop, WorkerLoop, shown
from carafe.jobs.identifiers import uuid7

OnLoop = Callable[[Callable[[SharedLoop], Any]], Any]


@pytest.fixture
def on_loop() -> Iterator[OnLoop]:
    """Calls a function with the running loop, in the loop's thread, as the engine does; its answer (awaited)."""
    turning = WorkerLoop()
    turning.start()

    def call(function: Callable[[SharedLoop], Any]) -> Any:
        done = threading.Event()
        answer: list[Any] = []

        def run() -> None:
            try:
                value = function(turning.loop)
            except BaseException as error:
                value = error
            if isinstance(value, Awaitable):
                awaiting = asyncio.ensure_future(value, loop=turning.loop)
                awaiting.add_done_callback(lambda task: keep(task.exception() or task.result()))
            else:
                keep(value)

        def keep(value: Any) -> None:
            answer.append(value)
            done.set()

        assert turning.call(run)
        assert done.wait(10)
        if isinstance(answer[0], BaseException):
            raise answer[0]
        return answer[0]

    yield call
    assert turning.end(5)


def claim(kind: Any = "tests.kind") -> Claim:
    row = {"id": uuid7(), "kind": kind, "fence": 1, "attempt": 0, "suspect": False}
    return Claim(row, b"", 0.0)


def belonging_to(owner: Claim) -> Context:
    context = Context()
    context.run(running.set, owner)
    return context


async def test_what_others_hand_over_while_an_attempt_begins_goes_its_usual_way(on_loop: OnLoop) -> None:
    order: list[str] = []

    async def attempt() -> None:
        order.append("attempt")

    def begin(loop: SharedLoop) -> Awaitable[None]:
        class Talks:
            """Its text is made while the task is: like a destructor, it may run anything."""

            def __str__(self) -> str:
                loop.call_soon(order.append, "with arguments")
                loop.call_soon(lambda: order.append("without"))
                loop.call_soon(lambda: order.append("in a context"), context=Context())
                return "kind"

        task = loop.begin(attempt(), claim(Talks()), Context())
        assert order == ["attempt"]
        assert task.done() or task.get_name() == "kind"
        return asyncio.sleep(0)

    on_loop(begin)
    assert order == ["attempt", "with arguments", "without", "in a context"]


async def test_who_runs_the_loop_is_refused_and_the_coroutine_closed(on_loop: OnLoop) -> None:
    async def never() -> None: ...

    coroutine = never()
    with pytest.raises(RuntimeError, match="all handlers of its worker share it"):
        on_loop(lambda loop: loop.run_until_complete(coroutine))
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


async def test_a_stop_goes_through_to_what_is_its_own_alone(on_loop: OnLoop) -> None:
    def stop(loop: SharedLoop) -> Awaitable[tuple[bool, ...]]:
        one, other = claim(), claim()
        engines = loop.create_task(asyncio.Event().wait())
        neighbours = loop.create_task(asyncio.Event().wait(), context=belonging_to(other))
        own = loop.create_task(asyncio.Event().wait(), context=belonging_to(one))

        async def joins(*tasks: asyncio.Task[Any]) -> None:
            await asyncio.gather(*tasks)

        hears = loop.begin(joins(own), one, belonging_to(one))
        deaf = loop.begin(joins(engines, neighbours), other, belonging_to(other))
        thwarts = loop.begin(joins(engines), one, belonging_to(one))

        async def look() -> tuple[bool, ...]:
            for attempt in (hears, deaf, thwarts):
                attempt.stop()
            await asyncio.wait([hears], timeout=5)
            found = (hears.cancelled(), own.cancelled(), engines.done(), thwarts.done(), thwarts.deaf, one.spares)
            for task in (engines, neighbours):
                task.cancel()  # the engine's own word
            await asyncio.wait([deaf, thwarts], timeout=5)
            return *found, deaf.done(), thwarts.done()

        return look()

    found = on_loop(stop)
    assert found == (True, True, False, False, True, False, True, True)


async def test_a_stop_survives_what_the_application_has_made_of_a_future(on_loop: OnLoop) -> None:
    class Refuses(asyncio.Future[None]):
        def cancel(self, msg: Any = None) -> bool:
            raise SystemExit("no")

    def stop(loop: SharedLoop) -> bool:
        waits = Refuses(loop=loop)

        async def attempt() -> None:
            await waits

        one = claim()
        task = loop.begin(attempt(), one, belonging_to(one))
        task.stop()
        waits.set_result(None)
        return isinstance(task, GuardedTask)

    assert on_loop(stop)


def test_what_no_thread_can_be_had_for_will_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = Threads(2, "tests")
    ran: list[str] = []
    done = threading.Event()

    def accepted() -> None:
        ran.append("accepted")
        done.set()

    def none_left(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none_left)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            threads.submit(Context(), ran.append, "refused")
    threads.submit(Context(), accepted)
    assert done.wait(10)
    threads.stop()
    assert ran == ["accepted"]


def test_a_deep_stack_shows_the_applications_own_line() -> None:
    def frame(name: str, file: str) -> traceback.FrameSummary:
        return traceback.FrameSummary(file, 1, name, lookup_line=False, line="")

    library = [frame(f"library_{number}", os.path.join(sysconfig.get_path("purelib"), "x.py")) for number in range(20)]
    called = [frame("attempt", carafe.__file__), frame("outer", "/app/h.py"), frame("inner", "/app/h.py")]
    text = shown(traceback.StackSummary.from_list([*called, *library]))
    assert "in inner" in text
    assert "in library_19" in text
    assert "in outer" not in text
    assert "in library_0\n" not in text
    # Nothing is said twice where it is among the innermost.
    assert shown(traceback.StackSummary.from_list(called)).count("in inner") == 1


async def test_a_loop_that_stands_in_nobodys_code_is_not_blamed_on_a_handler() -> None:
    turning = WorkerLoop()
    turning.start()
    holding, release = threading.Event(), threading.Event()

    def hold() -> None:
        holding.set()
        release.wait(20)

    watch = LoopWatch(turning, lambda seconds: None)
    try:
        turning.call(hold)
        assert holding.wait(10)
        turning.standing(0.0)
        with capture_logs() as lines:
            watch._look(60.0, 0.0)
        [line] = lines
        assert "handler blocks" not in str(line["event"])
        assert str(line["event"]).startswith("the event loop is blocked, but not by a handler")
        assert "release.wait" in str(line["stack"])
        assert watch.standing(61.0)[1] == NOBODY
    finally:
        release.set()
        assert turning.end(10)
