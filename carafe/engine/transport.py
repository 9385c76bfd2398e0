"""The Redis transport of Celery's consumer: pops hints in batches and hands them whole to the engine.

It is a small subclass of kombu's Redis transport, and keeps kombu's handling of connections and its hub. Hints bypass
kombu's delivery of single messages, which would take over half of a worker's time. Popped hints are not copied to kombu's
``unacked`` keys, since their jobs are in Postgres. Messages in the list that are not hints are recognised by their headers,
dropped and counted; their bodies are neither decompressed nor decoded.

Guarantees: every error that Redis answers counts as a lost connection (`carafe.queue.redis_away`), so that the consumer
connects again; no message that other programs write into Redis, to the list or to the remote control's channel, can end a
worker.
"""

from collections.abc import Sequence
from functools import lru_cache
from queue import Empty
from time import monotonic
from typing import TYPE_CHECKING, Any

import orjson
import redis
from asyncpg.pgproto.pgproto import UUID
from kombu.transport import redis as redis_transport
from kombu.transport import virtual

from carafe.engine import control
from carafe.engine.ledger import Hinted
from carafe.engine.refusals import Refusals
from carafe.queue import redis_away
from carafe.queue.hints import AFTER_ID, HEAD, LONGEST, LONGEST_KIND, TASK

if TYPE_CHECKING:
    from carafe.engine.engine import Engine

ID_BEGINS = len(HEAD)
ID_ENDS = ID_BEGINS + 36
KIND_BEGINS = ID_ENDS + len(AFTER_ID)
KIND_ENDS = KIND_BEGINS + LONGEST_KIND + 1


class RoomQoS(virtual.QoS):
    """Decides how many hints may be popped: as many as the engine has room for, instead of a fixed prefetch count."""

    def can_consume(self) -> bool:
        """Returns True if the channel may pop hints, and also if it still has to read the answer to an earlier pop."""
        channel = self.channel
        engine = channel.engine
        return engine is None or not channel.active_queues or bool(channel._in_poll) or engine.room() > 0

    def can_consume_max_estimate(self) -> int:
        """Returns how many hints the engine has room for, but at least 1. kombu requires this method; `BatchChannel` asks
        the engine directly."""
        engine = self.channel.engine
        return 1 if engine is None else max(1, engine.room())


