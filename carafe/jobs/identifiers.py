"""Job ids: UUIDv7 (RFC 9562), so that rows, indexes and pages are in order of creation (Python itself has ``uuid.uuid7``
from 3.14 on); and ids that are made from an idempotency key."""

import os
import threading
import time
from typing import Any
from uuid import UUID, uuid5

import orjson

from carafe.jobs.errors import InvalidOption
from carafe.jobs.options import checked_key
from carafe.texts import shown


def id_of(given: Any, option: str = "job_id") -> UUID:
    """The id of a job. `given` is a UUID, the text of one, or an object that has one as `id` (`Enqueued`, `JobRecord`).
    Raises `InvalidOption` for anything else."""
    found = getattr(given, "id", given)
    if isinstance(found, UUID):
        return found
    try:
        return UUID(found)
    except (ValueError, TypeError, AttributeError):
        answered = ", as `enqueue` answers it in `id`" if option == "job_id" else ""
        raise InvalidOption(option, f"must be a UUID{answered} (got {shown(given)})") from None


_OF_KEYS = UUID("7f3a3a5e-6f0b-5c57-9d6e-2f1f0c8f4a10")
"""The namespace (RFC 9562, section 6.5) of ids that are made from keys. It never changes."""


def uuid_for(key: str, *, scope: str = "") -> UUID:
    """The id that belongs to an idempotency key: the same UUID (version 5) for the same `key` and `scope`, in every process
    and release.

    Use it for a row of your own that is stored together with a job. A request with an idempotency key must be the same when
    it is repeated, its arguments included, so an id among them cannot be a new one each time. `scope` keeps the keys of one
    caller, or of one table, apart from the others'. Raises `InvalidOption` for a key that `enqueue` would not take.
    """
    return uuid5(_OF_KEYS, orjson.dumps([scope, checked_key(key, "key")]).decode())


_lock = threading.Lock()
_last = 0


def uuid7() -> UUID:
    """A new UUIDv7. It is greater than all those that this process made before."""
    return UUID(int=_next(1)[0])


def uuid7s(count: int) -> list[UUID]:
    """`count` new ids in ascending order. Making them together is cheaper than one by one."""
    return [UUID(int=value) for value in _next(count)]


def _next(count: int) -> list[int]:
    # 48 bits of milliseconds, version, 74 random bits. Within a batch the random part counts up by random strides, which
    # keeps the ids in order (RFC 9562, section 6.2, method 2) and costs one call of the system's generator.
    global _last
    with _lock:
        milliseconds = time.time_ns() // 1_000_000
        randomness = int.from_bytes(os.urandom(10)) & ((1 << 73) - 1)
        value = max((milliseconds << 74) | randomness, _last + 1)
        values = []
        strides = os.urandom(4 * count)
        for index in range(count):
            values.append(_with_version(value))
            value += 1 + int.from_bytes(strides[4 * index : 4 * index + 4])
        _last = value
        return values


def _with_version(value: int) -> int:
    # value: 48 bits time, 12 bits rand_a, 62 bits rand_b
    time_part, rand_a, rand_b = value >> 74, (value >> 62) & 0xFFF, value & ((1 << 62) - 1)
    return (time_part << 80) | (0x7 << 76) | (rand_a << 64) | (0b10 << 62) | rand_b
