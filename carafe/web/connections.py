"""Limits what a connection may cost before its caller is authenticated: the size and time of requests, unsent answers, and
the number of connections.

uvicorn's protocol itself has no such limits. This module adds them. A number in parentheses is the HTTP status with which a
request over the limit is refused.

1. Head. The head of a request (request line and header fields) has at most `HEAD_BYTES` and `HEADERS` fields (431). All
   unfinished large heads of a port together have at most `LARGE_HEADS` bytes (431). A head must be complete (408) at most
   `HEAD_TIME` seconds after the connection was opened or, on a kept-alive connection, after the first byte of the head.
2. Body. After `BODY_GRACE` seconds a body must have arrived at `BODY_RATE` bytes a second on average (408). The framing of
   its chunks may take no more bytes than their content (400). A body is read only while the application asks for it.
3. Answer. A peer that reads nothing of its answer for `WRITE_TIME` seconds is cut off. While the unread answers of a port
   exceed `UNSENT` bytes together, peers that have read nothing for `UNSENT_TIME` seconds are cut off, beginning with the one
   that has read nothing for the longest time. The operating system is asked to buffer at most `SEND_BUFFER` bytes of a
   connection in addition.
4. Early answer. A request that is answered before its body has arrived (401, 413) ends its connection. The rest of the body
   is thrown away unparsed for at most `LINGER_TIME` seconds, so that the peer gets the answer instead of a reset.
5. Pipelining. A connection may wait for at most `PIPELINED` answers at once.
6. Number. When WEB_CONNECTIONS are open and another one opens, one is closed: a connection that only waits to be closed (see
   4) or, if there is none, the one that has been silent for the longest time. If all are busy, requests are answered 503,
   except those of health probes. When WEB_CONNECTIONS + `SPARE` connections are open, new ones are closed at once.

A single timer checks all connections every `SWEEP` seconds. Refusals of one kind are logged at most once in `FLOOD` seconds.
The limits are like those of nginx and Apache's mod_reqtimeout, but tighter, since requests of this API have small heads.
"""

import asyncio
import contextlib
import math
from collections import Counter
from operator import itemgetter
from typing import TYPE_CHECKING, Any, cast

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from carafe.telemetry.loggers import get_logger
from carafe.web.headers import HEADERS as SECURITY_HEADERS
from carafe.web.health import PROBED

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
    from uvicorn.server import ServerState

log = get_logger(__name__)

HEAD_BYTES = 65_536
"""The maximum number of bytes of a request's head: the request line and the header fields."""

HEADERS = 128
"""The maximum number of header fields of a request, including the trailer fields after a chunked body. A field costs much
more memory than its bytes."""

HEAD_TIME = 10.0
"""Seconds in which the head of a request must arrive."""

BODY_GRACE = 10.0
"""Seconds that a body may take before its speed is checked (`BODY_RATE`)."""

BODY_RATE = 4_096
"""Bytes a second at which a body must arrive, on average, once `BODY_GRACE` has passed."""

CHUNK_OVERHEAD = 2
"""The maximum number of bytes on the wire for each byte of a body, after the first `HEAD_BYTES`. So the chunks of a
chunked body must have six bytes or more on average."""

LARGE_HEAD = 8_192
"""Bytes above which an unfinished head counts as large."""

LARGE_HEADS = 16_777_216
"""The maximum number of bytes of all unfinished large heads of a port together."""

WRITE_TIME = 30.0
"""Seconds after which a peer that has read nothing of a waiting answer is cut off."""

UNSENT = 16_777_216
"""When the unread answers of a port exceed this many bytes, connections whose peers read nothing are closed."""

UNSENT_TIME = 1.0
"""Seconds for which a peer may read nothing before it can be cut off because the port has more than `UNSENT` bytes to
send."""

SEND_BUFFER = 65_536
"""Bytes of unread answer that the operating system is asked to buffer for each connection. By default it may buffer 4 MB."""

LINGER_TIME = 2.0
"""Seconds for which the rest of a request that was already answered is read and thrown away."""

LINGER_BYTES = 4_194_304
"""The maximum number of bytes that are thrown away from a request that was already answered."""

