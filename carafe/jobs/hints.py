"""Hints: the Celery messages in Redis that say "job X may be claimable", and nothing more (DESIGN.md rule 2).

A hint is a whole Celery protocol-2 message for the task ``carafe.run``, so that any Celery tool reads it; it carries the
job's id, kind, stamp and trace context, never the arguments. Decoding one cannot raise: what is not a hint is None.
"""

from base64 import b64encode
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

import orjson

QUEUE = "default"
TASK = "carafe.run"

HEAD = f'{{"headers":{{"task":"{TASK}","id":"'.encode()
AFTER_ID = b'","shadow":"'
"""How every message of `encode` begins, and what follows the 36 characters of the id: a consumer may read by position."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BODY = b64encode(b'[[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]').decode()


class Hint(NamedTuple):
    """A job that may be claimable; `stamp` is its row's ``hinted_at`` in microseconds since 1970."""

    id: UUID
    kind: str
    stamp: int
    trace: str | None = None


def stamp_of(moment: datetime) -> int:
    """Postgres's ``hinted_at`` as whole microseconds since 1970."""
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def moment_of(stamp: int) -> datetime:
    """The reverse of `stamp_of`."""
    seconds, microseconds = divmod(stamp, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=microseconds)


@lru_cache(1024)
def _quoted(kind: str) -> str:
    return orjson.dumps(kind).decode()


def _headers(trace: str) -> str:
    """The trace as headers, for Celery tools that read them: the column's text is a traceparent, a blank, a tracestate."""
    parent, _, state = trace.partition(" ")
    headers = f',"traceparent":{orjson.dumps(parent).decode()}'
    return headers + (f',"tracestate":{orjson.dumps(state).decode()}' if state else "")


def encode(hint: Hint) -> bytes:
    """The message of a hint."""
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


def decode(message: dict[str, Any]) -> Hint | None:
    """The hint in a decoded message that names our task; None when something in it is not as it should be."""
    try:
        headers = message["headers"]
        kind, stamp, trace = headers["shadow"], headers["hinted_at"], headers.get("traceparent")
        if type(kind) is not str or type(stamp) is not int or not (trace is None or type(trace) is str):
            return None
        if trace is not None and type(state := headers.get("tracestate")) is str:
            trace = f"{trace} {state}"
        return Hint(UUID(headers["id"]), kind, stamp, trace)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
