"""Notifies open pages of changes by server-sent events. An event names a topic; the page then fetches the content itself.

1. A page opens ``GET /events?topics=overview,jobs,dead,workers,bulk,job:UUID``, with at most 50 topics.
2. ``event: state`` is sent first, and whenever the state changes. Its JSON ``{"postgres": null, "redis": null, "paused":
   null}`` has sentences that say which server is down and whether the queue is paused.
3. ``event: changed`` with ``data: TOPIC`` asks the page to fetch that topic again. Each topic is sent once soon after the
   stream opens, so that no change between page and stream is missed, and then at every change. Changes that a page has not
   read yet are merged.
4. ``event: ended`` has ``data: signed out`` when the session has ended. It has ``data: stopping`` when this process stops,
   after which the page connects again.

Changes are found by one read of Postgres a second for all pages together. So they are found after a restart too, and while
Redis is away. A stream beyond DASHBOARD_STREAMS is refused with 503, and one beyond the share of its IP address with 429. A
page without a stream polls instead.
Must never: keep a process from exiting. All streams end as soon as the process drains.
"""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from carafe.dashboard.security.refusals import Refused
from carafe.store.database import AWAY
from carafe.telemetry.loggers import get_logger

if TYPE_CHECKING:
    from carafe.dashboard.live.snapshots import Snapshots
    from carafe.readmodel.model import ReadModel
    from carafe.readmodel.records import Snapshot

log = get_logger(__name__)

TICK = 1.0
"""Seconds between two reads of the state, by which changes are found."""

NAMED = frozenset({"overview", "jobs", "dead", "workers", "bulk"})
"""All topics but those of single jobs (``job:UUID``)."""

RECHECK = 15.0
"""Seconds after which a stream checks again whether its session is valid, and sends a comment, which fails if the peer is
gone."""

OF_ONE_BROWSER = 6
"""How many connections a browser opens to one server over HTTP/1.1."""


@dataclass(eq=False)
class Stream:
    """One open page: its topics, and the changes not yet sent to it."""

    topics: frozenset[str]
    address: str = ""
    """The browser's IP address, or its network for IPv6 (`network_of`)."""
    new: bool = True
    """Whether the stream's topics have not been read since it opened."""
    changed: set[str] = field(default_factory=set)
    told: Mapping[str, str | None] | None = None
    """The state that was sent to the page last (``event: state``)."""
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, topics: Iterable[str]) -> None:
        """Record that these topics have changed. Topics that the page has not asked for are ignored."""
        self.changed |= self.topics.intersection(topics)
        if self.changed:
            self.woken.set()

    def take(self) -> list[str]:
        """Returns the topics that have changed since the last call."""
        taken = sorted(self.changed)
        self.changed.clear()
        return taken