class BatchChannel(redis_transport.Channel):
    """A channel that pops hints in batches and hands them to the engine."""

    do_restore = False
    QoS: Any = RoomQoS
    _in_poll: Any = False
    _brpop_sent_at: Any = None
    engine: "Engine | None" = None
    _foreign = Refusals("dropped messages that are not hints")
    _control = Refusals("dropped remote control messages")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        self.QoS = RoomQoS  # kombu sets its plain one when ack emulation is off
        self.engine = self.connection.engine
        self._client_id: int | None = None
        self._identified: Any = None

    def _brpop_start(self, timeout: float | None = None) -> None:
        self._foreign.tell()
        self._control.tell()
        queues = self._queue_cycle.consume(len(self.active_queues))
        if not queues:
            return
        connection = self.client.connection
        if self._identified is not connection._sock:
            self._identify(connection)
        room = self.engine.room() if self.engine else 1
        if room <= 0:
            return
        if self.engine is not None and self.engine.consumer is not None:
            self.engine.consumer.channel = self
        self._in_poll = connection
        self._brpop_sent_at = monotonic()
        wait = timeout or self.brpop_timeout or 0
        connection.send_command("BLMPOP", wait, len(queues), *queues, "RIGHT", "COUNT", room)

    def _identify(self, connection: Any) -> None:
        """Ask Redis for the id of this connection, since `unblock` needs the id to end the connection's pop. Called once for
        each connection, while no pop waits for its answer."""
        connection.send_command("CLIENT", "ID")
        self._client_id = int(connection.read_response())
        self._identified = connection._sock

    def _brpop_read(self, **options: Any) -> bool:
        try:
            try:
                popped = self.client.parse_response(self.client.connection, "BLMPOP", **options)
            except self.connection_errors:
                self.client.connection.disconnect()
                raise
            if not popped:
                raise Empty()
            queue, messages = popped
            if isinstance(queue, bytes):
                queue = queue.decode()
            self._queue_cycle.rotate(queue)
            self._hand_over(queue, messages)
            return True
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()  # type: ignore[no-untyped-call]

    def _hand_over(self, queue: str, messages: Sequence[bytes]) -> None:
        hints = []
        for raw in messages:
            try:
                # The usual case is read by position: decoding the JSON would cost more than everything else here.
                if raw.startswith(HEAD) and raw.startswith(AFTER_ID, ID_ENDS) and len(raw) <= LONGEST:
                    # `_kind` remembers what it is given, so a stranger's kind must be short too.
                    kind = _kind(raw[KIND_BEGINS : raw.index(b'"', KIND_BEGINS, KIND_ENDS)])
                    if kind is not None:
                        hints.append(Hinted(UUID(raw[ID_BEGINS:ID_ENDS].decode()), kind, raw))
                        continue
                self._sort(queue, raw, hints)
            except Exception as error:
                self._drop("hints malformed", f"malformed: {type(error).__name__}", raw)
        if hints:
            assert self.engine is not None
            self.engine.take(hints)

    def _sort(self, queue: str, raw: bytes, hints: list[Hinted]) -> None:
        """Handle a message whose bytes differ from those that Carafe writes for a hint. In a worker, adds it to `hints` if
        it is a hint in another form, and otherwise drops it. Without an engine, passes it on to kombu: it is an answer of
        Celery's remote control. Raises an error if the message cannot be decoded."""
        if self.engine is None:
            self.connection._deliver(orjson.loads(raw), queue)
            return
        if len(raw) > LONGEST:
            self._drop("messages of other tasks", f"longer than {LONGEST} bytes", raw)
            return
        headers = orjson.loads(raw)["headers"]
        task = headers.get("task")
        if task != TASK:
            said = repr(task[:100]) if type(task) is str else "none"
            self._drop("messages of other tasks", f"not a job of Carafe: the task is {said}", raw)
            return
        if type(headers["shadow"]) is not str:
            raise TypeError("shadow")
        hints.append(Hinted(UUID(headers["id"]), headers["shadow"], raw))

    def _drop(self, count: str, reason: str, raw: bytes) -> None:
        if self.engine is not None:
            self.engine.counts[count] += 1
        self._foreign.refuse(reason, raw)

    # -- Celery's remote control

    def _receive_one(self, c: Any) -> Any:
        """Read one message of a subscription. If it is a remote control message of an accepted form, pass it on; otherwise
        drop it."""
        try:
            response = c.parse_response()
        except self.connection_errors:
            self._in_listen: Any = None
            raise
        if not isinstance(response, list | tuple):
            return None
        received = self._handle_message(c, response)  # type: ignore[no-untyped-call]
        if received["type"] not in (b"pmessage", b"message", "pmessage", "message"):
            return None
        raw = received["data"]
        try:
            message = control.read(raw, LONGEST)
        except control.Refused as refused:
            self._control.refuse(str(refused), raw)
            raise Empty() from None
        exchange = next(iter(self._fanout_to_queue), None)
        if exchange is None:
            raise Empty()
        return self._deliver_fanout_message(message, exchange)  # type: ignore[no-untyped-call]

    def _put(self, queue: str, message: Any, **options: Any) -> None:
        """Put a message into a list. In a worker, the message is an answer to a remote control command. It is tried only
        once, because kombu would try forever."""
        if self.engine is None:
            super()._put(queue, message, **options)  # type: ignore[no-untyped-call]
            return
        try:
            super()._put(queue, message, **options)  # type: ignore[no-untyped-call]
        except redis_away.errors() as error:
            self._control.refuse(f"Redis did not take an answer: {redis_away.words(error)}")

    def get_table(self, exchange: str) -> Any:
        """Returns the queues that are bound to an exchange. In a worker, which sends answers to these queues, it returns
        only queues with names as Celery's clients make them, since any client of Redis can write to this table. While Redis
        is away, it returns none."""
        if self.engine is None:
            return super().get_table(exchange)  # type: ignore[no-untyped-call]
        try:
            table = super().get_table(exchange)  # type: ignore[no-untyped-call]
        except redis_away.errors():
            return []
        return [entry for entry in table if len(entry) == 3 and entry[2] == f"{entry[0]}.{control.ANSWERS}"]

    def _queue_bind(self, *arguments: Any, **options: Any) -> None:
        """Enter a queue into Celery's table of queues. If Redis refuses that, because it is full or because another program
        uses the table's key, the error is ignored, since Carafe does not need the entry."""
        try:
            super()._queue_bind(*arguments, **options)  # type: ignore[no-untyped-call]
        except redis.exceptions.OutOfMemoryError:
            pass
        except redis.exceptions.ResponseError as error:
            if self.engine is None or "WRONGTYPE" not in str(error):
                raise
            self._control.refuse("another program uses the key of one of Celery's tables")

    # -- from other threads

    def unblock(self) -> None:
        """Make Redis end the pop of hints that waits there, at once."""
        if self._in_poll and self._client_id is not None:
            with self.conn_or_acquire() as client:
                client.client_unblock(self._client_id)


@lru_cache(1024)
def _kind(text: bytes) -> str | None:
    """Returns the kind of job that `text`, the inside of a JSON string, names. Returns None if a JSON decoder is needed,
    because the text contains escapes."""
    return None if b"\\" in text else text.decode()


class BatchTransport(redis_transport.Transport):
    """kombu's Redis transport with `BatchChannel`. The worker sets `engine`; without an engine the transport works as
    kombu's."""

    Channel = BatchChannel
    connection_errors = (*redis_transport.Transport.connection_errors, redis.RedisError)
    engine: "Engine | None" = None
