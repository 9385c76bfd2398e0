"""Streams announce changes, to at most the permitted number of pages and only while the viewer is signed in, and never delay
the process's exit."""

import asyncio
import json
import signal
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID, uuid4

import pytest

from carafe import Client
from carafe.dashboard import Viewer
from carafe.dashboard.live import streams
from carafe.dashboard.live.streams import Stream, Streams, _Seen, server_stops
from carafe.dashboard.pages import events
from carafe.dashboard.pages.events import MAX_TOPICS, parsed
from carafe.dashboard.security.refusals import Refused
from carafe.dashboard.security.sessions import SESSION_LIFETIME
from tests.dashboard.conftest import PASSWORDS, Open
from tests.dashboard.streaming import Reader, following
from tests.dashboard.visiting import Visitor
from tests.waiting import eventually
from tests.web.kinds_for_tests import Anything

NOBODY: dict[str, Any] = {"dashboard_users": ()}


async def test_a_stream_begins_with_how_things_stand(opened: Open) -> None:
    async with opened(**NOBODY) as served, following(served.visitor().http, "jobs") as reader:
        assert reader.answer.status_code == 200
        assert reader.answer.headers["content-type"].startswith("text/event-stream")
        assert reader.answer.headers["cache-control"] == "no-store"
        assert reader.answer.headers["x-accel-buffering"] == "no"
        state = await reader.until("state")
        assert json.loads(state.data) == {"postgres": None, "redis": None, "paused": None}


async def test_what_changed_is_told_to_those_who_asked(opened: Open) -> None:
    async with opened(**NOBODY) as served:
        client: Client = served.dashboard.client
        first = await client.enqueue(Anything(value=1))
        topics = f"jobs,job:{first.id}"
        async with following(served.visitor().http, topics) as reader, following(served.visitor().http, "dead") as other:
            # Once by itself: what happened between the page and its stream is not missed.
            await reader.until("changed", f"job:{first.id}")
            await reader.until("changed", "jobs")
            await client.enqueue(Anything(value=2))
            await reader.until("changed", "jobs")
            await client.cancel(first.id)
            await reader.until("changed", f"job:{first.id}")
            await other.until("changed", "dead")


async def test_a_page_that_opens_beside_others_is_told_once_too(opened: Open) -> None:
    async with opened(**NOBODY) as served, following(served.visitor().http, "workers") as first:
        await first.until("changed", "workers")
        async with following(served.visitor().http, "workers") as second:
            await second.until("changed", "workers")


async def test_one_over_the_cap_is_told_to_poll(opened: Open) -> None:
    async with opened(**NOBODY, dashboard_streams=2) as served:
        http = served.visitor().http
        async with following(http, "jobs") as first, following(http, "jobs") as second:
            assert (first.answer.status_code, second.answer.status_code) == (200, 200)
            async with following(http, "jobs", **{"x-fragment": "1"}) as third:
                assert third.answer.status_code == 503
                assert third.answer.headers["retry-after"] == "5"
        await eventually(lambda: served.dashboard.streams.open == 0)
        async with following(http, "jobs") as again:
            assert again.answer.status_code == 200


async def test_no_address_takes_all_of_them(opened: Open) -> None:
    async with opened(**NOBODY, dashboard_streams=8) as served:
        open_ = served.dashboard.streams
        first = [open_.enter(frozenset({"jobs"}), "203.0.113.1") for _ in range(open_.limit_of_one)]
        with pytest.raises(Refused) as refused:
            open_.enter(frozenset({"jobs"}), "203.0.113.1")
        assert (refused.value.status, refused.value.headers["Retry-After"]) == (429, "5")
        async with following(served.visitor().http, "jobs") as other:
            assert other.answer.status_code == 200
            for _ in range(2):
                open_.leave(first[0])
            open_.enter(frozenset({"jobs"}), "203.0.113.1")
            with pytest.raises(Refused):
                open_.enter(frozenset({"jobs"}), "203.0.113.1")
        for stream in list(open_._open):
            open_.leave(stream)
    async with opened(**NOBODY, dashboard_streams=100) as served:
        assert served.dashboard.streams.limit_of_one == 25
        async with AsyncExitStack() as stack:
            for number in range(26):
                reader = await stack.enter_async_context(following(served.visitor().http, "jobs", **{"x-fragment": "1"}))
                assert reader.answer.status_code == (200 if number < 25 else 429)


async def test_pages_that_follow_thousands_of_jobs_keep_nobody_from_what_changed(opened: Open) -> None:
    async with opened(**NOBODY) as served:
        client: Client = served.dashboard.client
        job = await client.enqueue(Anything(value=1))
        for _ in range(25):
            served.dashboard.streams.enter(parsed(",".join(f"job:{uuid4()}" for _ in range(MAX_TOPICS))), "203.0.113.1")
        async with following(served.visitor().http, f"jobs,job:{job.id}") as reader:
            await reader.until("changed", f"job:{job.id}")
            await client.cancel(job.id)
            await reader.until("changed", f"job:{job.id}")


class SlowModel:
    """Says when it is asked for versions, and answers when it is told."""

    def __init__(self) -> None:
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()

    async def versions(self, ids: list[UUID]) -> dict[UUID, str]:
        self.asked.set()
        await self.go_on.wait()
        return dict.fromkeys(ids, "the same")


