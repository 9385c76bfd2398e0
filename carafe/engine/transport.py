"""The Redis transport of Celery's consumer: pops hints in batches and hands them whole to the engine.

A small subclass of kombu's: connection handling and the hub stay kombu's own. Hints take the short way past kombu's
per-message delivery, which is over half of a worker's time. What is popped is never kept in ``unacked`` keys: Postgres knows
it. Whatever else stands in the list is dropped by its headers and counted: its body is neither decompressed nor decoded.

Guarantees: every error that Redis answers is a lost connection (`carafe.jobs.redis_away`), so that the consumer connects
again; nothing that somebody else writes into Redis ends a worker, be it into the list or the remote control's channel.
"""

import contextlib
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
from carafe.jobs import redis_away
from carafe.jobs.hints import AFTER_ID, HEAD, TASK

if TYPE_CHECKING:
    from carafe.engine.engine import Engine

ID_BEGINS = len(HEAD)
ID_ENDS = ID_BEGINS + 36
KIND_BEGINS = ID_ENDS + len(AFTER_ID)

LONGEST = 65_536
"""Bytes of a message that is looked at: a hint has about 800, a remote control message hardly more."""


class RoomQoS(virtual.QoS):
    """Takes messages by the engine's room instead of a prefetch count."""

    def can_consume(self) -> bool:
        """Whether to pop, or to read what an outstanding pop has brought (that must always be read)."""
        channel = self.channel
        engine = channel.engine
        return engine is None or not channel.active_queues or bool(channel._in_poll) or engine.room() > 0

    def can_consume_max_estimate(self) -> int:
        """Room, for transports that pop in batches of their own; ours asks the engine itself."""
        engine = self.channel.engine
        return 1 if engine is None else max(1, engine.room())


class BatchChannel(redis_transport.Channel):
    """A channel that pops whole batches."""

    do_restore = False
    QoS: Any = RoomQoS
    _in_poll: Any = False
    _brpop_sent_at: Any = None
    engine: "Engine | None" = None
    _foreign = Refusals("dropped messages that are no hints")
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
        """Learn the connection's id, by which `unblock` ends its pop. Once a connection, while nothing is outstanding."""
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
                # The usual case by position: decoding the JSON would cost more than all the rest here.
                if raw.startswith(HEAD) and raw.startswith(AFTER_ID, ID_ENDS):
                    kind = _kind(raw[KIND_BEGINS : raw.index(b'"', KIND_BEGINS)])
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
        """A message not in our own writing: a hint all the same, an answer to a question of Celery's remote control, or
        nothing for us. Raises what decoding raises."""
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
            self._drop("messages of other tasks", f"not a job of Carafe, the task is {said}", raw)
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
        """Read one message of a subscription, and hand on what is a control message of a form that we answer."""
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
        """Put a message into a list: in a worker an answer of the remote control, best effort. kombu would try for ever."""
        if self.engine is None:
            super()._put(queue, message, **options)  # type: ignore[no-untyped-call]
            return
        try:
            super()._put(queue, message, **options)  # type: ignore[no-untyped-call]
        except redis_away.AWAY as error:
            self._control.refuse(f"an answer was not taken: {redis_away.words(error)}")

    def get_table(self, exchange: str) -> Any:
        """Who is bound to an exchange: nobody, for an answer, while Redis does not say."""
        try:
            return super().get_table(exchange)  # type: ignore[no-untyped-call]
        except redis_away.AWAY:
            if self.engine is None:
                raise
            return []

    def _queue_bind(self, *arguments: Any, **options: Any) -> None:
        """Enter a queue into Celery's table. A full Redis refuses it, and lets us pop all the same, which makes room.
        Nothing of ours reads that entry."""
        with contextlib.suppress(redis.exceptions.OutOfMemoryError):
            super()._queue_bind(*arguments, **options)  # type: ignore[no-untyped-call]

    # -- from other threads

    def unblock(self) -> None:
        """End the outstanding pop at once."""
        if self._in_poll and self._client_id is not None:
            with self.conn_or_acquire() as client:
                client.client_unblock(self._client_id)


@lru_cache(1024)
def _kind(text: bytes) -> str | None:
    """A kind as it stands between quotes; None when it needs JSON's own decoding."""
    return None if b"\\" in text else text.decode()


class BatchTransport(redis_transport.Transport):
    """kombu's Redis transport with our channel. `engine` is set by the worker; without one (publishers) it is kombu's."""

    Channel = BatchChannel
    connection_errors = (*redis_transport.Transport.connection_errors, redis.RedisError)
    engine: "Engine | None" = None
