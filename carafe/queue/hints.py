"""Hints: the Celery messages in Redis that say "job X may be claimable", and nothing more (docs/design rule 2).

A hint is a complete Celery protocol-2 message for the task ``carafe.run``, so that any Celery tool can read it. It carries
the job's id, kind, stamp and trace context, never the arguments. Decoding never raises: for a message that is not a hint it
returns None.
"""

from base64 import b64encode
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from carafe.jobs.queue_name import QUEUE

TASK = "carafe.run"

HEAD = f'{{"headers":{{"task":"{TASK}","id":"'.encode()
AFTER_ID = b'","shadow":"'
"""`HEAD` is the beginning of each message that `encode` makes, and `AFTER_ID` is the text after the 36 characters of the
job's id. With these, a consumer finds id and kind by their position."""

LONGEST = 65_536
"""The maximum number of bytes that a message may have to be decoded. A hint has about 800 bytes, and Celery's remote
control messages have hardly more."""

LONGEST_KIND = 800
"""The maximum number of bytes that a kind may take in a message: a kind has at most 200 characters
(`carafe.jobs.declaring`)."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_END = 253_402_300_800_000_000
"""The beginning of the year 10000, in microseconds since 1970. No stamp reaches it."""

_BODY = b64encode(b'[[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]').decode()


class Hint(NamedTuple):
    """Says that a job may be claimable. `stamp` is the time in the column ``hinted_at`` of the job's row, in microseconds
    since 1970."""

    id: UUID
    kind: str
    stamp: int
    trace: str | None = None


def stamp_of(moment: datetime) -> int:
    """Postgres's ``hinted_at`` as whole microseconds since 1970."""
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def moment_of(stamp: int) -> datetime:
    """The time that a stamp (microseconds since 1970) stands for. The reverse of `stamp_of`."""
    seconds, microseconds = divmod(stamp, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=microseconds)


@lru_cache(1024)
def _quoted(kind: str) -> str:
    return orjson.dumps(kind).decode()


def _headers(trace: str) -> str:
    """Returns the trace context as message headers that Celery tools can read. `trace` is the text in the column of that
    name: a traceparent, optionally followed by a blank and a tracestate."""
    parent, _, state = trace.partition(" ")
    headers = f',"traceparent":{orjson.dumps(parent).decode()}'
    return headers + (f',"tracestate":{orjson.dumps(state).decode()}' if state else "")


def encode(hint: Hint) -> bytes:
    """The Celery message of a hint, as JSON."""
    job_id, kind = str(hint.id), _quoted(hint.kind)
    trace = _headers(hint.trace) if hint.trace else ""
    # Written as text: five times faster than dumping the nested dictionaries, and a bulk makes thousands.
    return (
        f'{{"headers":{{"task":"{TASK}","id":"{job_id}","shadow":{kind},"hinted_at":{hint.stamp}{trace},"lang":"py",'
        f'"root_id":"{job_id}","parent_id":null,"group":null,"argsrepr":"()","kwargsrepr":"{{}}","origin":"carafe",'
        '"retries":0,"eta":null,"expires":null,"timelimit":[null,null],"ignore_result":true},'
        f'"body":"{_BODY}","content-type":"application/json","content-encoding":"utf-8",'
        f'"properties":{{"correlation_id":"{job_id}","delivery_tag":"{job_id}","delivery_mode":2,"priority":0,'
        f'"body_encoding":"base64","delivery_info":{{"exchange":"","routing_key":"{QUEUE}"}}}}}}'
    ).encode()


def read(raw: bytes) -> Hint | None:
    """The hint in a message from Redis, no matter who wrote the message. Returns None when it is not a hint."""
    if len(raw) > LONGEST:
        return None
    try:
        return decode(orjson.loads(raw))
    except orjson.JSONDecodeError:
        return None


def decode(message: dict[str, Any]) -> Hint | None:
    """The hint in a message that is already parsed from JSON. Returns None when a part is missing or malformed. The caller
    checks that the message names our task."""
    try:
        headers = message["headers"]
        kind, stamp, trace = headers["shadow"], headers["hinted_at"], headers.get("traceparent")
        if type(kind) is not str or type(stamp) is not int or not (trace is None or type(trace) is str):
            return None
        if not 0 <= stamp < _END:
            return None
        if trace is not None and type(state := headers.get("tracestate")) is str:
            trace = f"{trace} {state}"
        return Hint(UUID(headers["id"]), kind, stamp, trace)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
