"""The Redis transport of Celery's consumer: pops hints in batches and hands them whole to the engine.

A small subclass of kombu's: connection handling, the hub and every other message stay kombu's own. Only our hints take
the short way past kombu's per-message delivery, which is over half of a worker's time. What is popped is never kept in
``unacked`` keys: Postgres knows it. A malformed message is dropped and counted, and stops nothing.
"""

from collections.abc import Sequence
from functools import lru_cache
from queue import Empty
from time import monotonic
from typing import TYPE_CHECKING, Any

import orjson
import redis
import structlog
from asyncpg.pgproto.pgproto import UUID
from kombu.transport import redis as redis_transport
from kombu.transport import virtual

from carafe.engine.ledger import Hinted
from carafe.jobs.hints import AFTER_ID, HEAD, TASK

if TYPE_CHECKING:
    from carafe.engine.engine import Engine

log = structlog.stdlib.get_logger("carafe.transport")

ID_BEGINS = len(HEAD)
ID_ENDS = ID_BEGINS + 36
KIND_BEGINS = ID_ENDS + len(AFTER_ID)

MALFORMED_SHOWN = 200
"""Bytes of a malformed message that the log shows."""


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

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        self.QoS = RoomQoS  # kombu sets its plain one when ack emulation is off
        self.engine = self.connection.engine
        self._client_id: int | None = None
        self._identified: Any = None

    def _brpop_start(self, timeout: float | None = None) -> None:
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
        try:
            self._client_id = int(connection.read_response())
        except redis.ResponseError:
            self._client_id = None  # an ACL forbids it: a drain then waits for the pop's own timeout
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
                self._drop(raw, error)
        if hints:
            assert self.engine is not None
            self.engine.take(hints)

    def _sort(self, queue: str, raw: bytes, hints: list[Hinted]) -> None:
        """A message not in our own writing: a hint all the same, or something for Celery. Raises what decoding raises."""
        message = orjson.loads(raw)
        headers = message["headers"]
        if headers.get("task") == TASK:
            if type(headers["shadow"]) is not str:
                raise TypeError("shadow")
            hints.append(Hinted(UUID(headers["id"]), headers["shadow"], raw))
        else:
            if self.engine is not None:
                self.engine.counts["messages of other tasks"] += 1
            self.connection._deliver(message, queue)

    def _drop(self, raw: bytes, error: Exception) -> None:
        if self.engine is not None:
            self.engine.counts["hints malformed"] += 1
        log.warning("dropped a message that is no hint", error=type(error).__name__, message=repr(raw[:MALFORMED_SHOWN]))

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
    engine: "Engine | None" = None
