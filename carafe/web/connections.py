"""What one connection may cost before anybody is known: the bounds of heads, bodies and answers, and of their number.

uvicorn's protocol reads what comes for as long as it comes. Here

1. a head has at most `HEAD_BYTES` and `HEADERS` fields, all that are not there yet have `LARGE_HEADS` together, and each is
   there within `HEAD_TIME` of the connection's opening, or of its first byte on a kept connection (431, 408);
2. a body arrives at `BODY_RATE` at least, after `BODY_GRACE` (408), and wraps no more around its bytes than they are
   (400); nothing is read of a body while nobody asks for it;
3. an answer is taken at some speed: a peer that takes nothing for `WRITE_TIME` is cut off;
4. what is answered before its body has come (401, 413) closes the connection: the rest is thrown away unparsed for
   `LINGER_TIME` at most, so that the peer gets the answer;
5. a connection asks for at most `PIPELINED` answers at once;
6. beyond WEB_CONNECTIONS one that has its last answer and lingers is closed, else the one that has been silent for the
   longest: since it opened, or had its last answer whole. While none is, a request is answered 503, but for those of
   probes, and beyond `SPARE` more nobody comes in.

All of it is one look at the connections every `SWEEP` seconds, not a timer each; what is refused is logged by the flood.
The bounds are those of RFC 9110 servers at large (nginx, Apache's mod_reqtimeout), tightened: this is an API of small heads.
"""

import asyncio
import contextlib
from collections import Counter
from operator import itemgetter
from typing import TYPE_CHECKING, Any, cast

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from carafe.logging import get_logger
from carafe.web.headers import HEADERS as SECURITY_HEADERS
from carafe.web.health import PROBED

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
    from uvicorn.server import ServerState

log = get_logger(__name__)

HEAD_BYTES = 65_536
"""Bytes of a request's line and fields at most."""

HEADERS = 128
"""Fields of a request at most, those after a chunked body included: each costs many times its bytes."""

HEAD_TIME = 10.0
"""Seconds in which a head must be there."""

BODY_GRACE = 10.0
"""Seconds that any body may take."""

BODY_RATE = 4_096
"""Bytes a second that a body must bring on average beyond `BODY_GRACE`."""

CHUNK_OVERHEAD = 2
"""Bytes on the wire for each byte of a body at most, beyond the first `HEAD_BYTES`: chunks of six bytes and more."""

LARGE_HEAD = 8_192
"""Bytes from which on a head that is not there yet is a large one."""

LARGE_HEADS = 16_777_216
"""Bytes of all large heads of a port that are not there yet."""

WRITE_TIME = 30.0
"""Seconds in which a peer must take something of an answer that waits for it."""

LINGER_TIME = 2.0
"""Seconds in which what still comes of a request that has its answer is thrown away."""

LINGER_BYTES = 4_194_304
"""Bytes of it at most."""

PIPELINED = 16
"""Requests of one connection that may wait for their answers."""

SWEEP = 0.25
"""Seconds between two looks at all connections."""

SLICE = 16_384
"""Bytes that are parsed at once: what a bound may be overstepped by."""

FLOOD = 60.0
"""Seconds between two log lines about the same kind of refusal."""

OTHER_FILES = 256
"""Files that a web process has open beside its connections: those to Postgres and Redis, modules, its own listeners."""

SPARE = 32
"""Connections beyond WEB_CONNECTIONS, for requests of probes while all others are busy: a process that has much to do is not
dead."""

_PROBED = frozenset(path.encode() for path in PROBED)


class Refused(Exception):
    """A request is answered by the protocol itself, and its connection closed."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail


class Connections:
    """The connections of one port: at most `limit`, looked at by one timer. Used on the server's own loop only."""

    def __init__(self, limit: int, name: str) -> None:
        self.limit, self._name = limit, name
        self.all: set[Connection] = set()
        # Those that do nothing, by the time since when, the longest first. Whoever is in none of these is busy.
        self._fresh: dict[Connection, float] = {}
        """Those that have not sent a whole head yet."""
        self._idle: dict[Connection, float] = {}
        """Those that have their answers and wait for another request."""
        self._lingering: dict[Connection, float] = {}
        """Those that have their last answer, and are about to be closed."""
        self.large_heads = 0
        """Bytes of the large heads that are not there yet."""
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
        """Makes the protocol of a new connection: what uvicorn wants as its protocol class."""
        return Connection(self, config, server_state, app_state, _loop)

    def enter(self, connection: "Connection") -> None:
        """Counts one in. If there are too many, one that does nothing is closed for it; this one, if there is none."""
        if len(self.all) >= self.limit:
            closed = self._longest_silent()
            if closed is not None:
                self.tell("too many connections, the longest silent closed")
                closed.leave_at_once()
            elif len(self.all) >= self.limit + SPARE:
                self.tell("too many connections, all busy, a new one closed")
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
        """Whether as many as there may be are busy."""
        return len(self.all) - len(self._fresh) - len(self._idle) - len(self._lingering) >= self.limit

    def leave(self, connection: "Connection") -> None:
        """Counts one out. Harmless when it is out."""
        self.all.discard(connection)
        self.busy(connection)

    def busy(self, connection: "Connection") -> None:
        """It is silent no more."""
        for those in (self._fresh, self._idle, self._lingering):
            those.pop(connection, None)

    def waits(self, connection: "Connection") -> None:
        """It waits for another request."""
        self._put(connection, self._idle)

    def lingers(self, connection: "Connection") -> None:
        """It is about to be closed."""
        self._put(connection, self._lingering)

    def _put(self, connection: "Connection", where: "dict[Connection, float]") -> None:
        if connection in self.all:
            self.busy(connection)
            where[connection] = connection.loop.time()

    def tell(self, what: str, **words: object) -> None:
        """Log a refusal: at once if it is the first of its kind for `FLOOD` seconds, else by number later."""
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
                # Nobody foresaw it: that connection goes, and the bounds hold for all others.
                log.exception("a connection could not be looked at, it is closed", port=self._name)
                connection.leave_at_once()
        for what, count in list(self._untold.items()):
            if now - self._told[what] >= FLOOD:
                del self._untold[what]
                self._told[what] = now
                log.warning(what, port=self._name, times=count)
        # While something is untold there is still somebody to tell it.
        more = self.all or self._untold
        self._timer = loop.call_later(SWEEP, self._sweep, loop) if more else None