PIPELINED = 16
"""How many requests of one connection may wait for their answers."""

SWEEP = 0.25
"""Seconds between two checks of all connections."""

SLICE = 16_384
"""Bytes that are parsed at once. A limit is checked after each slice, so it may be exceeded by this much."""

FLOOD = 60.0
"""Seconds between two log lines about refusals of the same kind."""

OTHER_FILES = 256
"""Open files that a web process needs besides its callers' connections: for Postgres, Redis, modules, listening sockets."""

SPARE = 32
"""How many connections are accepted in addition to WEB_CONNECTIONS. They let health probes be answered while all other
connections are busy; otherwise a busy process would look dead."""

_PROBED = frozenset(path.encode() for path in PROBED)


class Refused(Exception):
    """A request that breaks a limit. The protocol itself answers it with `status`, and closes the connection."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail


class Connections:
    """The open connections of one port, and the timer that checks them. Their number is limited (see `enter`). Used on the
    server's event loop only."""

    def __init__(self, limit: int, name: str) -> None:
        self.limit, self._name = limit, name
        self.all: set[Connection] = set()
        # Connections that do nothing, with the time since when, the longest first. A connection in none of these is busy.
        self._fresh: dict[Connection, float] = {}
        """Connections that have not sent a complete head yet."""
        self._idle: dict[Connection, float] = {}
        """Connections whose requests are answered, and which wait for another request."""
        self._lingering: dict[Connection, float] = {}
        """Connections that have got their last answer and are about to be closed."""
        self.large_heads = 0
        """Bytes of all unfinished large heads together."""
        self._timer: asyncio.TimerHandle | None = None
        self._told: dict[str, float] = {}
        self._untold: Counter[str] = Counter()

    def protocol(
        self,
        config: "Config",
        server_state: "ServerState",
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> "Connection":
        """Returns the protocol object of a new connection. uvicorn is given this method as its protocol class."""
        return Connection(self, config, server_state, app_state, _loop)

    def enter(self, connection: "Connection") -> None:
        """Add a new connection. When `limit` are open, closes one that is silent, to make room.

        If none is silent, up to `SPARE` connections above the limit are let in; beyond these, the new connection is closed.
        """
        if len(self.all) >= self.limit:
            closed = self._longest_silent()
            if closed is not None:
                self.tell("too many connections: closed the one that was silent for the longest time")
                closed.leave_at_once()
            elif len(self.all) >= self.limit + SPARE:
                self.tell("too many connections, and all are busy: closed a new one")
                connection.leave_at_once()
                return
        self.all.add(connection)
        self._fresh[connection] = connection.loop.time()
        if self._timer is None:
            self._timer = connection.loop.call_later(SWEEP, self._sweep, connection.loop)

    def _longest_silent(self) -> "Connection | None":
        if self._lingering:
            return next(iter(self._lingering))
        longest = [next(iter(those.items())) for those in (self._fresh, self._idle) if those]
        return min(longest, key=itemgetter(1))[0] if longest else None

    @property
    def full(self) -> bool:
        """Whether `limit` connections, or more, are busy."""
        return len(self.all) - len(self._fresh) - len(self._idle) - len(self._lingering) >= self.limit

    def leave(self, connection: "Connection") -> None:
        """Remove a closed connection. Does nothing when it was removed before."""
        self.all.discard(connection)
        self.busy(connection)

    def busy(self, connection: "Connection") -> None:
        """Record that `connection` is busy: it has a request under way."""
        for those in (self._fresh, self._idle, self._lingering):
            those.pop(connection, None)

    def waits(self, connection: "Connection") -> None:
        """Record that `connection` is idle: it waits for another request."""
        self._put(connection, self._idle)

    def lingers(self, connection: "Connection") -> None:
        """Record that `connection` has got its last answer and is about to be closed."""
        self._put(connection, self._lingering)

    def _put(self, connection: "Connection", where: "dict[Connection, float]") -> None:
        if connection in self.all:
            self.busy(connection)
            where[connection] = connection.loop.time()

    def tell(self, what: str, **words: object) -> None:
        """Log a refusal of the kind `what`. The first of its kind in `FLOOD` seconds is logged at once; later ones are
        counted, and their number is logged when these seconds are over."""
        now = asyncio.get_running_loop().time()
        if now - self._told.get(what, -FLOOD) >= FLOOD:
            self._told[what] = now
            log.warning(what, port=self._name, **words)
        else:
            self._untold[what] += 1

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in list(self.all):
            try:
                connection.look(now)
            except Exception:
                # Unexpected: that connection goes, and the bounds hold for all others.
                log.exception("a connection could not be checked, so it is closed", port=self._name)
                connection.leave_at_once()
        self._give_up_answers(now)
        for what, count in list(self._untold.items()):
            if now - self._told[what] >= FLOOD:
                del self._untold[what]
                self._told[what] = now
                log.warning(what, port=self._name, times=count)
        # While something is untold there is still somebody to tell it.
        more = self.all or self._untold
        self._timer = loop.call_later(SWEEP, self._sweep, loop) if more else None

    def _give_up_answers(self, now: float) -> None:
        """Close the connections whose peers read nothing, while more than `UNSENT` bytes of answers wait to be sent."""
        over = sum(connection.unsent for connection in self.all) - UNSENT
        if over <= 0:
            return
        for connection in sorted(self.all, key=lambda one: one.unsent_since):
            if over <= 0 or now - connection.unsent_since < UNSENT_TIME:
                return
            over -= connection.unsent
            self.tell("too many answers are not read: closed the connection that waited for the longest time")
            connection.leave_at_once()


class _Gentle:
    """The transport that uvicorn's request object gets. Its `close` lets the peer receive the whole answer first."""

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection

    def write(self, data: bytes) -> None:
        # uvicorn tells the last of several pipelined requests alone that the peer has gone.
        if not self._connection.transport.is_closing():
            self._connection.transport.write(data)

    def close(self) -> None:
        self._connection.close_gently()

    def is_closing(self) -> bool:
        return self._connection.transport.is_closing() or self._connection.leaving


class Connection(HttpToolsProtocol):
    """One connection: uvicorn's HTTP protocol with the limits of this module."""

    def __init__(
        self,
        connections: Connections,
        config: "Config",
        server_state: "ServerState",
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._all = connections
        self.leaving = False
        """Whether the last answer is written. Whatever still arrives is thrown away."""
        self._deaf = False
        """Whether everything that arrives after the current request is thrown away."""
        self._head_until: float | None = None
        """When the head of the next request must be complete. None while an answer is under way, and while a kept-alive
        connection waits for the first byte of a request."""
        self._head_open = True
        """Whether the parser is inside a head."""
        self._head_bytes = 0
        self._head_fields = 0
        self._unparsed = 0
        """Bytes given to the parser since the current head began."""
        self._held = 0
        """Bytes of the current head that are counted in `Connections.large_heads`."""
        self._body_until = 0.0
        self._body_begun = 0.0
        self._body_bytes = 0
        self._wire_bytes = 0
        self._leave_until = 0.0
        self._thrown_away = 0
        self._running: RequestResponseCycle | None = None
        """The request that is being handled. Requests behind it wait in `pipeline`."""
        self._has_answers = False
        """Whether every request is answered, but the peer has not read all of the answers yet."""
        self.unsent = 0
        """Bytes that waited to be sent at the last check."""
        self.unsent_since = math.inf
        """Since when the peer has read none of the unsent bytes; infinity while nothing waits to be sent."""

    # The connection.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_until = self.loop.time() + HEAD_TIME
        self._all.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.leave(self)
        self._hold(0)
        # uvicorn tells the last of several pipelined requests alone that the peer has gone.
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        # Each knows the other: what is gone is not to wait for the garbage collector.
        self.pipeline.clear()
        self._running = None
        self.cycle = None  # type: ignore[assignment]

    def leave_at_once(self) -> None:
        """Close the connection without waiting for anything."""
        self._all.leave(self)
        self.transport.abort()

    def close_gently(self) -> None:
        """Close the connection once the peer has received the answer.

        If the peer is still sending, an immediate close would reset the connection, and the peer might lose the answer. So
        what the peer sends is read and thrown away for a moment (`LINGER_TIME`).
        """
        if self._ends():
            return
        request = self._request
        if request is None or not request.more_body:
            self.transport.close()
            return
        self._linger()

    def _ends(self) -> bool:
        return self.leaving or self.transport.is_closing()

    def _linger(self) -> None:
        self.leaving = True
        self._all.lingers(self)
        self._unset_keepalive_if_required()
        self._leave_until = self.loop.time() + LINGER_TIME
        self._hold(0)
        self.parser = None  # type: ignore[assignment]  # and with it what it holds of a head
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()

    def look(self, now: float) -> None:
        """The periodic check of this connection's time limits; closes or refuses a connection that has exceeded one."""
        if self._stuck(now):
            self._all.tell("an answer is not read: closed its connection")
            self.transport.abort()
        elif self.transport.is_closing():
            return
        elif self.leaving:
            if now > self._leave_until:
                self.transport.close()
        elif self._has_answers and self.transport.get_write_buffer_size() == 0:
            self._wait()
        elif self._head_until is not None:
            if now > self._head_until:
                self._late(self._unparsed == 0)
        elif self._awaits_body():
            if self.flow.read_paused:
                self._body_until += SWEEP  # nobody asks for it: that is not the peer's time
            elif now > self._body_until + self._body_bytes / BODY_RATE:
                self._refuse(Refused(408, "request-timeout", f"a body must arrive at {BODY_RATE:,} or more bytes a second"))

    def _awaits_body(self) -> bool:
        request = self._request
        return not self._head_open and request is not None and request.more_body and not request.response_complete

    def _late(self, silent: bool) -> None:
        if silent:
            # Browsers open connections that they may need; nothing was asked, so nothing is answered.
            self._all.tell("a connection sent nothing: closed it")
            self.transport.close()
        else:
            self._refuse(Refused(408, "request-timeout", f"a request's head must be complete within {HEAD_TIME:g} s"))

    def _stuck(self, now: float) -> bool:
        """Whether bytes wait to be sent and the peer has read none of them for `WRITE_TIME` seconds."""
        before, self.unsent = self.unsent, self.transport.get_write_buffer_size()
        if self.unsent == 0:
            self.unsent_since = math.inf
        elif before == 0 or self.unsent < before:
            self.unsent_since = now
        return now - self.unsent_since > WRITE_TIME

    # What comes.

    def data_received(self, data: bytes) -> None:
        if self.leaving or self._deaf:
            self._thrown_away += len(data)
            if self._thrown_away > LINGER_BYTES:
                self.transport.close()
            return
        self._unset_keepalive_if_required()
        if self._head_open and self._head_until is None and not self._under_way():
            self._head_until = self.loop.time() + HEAD_TIME
        try:
            for start in range(0, len(data), SLICE):
                self._parse(data[start : start + SLICE] if len(data) > SLICE else data)
                if self._ends():
                    return
        except Refused as refused:
            self._refuse(refused)

    def _parse(self, data: bytes) -> None:
        if self._head_open:
            self._unparsed += len(data)
        else:
            self._wire_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Nothing is upgraded to: the request is answered as it stands, and what follows it is in no known language.
            self._deaf = True
            self.cycle.keep_alive = False
        except httptools.HttpParserError as error:
            raise (error.__context__ if isinstance(error.__context__, Refused) else _MALFORMED) from None
        if self._head_open and self._unparsed > LARGE_HEAD:
            self._hold(self._unparsed)
            if self._unparsed > HEAD_BYTES or self._all.large_heads > LARGE_HEADS:
                raise _TOO_LARGE
        if not self._head_open and self._wire_bytes > HEAD_BYTES + CHUNK_OVERHEAD * self._body_bytes:
            raise Refused(400, "malformed-request", "the chunks of the body are almost empty")

    def _hold(self, size: int) -> None:
        self._all.large_heads += size - self._held
        self._held = size

    def _under_way(self) -> bool:
        return (request := self._request) is not None and not request.response_complete

    @property
    def _request(self) -> "RequestResponseCycle | None":
        """uvicorn's object for the request that began last."""
        return cast("RequestResponseCycle | None", self.cycle)

    def on_message_begin(self) -> None:
        self._head_open = True
        self._head_fields = 0
        self._unparsed = self._unparsed or 1
        if not self._under_way():
            self._head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_fields += 1
        if self._head_fields > HEADERS:
            raise Refused(431, "request-head-too-large", f"a request may have at most {HEADERS} header fields")
        self._count(len(name) + len(value) + 4)
        # What comes after a chunked body is not a header (RFC 9110, 6.5.1): the request is worked on by what its head said.
        if self._head_open:
            super().on_header(name, value)

    def _count(self, size: int) -> None:
        # Those of all requests that wait for their answers together.
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES:
            raise _TOO_LARGE

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= PIPELINED:
            raise Refused(400, "malformed-request", f"a connection may wait for at most {PIPELINED} answers at once")
        if self._all.full and not self._under_way() and self.url.partition(b"?")[0] not in _PROBED:
            raise Refused(503, "too-many-connections", "this process has reached its limit of connections; try again")
        super().on_headers_complete()
        self.cycle.transport = cast(asyncio.Transport, _Gentle(self))
        self._all.busy(self)
        self._has_answers = False
        self._hold(0)
        self._head_open = False
        self._head_until = None
        self._unparsed = self._body_bytes = self._wire_bytes = 0
        self._body_until = self.loop.time() + BODY_GRACE

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._head_open = True
        self._unparsed = 0
        super().on_message_complete()

    def _start_asgi_task(self, cycle: "RequestResponseCycle", app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, _closing_early(cycle, app))

    # What goes.

    def on_response_complete(self) -> None:
        if self.leaving:
            self.server_state.total_requests += 1
            return
        super().on_response_complete()
        if not (self.transport.is_closing() or self._under_way()):
            if self._unparsed:
                self._head_until = self.loop.time() + HEAD_TIME  # another head has begun
            if self.transport.get_write_buffer_size() == 0:
                self._wait()
            else:
                self._has_answers = True

    def _wait(self) -> None:
        self._has_answers = False
        self._all.waits(self)

    def _refuse(self, refused: Refused) -> None:
        self._all.tell(f"a request was refused: {refused.code}", detail=refused.detail)
        request = self._request if self._under_way() else None
        if self.pipeline or (request is not None and (request.response_started or not self._awaits_body())):
            # What is under way has the connection: another answer between its bytes would be taken for a part of it.
            self.leave_at_once()
            return
        if request is not None:
            request.disconnected = True
            request.message_event.set()
        self._answer(refused)
        self._linger()

    def _answer(self, refused: Refused) -> None:
        content = orjson.dumps(
            {
                "type": f"/problems/{refused.code}",
                "title": refused.code.replace("-", " ").capitalize(),
                "status": refused.status,
                "detail": refused.detail,
            }
        )
        fields = [
            *(field for field in self.server_state.default_headers if field[0] != b"connection"),
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(content)).encode()),
            (b"connection", b"close"),
            *((name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()),
        ]
        if refused.status == 503:
            fields.append((b"retry-after", b"1"))
        head = b"".join(b"%b: %b\r\n" % field for field in fields)
        self.transport.write(STATUS_LINE[refused.status] + head + b"\r\n" + content)


_TOO_LARGE = Refused(431, "request-head-too-large", f"the head of a request may have at most {HEAD_BYTES:,} bytes")
_MALFORMED = Refused(400, "malformed-request", "this is not HTTP/1.1")


def with_descriptors(connections: int) -> int:
    """Raise this process's limit of open files so that two ports may have `connections` connections each.

    Returns how many connections a port may have: `connections`, or fewer if the system's hard limit is too low.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return connections
    wanted = 2 * connections + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
            soft = allowed
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    possible = max(10, (soft - OTHER_FILES) // 2)
    log.warning("fewer connections than WEB_CONNECTIONS: too few open files are allowed", connections=possible, files=soft)
    return possible


def _closing_early(cycle: "RequestResponseCycle", application: Any) -> Any:
    """Returns `application`, wrapped so that an answer sent before the whole body has arrived closes the connection."""

    async def closing(scope: Any, receive: Any, send: Any) -> None:
        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start" and cycle.more_body:
                cycle.keep_alive = False
            await send(message)

        await application(scope, receive, sending)

    return closing
