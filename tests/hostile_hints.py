"""Messages that somebody else has put where the next hint stands: none of them tells anything about ours."""

from uuid import uuid4

import orjson

from carafe.queue.hints import Hint, encode


def stamped(stamp: int | float) -> bytes:
    """A hint in our own form, of a job that there never was."""
    message = orjson.loads(encode(Hint(uuid4(), "somebody.elses", 0)))
    message["headers"]["hinted_at"] = stamp
    return orjson.dumps(message)


HOSTILE_HINTS = {
    "of a year that will come": stamped(10**16),
    "of the last moment that there is": stamped(253_402_300_799_999_999),
    "of no year that there is": stamped(2**62),
    "of long before any year": stamped(-(2**62)),
    "of before 1970": stamped(-1),
    "of a fraction": stamped(1e15),
    "longer than any hint": b'{"headers":[' + b"[]," * 100_000 + b"1]}",
    "no JSON": b"\xff not JSON",
    "a text": b'"x"',
    "nothing": b"",
}
