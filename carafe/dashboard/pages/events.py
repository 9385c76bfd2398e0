"""The route ``/events``: notifies an open page of changes by server-sent events
(`carafe.dashboard.live.streams`)."""

import asyncio
import time
from collections.abc import AsyncIterator
from uuid import UUID

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.sse import EventSourceResponse, format_sse_event
from starlette.types import Receive, Scope, Send

from carafe.dashboard.dependencies import DashboardOf, ViewerOf
from carafe.dashboard.live.streams import NAMED, RECHECK, Stream, Streams
from carafe.dashboard.security import cookies
from carafe.dashboard.security.failed_logins import network_of
from carafe.dashboard.security.origins import address_of
from carafe.dashboard.security.refusals import Refused
from carafe.web.stopping import stopping_of

MAX_TOPICS = 50
"""The maximum number of topics of one stream."""


router = APIRouter()


@router.get("/events")
async def events(request: Request, viewer: ViewerOf, dashboard: DashboardOf, topics: str = "overview") -> Response:
    """Stream the changes of `topics`.

    Answers 503 when DASHBOARD_STREAMS streams are open, 429 when the browser's IP address has as many open as one address
    may have, and 422 for topics that do not exist.
    """
    stream = dashboard.streams.enter(parsed(topics), network_of(address_of(request)))
    return _Following(dashboard.streams, stream, _events(request, dashboard, stream))


class _Following(EventSourceResponse):
    """The streaming answer. However it ends, it closes its `Stream`, even if the client left before the first event."""

    def __init__(self, streams: Streams, stream: Stream, content: AsyncIterator[bytes]) -> None:
        super().__init__(content, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._streams, self._stream = streams, stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._streams.leave(self._stream)


def parsed(topics: str) -> frozenset[str]:
    """Returns the topics that a page asks for. Raises `Refused` 422 for unknown topics, for none, and for too many."""
    found = frozenset(topic.strip() for topic in topics.split(",") if topic.strip())
    for topic in found:
        if topic not in NAMED and not _is_job(topic):
            raise Refused(422, "No such topic", f"topics: {', '.join(sorted(NAMED))} or job:ID, separated by commas.")
    if not found or len(found) > MAX_TOPICS:
        raise Refused(422, "Wrong number of topics", f"topics: name 1 to {MAX_TOPICS} topics, separated by commas.")
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