class NothingNew:
    """A snapshot that nobody looks into."""

    async def fresh(self) -> object:
        return self

    def trouble(self) -> dict[str, str | None]:
        return {}


async def test_a_page_that_opens_during_a_look_is_of_the_next_one() -> None:
    model: Any = SlowModel()
    snapshots: Any = NothingNew()
    followed = Streams(model, snapshots, 10)
    early, late = (Stream(frozenset({f"job:{uuid4()}"})) for _ in range(2))
    followed._open.add(early)
    looking = asyncio.create_task(followed._look(_Seen()))
    await model.asked.wait()
    followed._open.add(late)
    model.go_on.set()
    await looking
    assert (early.new, early.take()) == (False, [*early.topics, "state"])
    # Nobody has seen its job yet: reported now, its later changes would go unreported until the next look.
    assert (late.new, late.take()) == (True, [])


async def test_a_peer_that_left_before_the_first_event_leaves_its_place(opened: Open) -> None:
    async with opened(**NOBODY) as served:
        app = served.dashboard.application
        scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/events", "query_string": b"topics=jobs"}
        scope |= {"headers": [(b"host", b"localhost")], "client": ("127.0.0.1", 1), "scheme": "http", "root_path": ""}
        scope |= {"http_version": "1.1", "server": ("127.0.0.1", 1), "asgi": {"version": "3.0", "spec_version": "2.3"}}
        sent: list[Any] = []

        async def receive() -> dict[str, str]:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await app(scope, receive, send)
        assert served.dashboard.streams.open == 0


async def test_a_page_that_is_closed_frees_its_place_and_nobody_watches_for_nobody(opened: Open) -> None:
    async with opened(**NOBODY) as served:
        async with following(served.visitor().http, "overview") as reader:
            await reader.until("state")
            assert served.dashboard.streams.open == 1
        await eventually(lambda: served.dashboard.streams.open == 0)
        task = served.dashboard.streams._watching
        assert task is not None
        await asyncio.wait_for(task, 10)


async def test_topics_are_names_or_jobs() -> None:
    job = uuid4()
    assert parsed(f"jobs, job:{str(job).upper()}") == {"jobs", f"job:{job}"}
    many = ",".join(f"job:{uuid4()}" for _ in range(MAX_TOPICS + 1))
    for wrong in ("", ",", "nothing", "job:", "job:1", "jobs,secrets", many):
        with pytest.raises(Refused) as refused:
            parsed(wrong)
        assert refused.value.status == 422


async def test_a_session_that_ends_ends_its_stream(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "RECHECK", 0.2)
    async with opened() as served:
        now = 2_000_000_000.0
        served.dashboard.clock = lambda: now
        visitor = served.visitor()
        await visitor.sign_in("vic", PASSWORDS["vic"])
        async with following(visitor.http, "jobs") as reader:
            await reader.until("", "still here")
            now += SESSION_LIFETIME
            await reader.until("ended", "signed out")
            assert await reader.next() is None


async def test_what_an_application_says_of_who_looks_is_asked_again(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "RECHECK", 0.2)
    allowed = True
    async with (
        opened(authenticate=lambda request: Viewer("ana") if allowed else None) as served,
        following(served.visitor().http, "jobs") as reader,
    ):
        await reader.until("", "still here")
        allowed = False
        await reader.until("ended", "signed out")


async def test_all_streams_end_when_the_server_stops(opened: Open) -> None:
    async with opened(**NOBODY, drain_timeout=600) as served:
        visitor = served.visitor()
        async with AsyncExitStack() as stack:
            readers: list[Reader] = []
            for _ in range(5):
                readers.append(await stack.enter_async_context(following(visitor.http, "overview,jobs")))
            for reader in readers:
                await reader.until("state")
            served.web.stop()
            async with asyncio.timeout(10):
                for reader in readers:
                    await reader.until("ended", "stopping")
                    assert await reader.next() is None
        assert served.dashboard.streams.open == 0
        with pytest.raises(Refused):
            served.dashboard.streams.enter(frozenset({"jobs"}))


async def test_many_changes_before_a_page_reads_are_one() -> None:
    following_one = streams.Stream(frozenset({"jobs", "dead"}))
    for _ in range(1_000):
        following_one.tell({"jobs", "workers"})
    assert following_one.woken.is_set()
    assert following_one.take() == ["jobs"]
    assert following_one.take() == []


def test_a_server_of_uvicorns_own_is_found_by_its_signal_handler() -> None:
    class Server:
        should_exit = False

        def handle_exit(self, number: int, frame: object) -> None:
            self.should_exit = True

    server = Server()
    before = signal.signal(signal.SIGTERM, server.handle_exit)
    try:
        assert not server_stops()
        signal.raise_signal(signal.SIGTERM)
        assert server_stops()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not server_stops()


def test_the_first_look_at_a_topic_is_no_change() -> None:
    seen = streams._Seen()
    assert not seen.differs("jobs", 1)
    assert not seen.differs("jobs", 1)
    assert seen.differs("jobs", 2)
    seen.keep(frozenset())
    assert not seen.differs("jobs", 3)


async def test_a_stranger_gets_no_stream(opened: Open) -> None:
    async with opened() as served:
        stranger: Visitor = served.visitor()
        assert (await stranger.open("/events?topics=jobs")).status_code == 401
        assert served.dashboard.streams.open == 0
