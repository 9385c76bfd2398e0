"""What changed, told to open pages as server-sent events: names of topics only, the page fetches what it shows itself.

1. ``GET /events?topics=overview,jobs,dead,workers,bulk,job:UUID`` (at most 50 topics)
2. ``event: state``, first and whenever it changes: JSON ``{"postgres": null, "redis": null, "paused": null}``, in words
   what is down, and that it is paused
3. ``event: changed``, ``data: TOPIC``: fetch it again. Once soon after the stream has opened (what happened between the
   page and its stream is not missed), then at every change; several before a page reads are one.
4. ``event: ended``, ``data: signed out | stopping``: the session has ended, or this process goes (connect again)

Everything comes from Postgres by one read a second for all pages together, so it is true after any restart and while
Redis is away. A stream over DASHBOARD_STREAMS is answered 503, one over an address's share of them 429: the page polls
instead.
Must never: keep a process from exiting; all streams end as soon as it drains.
"""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.sse import EventSourceResponse, format_sse_event
from starlette.types import Receive, Scope, Send

from carafe.database import AWAY
from carafe.logging import get_logger
from carafe.web.dashboard import cookies
from carafe.web.dashboard.access import ViewerOf
from carafe.web.dashboard.dashboard import DashboardOf
from carafe.web.dashboard.failed_logins import network_of
from carafe.web.dashboard.origins import address_of
from carafe.web.dashboard.refusals import Refused
from carafe.web.stopping import stopping_of

if TYPE_CHECKING:
    from carafe.readmodel.model import ReadModel
    from carafe.readmodel.records import Snapshot
    from carafe.web.dashboard.snapshots import Snapshots

log = get_logger(__name__)

TICK = 1.0
"""Seconds between two looks at what changed."""

RECHECK = 15.0
"""Seconds after which a stream's session is looked at again; a comment is sent then, so that a dead peer is noticed."""

OF_ONE_BROWSER = 6
"""Connections that a browser opens to one address (over HTTP/1.1)."""

MAX_TOPICS = 50
"""Topics of one stream."""

NAMED = frozenset({"overview", "jobs", "dead", "workers", "bulk"})
"""Topics without a job's id."""

router = APIRouter()


@dataclass(eq=False)
class Stream:
    """One open page: what it wants to know, and what it has not been told yet."""

    topics: frozenset[str]
    address: str = ""
    """Whose page it is: an address, or a network (`network_of`)."""
    new: bool = True
    """Whether nobody has looked at its topics since it opened."""
    changed: set[str] = field(default_factory=set)
    told: Mapping[str, str | None] | None = None
    """The state that it was told last."""
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, topics: Iterable[str]) -> None:
        """These have changed."""
        self.changed |= self.topics.intersection(topics)
        if self.changed:
            self.woken.set()

    def take(self) -> list[str]:
        """What has changed since it was asked last."""
        taken = sorted(self.changed)
        self.changed.clear()
        return taken


class Streams:
    """The open streams of one dashboard, and the one task that looks for changes while there are any."""

    def __init__(self, model: "ReadModel", snapshots: "Snapshots", limit: int) -> None:
        self._model, self._snapshots, self._limit = model, snapshots, limit
        self.limit_of_one = max(OF_ONE_BROWSER, limit // 4)
        """Streams of one address: so that none takes all of them."""
        self._open: set[Stream] = set()
        self._by_address: Counter[str] = Counter()
        self._watching: asyncio.Task[None] | None = None
        self.ended = asyncio.Event()
        """Set when this process stops: every stream ends, no other is opened."""

    @property
    def open(self) -> int:
        """How many there are."""
        return len(self._open)

    def enter(self, topics: frozenset[str], address: str = "") -> Stream:
        """Open one. Raises `Refused`: 503 if there are too many, or the process stops; 429 if the address has too many."""
        if self.ended.is_set() or len(self._open) >= self._limit:
            raise Refused(
                503,
                "Too many open pages",
                f"{self._limit} pages follow what happens (DASHBOARD_STREAMS); this one looks again every few seconds.",
                headers={"Retry-After": "5"},
            )
        if self._by_address[address] >= self.limit_of_one:
            raise Refused(
                429,
                "Too many open pages",
                f"{self.limit_of_one} pages of your address follow what happens (a quarter of DASHBOARD_STREAMS, at least "
                f"{OF_ONE_BROWSER}); this one looks again every few seconds.",
                headers={"Retry-After": "5"},
            )
        stream = Stream(topics, address)
        self._open.add(stream)
        self._by_address[address] += 1
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch(), name="dashboard changes")
        return stream

    def leave(self, stream: Stream) -> None:
        """Close one. Harmless when it is closed."""
        if stream in self._open:
            self._open.discard(stream)
            self._by_address[stream.address] -= 1
            if not self._by_address[stream.address]:
                del self._by_address[stream.address]

    def end(self) -> None:
        """End all of them, for good."""
        self.ended.set()
        for stream in self._open:
            stream.woken.set()

    async def close(self) -> None:
        """End all of them, and the task."""
        self.end()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])

    async def _watch(self) -> None:
        seen = _Seen()
        while self._open and not self.ended.is_set():
            began = time.monotonic()
            try:
                await self._look(seen)
            except AWAY:
                pass  # the snapshot has said so
            except Exception:
                log.exception("looking for changes failed")
            try:
                async with asyncio.timeout(max(0.05, TICK - (time.monotonic() - began))):
                    await self.ended.wait()
            except TimeoutError:
                if server_stops():
                    self.end()

    async def _look(self, seen: "_Seen") -> None:
        """One look for everybody."""
        snapshot = await self._snapshots.fresh()
        state = self._snapshots.trouble()
        for stream in self._open:
            if stream.told != state:
                stream.changed |= {"state"}
                stream.woken.set()
        if snapshot is None:
            return
        wanted = frozenset().union(*(stream.topics for stream in self._open))
        changed = {topic for topic in NAMED & wanted if seen.differs(topic, of_snapshot(topic, snapshot))}
        if "bulk" in wanted and seen.differs("bulks", tuple(await self._model.bulk_actions(limit=20))):
            changed.add("bulk")
        ids = [UUID(topic.removeprefix("job:")) for topic in wanted if topic.startswith("job:")]
        if ids:
            versions = await self._model.versions(ids)
            changed |= {f"job:{job}" for job in ids if seen.differs(f"job:{job}", versions.get(job))}
        seen.keep(wanted | {"bulks"})
        for stream in self._open:
            # What a page fetches now is no older than what was seen just now: no later change is missed.
            stream.tell(stream.topics if stream.new else changed)
            stream.new = False