class Streams:
    """The open streams of one dashboard, and the task that looks for changes while any is open."""

    def __init__(self, model: "ReadModel", snapshots: "Snapshots", limit: int) -> None:
        self._model, self._snapshots, self._limit = model, snapshots, limit
        self.limit_of_one = max(OF_ONE_BROWSER, limit // 4)
        """How many streams one address may open, so that it cannot use up all of them."""
        self._open: set[Stream] = set()
        self._by_address: Counter[str] = Counter()
        self._watching: asyncio.Task[None] | None = None
        self.ended = asyncio.Event()
        """Set when this process stops. Then every stream ends, and none is opened any more."""

    @property
    def open(self) -> int:
        """How many streams are open."""
        return len(self._open)

    def enter(self, topics: frozenset[str], address: str = "") -> Stream:
        """Open a stream. Raises `Refused`: 503 if too many are open or the process stops, 429 if `address` has too many."""
        if self.ended.is_set() or len(self._open) >= self._limit:
            raise Refused(
                503,
                "Too many open pages",
                f"At most {self._limit} pages get live updates (DASHBOARD_STREAMS); this page reloads every few seconds.",
                headers={"Retry-After": "5"},
            )
        if self._by_address[address] >= self.limit_of_one:
            raise Refused(
                429,
                "Too many open pages",
                f"At most {self.limit_of_one} pages from one IP address get live updates (a quarter of DASHBOARD_STREAMS, "
                f"at least {OF_ONE_BROWSER}); this page reloads every few seconds.",
                headers={"Retry-After": "5"},
            )
        stream = Stream(topics, address)
        self._open.add(stream)
        self._by_address[address] += 1
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch(), name="dashboard changes")
        return stream

    def leave(self, stream: Stream) -> None:
        """Close a stream. Does nothing when it is closed already."""
        if stream in self._open:
            self._open.discard(stream)
            self._by_address[stream.address] -= 1
            if not self._by_address[stream.address]:
                del self._by_address[stream.address]

    def end(self) -> None:
        """End all streams. No stream can be opened afterwards."""
        self.ended.set()
        for stream in self._open:
            stream.woken.set()

    async def close(self) -> None:
        """End all streams, and the task that looks for changes."""
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
        """Read the current state once, and notify each stream of its topics that have changed since the last time."""
        snapshot = await self._snapshots.fresh()
        state = self._snapshots.trouble()
        for stream in self._open:
            if stream.told != state:
                stream.changed |= {"state"}
                stream.woken.set()
        if snapshot is None:
            return
        # A stream that opens during this read belongs to the next one; otherwise its first look would already count as a
        # change.
        looking = list(self._open)
        wanted = frozenset().union(*(stream.topics for stream in looking))
        changed = {topic for topic in NAMED & wanted if seen.differs(topic, of_snapshot(topic, snapshot))}
        if "bulk" in wanted and seen.differs("bulks", tuple(await self._model.bulk_actions(limit=20))):
            changed.add("bulk")
        ids = [UUID(topic.removeprefix("job:")) for topic in wanted if topic.startswith("job:")]
        if ids:
            versions = await self._model.versions(ids)
            changed |= {f"job:{job}" for job in ids if seen.differs(f"job:{job}", versions.get(job))}
        seen.keep(wanted | {"bulks"})
        for stream in looking:
            # A page that fetches now gets data at least as new as this read, so that no later change is missed.
            stream.tell(stream.topics if stream.new else changed)
            stream.new = False


class _Seen:
    """Remembers the last value of each topic, to find out which topics have changed."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def differs(self, topic: str, value: Any) -> bool:
        """Stores `value` as the topic's last value. Returns whether it differs from the value before; False if there was
        none."""
        before = self._values.get(topic, value)
        self._values[topic] = value
        return bool(before != value)

    def keep(self, topics: frozenset[str]) -> None:
        """Forget the topics that are not in `topics`."""
        self._values = {topic: value for topic, value in self._values.items() if topic in topics}


def of_snapshot(topic: str, snapshot: "Snapshot") -> Any:
    """Returns the part of a snapshot that belongs to a topic. A topic has changed when its part has changed.

    While jobs are being enqueued or are ending, the part contains the snapshot's time, so that lists of jobs are updated
    every second.
    """
    moving = (snapshot.rates.arrived, snapshot.rates.succeeded, snapshot.rates.dead, snapshot.rates.retried)
    at = snapshot.at if any(moving) else None
    match topic:
        case "overview":
            return snapshot
        case "jobs":
            return snapshot.counts, snapshot.paused_at, at
        case "dead":
            from carafe import State

            return snapshot.counts.get(State.DEAD), snapshot.rates.dead, snapshot.at if snapshot.rates.dead else None
        case "workers":
            # Heartbeat ages rise all the time: while a worker lives, every read differs.
            return snapshot.at if snapshot.workers else (snapshot.replicas_wanted, snapshot.replicas_there)
    return None


def server_stops() -> bool:
    """Whether the server that runs this application has been asked to stop. Works for uvicorn, alone or under gunicorn.

    uvicorn notifies nobody, so its server object is found through its signal handler. ``carafe serve`` and ``carafe dev`` do
    notify streams (`carafe.web.stopping`).
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return bool(getattr(server, "should_exit", False))