class _Gentle:
    """A connection's transport as uvicorn's request object sees it: closing waits for the peer to have its answer."""

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
    """uvicorn's protocol with bounds."""

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
        """Whether the last answer is written, and what still comes is thrown away."""
        self._deaf = False
        """Whether what comes after the request under way is thrown away."""
        self._head_until: float | None = None
        """When the head that is awaited must be there; None while none is (an answer is under way, or all is quiet)."""
        self._head_open = True
        """Whether the parser is in a head."""
        self._head_bytes = 0
        self._head_fields = 0
        self._unparsed = 0
        """Bytes given to the parser since the head began."""
        self._held = 0
        """Bytes of them that count among the large heads."""
        self._body_until = 0.0
        self._body_begun = 0.0
        self._body_bytes = 0
        self._wire_bytes = 0
        self._leave_until = 0.0
        self._thrown_away = 0
        self._running: RequestResponseCycle | None = None
        """The request that is worked on; those behind it wait in `pipeline`."""
        self._has_answers = False
        """Whether all is answered, and the peer has not taken it all yet."""
        self._unsent = 0
        """Bytes that waited to be sent at the last look."""
        self._unsent_until: float | None = None

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
        """Close it: it was silent."""
        self._all.leave(self)
        self.transport.abort()

    def close_gently(self) -> None:
        """Close it once the peer has what was written: one that still sends would be reset and might lose that."""
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
        """The periodic look: whether a bound of time has passed."""
        if self._stuck(now):
            self._all.tell("an answer is not taken, its connection closed")
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
                self._refuse(Refused(408, "request-timeout", f"a body must bring {BODY_RATE:,} bytes a second"))

    def _awaits_body(self) -> bool:
        request = self._request
        return not self._head_open and request is not None and request.more_body and not request.response_complete

    def _late(self, silent: bool) -> None:
        if silent:
            # Browsers open connections that they may need; nothing was asked, so nothing is answered.
            self._all.tell("a connection sent nothing, closed")
            self.transport.close()
        else:
            self._refuse(Refused(408, "request-timeout", f"a request's head must be there within {HEAD_TIME:g} s"))

    def _stuck(self, now: float) -> bool:
        """Whether the peer has taken nothing for too long of what waits to be sent."""
        unsent = self.transport.get_write_buffer_size()
        if unsent == 0:
            self._unsent_until = None
        elif self._unsent_until is None or unsent < self._unsent:
            self._unsent_until = now + WRITE_TIME
        self._unsent = unsent
        return self._unsent_until is not None and now > self._unsent_until

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
            raise Refused(400, "malformed-request", "the chunks of the body carry next to nothing")

    def _hold(self, size: int) -> None:
        self._all.large_heads += size - self._held
        self._held = size

    def _under_way(self) -> bool:
        return (request := self._request) is not None and not request.response_complete

    @property
    def _request(self) -> "RequestResponseCycle | None":
        """The last one that began, as uvicorn keeps it."""
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
            raise Refused(431, "request-head-too-large", f"a request may have {HEADERS} fields")
        self._count(len(name) + len(value) + 4)
        # What comes after a chunked body is no header (RFC 9110, 6.5.1): the request is worked on by what its head said.
        if self._head_open:
            super().on_header(name, value)

    def _count(self, size: int) -> None:
        # Those of all requests that wait for their answers together.
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES:
            raise _TOO_LARGE

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= PIPELINED:
            raise Refused(400, "malformed-request", f"a connection may ask for {PIPELINED} answers at once")
        if self._all.full and not self._under_way() and self.url.partition(b"?")[0] not in _PROBED:
            raise Refused(503, "too-many-connections", "this process has as many connections as it takes; try again")
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


_TOO_LARGE = Refused(431, "request-head-too-large", f"a request's line and fields may have {HEAD_BYTES:,} bytes")
_MALFORMED = Refused(400, "malformed-request", "this is not HTTP/1.1")


def with_descriptors(connections: int) -> int:
    """Lets this process open the files that so many connections on two ports, and the rest of it, take. Returns how many
    connections a port may have: fewer where the system's hard limit does not allow them."""
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
    """The ASGI application, whose answer says that it is the last if it is sent before its request's body has come."""

    async def closing(scope: Any, receive: Any, send: Any) -> None:
        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start" and cycle.more_body:
                cycle.keep_alive = False
            await send(message)

        await application(scope, receive, sending)

    return closing