class _Seen:
    """What each topic looked like before."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def differs(self, topic: str, value: Any) -> bool:
        """Whether it looks different now. The first look at a topic is no change."""
        before = self._values.get(topic, value)
        self._values[topic] = value
        return bool(before != value)

    def keep(self, topics: frozenset[str]) -> None:
        """Forget all others."""
        self._values = {topic: value for topic, value in self._values.items() if topic in topics}


def of_snapshot(topic: str, snapshot: "Snapshot") -> Any:
    """The part of a snapshot that a topic is about. While jobs come and go, their pages change every second."""
    moving = (snapshot.rates.arrived, snapshot.rates.succeeded, snapshot.rates.dead, snapshot.rates.retried)
    at = snapshot.at if any(moving) else None
    match topic:
        case "overview":
            return snapshot
        case "jobs":
            return snapshot.counts, snapshot.paused_at, at
        case "dead":
            from carafe.jobs import State

            return snapshot.counts.get(State.DEAD), snapshot.rates.dead, snapshot.at if snapshot.rates.dead else None
        case "workers":
            # Heartbeat ages rise all the time: as long as somebody is there, every look differs.
            return snapshot.at if snapshot.workers else (snapshot.replicas_wanted, snapshot.replicas_there)
    return None


def server_stops() -> bool:
    """Whether the server that runs us has been asked to stop, where nobody tells us: uvicorn (alone or under gunicorn) is
    found by its own signal handler. ``carafe serve`` and ``carafe dev`` tell us (carafe.web.stopping)."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return bool(getattr(server, "should_exit", False))


@router.get("/events")
async def events(request: Request, viewer: ViewerOf, dashboard: DashboardOf, topics: str = "overview") -> Response:
    """The stream. Answers 503 over DASHBOARD_STREAMS, 429 over an address's share, 422 for topics that do not exist."""
    stream = dashboard.streams.enter(parsed(topics), network_of(address_of(request)))
    return _Following(dashboard.streams, stream, _events(request, dashboard, stream))


class _Following(EventSourceResponse):
    """The answer that holds a stream: it leaves, however it ends, also when its peer has gone before the first event."""

    def __init__(self, streams: Streams, stream: Stream, content: AsyncIterator[bytes]) -> None:
        super().__init__(content, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._streams, self._stream = streams, stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._streams.leave(self._stream)


def parsed(topics: str) -> frozenset[str]:
    """The topics that a page names. Raises `Refused` 422."""
    found = frozenset(topic.strip() for topic in topics.split(",") if topic.strip())
    for topic in found:
        if topic not in NAMED and not _is_job(topic):
            raise Refused(422, "No such topic", f"topics: {', '.join(sorted(NAMED))} or job:ID, separated by commas.")
    if not found or len(found) > MAX_TOPICS:
        raise Refused(422, "No such topic", f"topics: 1 to {MAX_TOPICS} of them, separated by commas.")
    return frozenset(f"job:{UUID(topic.removeprefix('job:'))}" if _is_job(topic) else topic for topic in found)


def _is_job(topic: str) -> bool:
    try:
        return topic.startswith("job:") and bool(UUID(topic.removeprefix("job:")))
    except ValueError:
        return False


async def _events(request: Request, dashboard: DashboardOf, stream: Stream) -> AsyncIterator[bytes]:
    streams = dashboard.streams
    stop = stopping_of(request)
    told = stop.tell(streams.end) if stop is not None else None
    try:
        yield format_sse_event(comment="connected", retry=2_000)
        yield _state(dashboard, stream)
        checked = time.monotonic()
        while not streams.ended.is_set():
            try:
                async with asyncio.timeout(max(0.0, checked + RECHECK - time.monotonic())):
                    await stream.woken.wait()
            except TimeoutError:
                cookies.look_again(request)
                try:
                    await dashboard.access.viewer(request)
                except Refused:
                    yield format_sse_event(event="ended", data_str="signed out")
                    return
                checked = time.monotonic()
                yield format_sse_event(comment="still here")
                continue
            stream.woken.clear()
            for topic in stream.take():
                yield _state(dashboard, stream) if topic == "state" else format_sse_event(event="changed", data_str=topic)
        yield format_sse_event(event="ended", data_str="stopping")
    finally:
        if told is not None:
            told()


def _state(dashboard: DashboardOf, stream: Stream) -> bytes:
    stream.told = dashboard.snapshots.trouble()
    return format_sse_event(event="state", data_str=orjson.dumps(stream.told).decode())
