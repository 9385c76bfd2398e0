"""How jobs get in: checks a batch, then stores it by a plan that knows no driver.

The plan is a generator that yields statements and is sent their rows, so that the same steps run on asyncpg, on a caller's
``AsyncSession`` and on a caller's ``Session``. A batch is all or nothing; faults are found before anything is stored.
"""

import hashlib
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from carafe.jobs.definition import Job, dump
from carafe.jobs.delays import checked_delay, checked_moment
from carafe.jobs.errors import MAX_FAULTS, BulkInvalid, CarafeError, IdempotencyConflict, InvalidOption, PayloadTooLarge
from carafe.jobs.hints import Hint
from carafe.jobs.identifiers import uuid7s
from carafe.jobs.outcomes import Seconds
from carafe.jobs.records import Enqueued, as_uuid
from carafe.jobs.statements import ANSWER_KEY, ENQUEUE, RECALL_KEY, REMEMBER_KEY, UNIQUE_HOLDERS, Statement
from carafe.jobs.states import State

MAX_KEY = 500
"""Characters of a unique or idempotency key at most."""

TRACED_OF_BULK = 100
"""Jobs of one bulk that a trace shows at most; nobody could read more, and the receiver gets no flood."""

ROUNDS = 5
"""Times that a unique key is tried when its holder ends between two statements."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job with options of its own inside a bulk: `run_at` (aware datetime) or `delay` (seconds), and `unique_key`."""

    job: Job
    run_at: datetime | None = None
    delay: Seconds | None = None
    unique_key: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What may get in, and the defaults of jobs that say nothing themselves. Bytes of JSON, seconds, counts."""

    args_bytes: int = 262_144
    result_bytes: int = 262_144
    bulk: int = 10_000
    timeout: float = 300.0
    max_retries: int = 3
    idempotency_ttl: float = 86_400.0


@dataclass(frozen=True, slots=True)
class Batch:
    """Checked jobs, ready to be stored: one JSON object a row, in the order of the caller."""

    ids: list[UUID]
    kinds: list[str]
    rows: list[str]
    unique_keys: list[str | None]
    digest: str | None
    traces: list[str | None]


def prepare(
    jobs: Iterable[Job | NewJob],
    limits: Limits,
    *,
    idempotency_key: str | None = None,
    trace: str | None = None,
    trace_of_rest: str | None = None,
    created_by: str | None = None,
) -> Batch:
    """Check a bulk. The first `TRACED_OF_BULK` jobs carry `trace`, the others `trace_of_rest` (None: the same).

    Raises `BulkInvalid` with the faults by index (of the first `MAX_FAULTS` jobs that have any), or `InvalidOption`.
    """
    _check_key("idempotency_key", idempotency_key)
    items = list(jobs)
    if len(items) > limits.bulk:
        raise InvalidOption("jobs", f"at most {limits.bulk} at once (got {len(items)}); send several bulks (BULK_LIMIT)")
    ids = uuid7s(len(items))
    kinds: list[str] = []
    rows: list[str] = []
    keys: list[str | None] = []
    faults: list[tuple[int, CarafeError]] = []
    faulty = 0
    heads: dict[type[Job], str] = {}
    tail = first_tail = _tail(trace, created_by)
    traces = [trace] * len(items)
    if len(items) > TRACED_OF_BULK and trace_of_rest is not None:
        traces[TRACED_OF_BULK:] = [trace_of_rest] * (len(items) - TRACED_OF_BULK)
        rest_tail = _tail(trace_of_rest, created_by)
    else:
        rest_tail = tail
    for index, item in enumerate(items):
        if index == TRACED_OF_BULK:
            tail = rest_tail
        try:
            new, job = (item, item.job) if isinstance(item, NewJob) else (None, item)
            job_class = type(job)
            head = heads.get(job_class)
            if head is None:
                head = heads[job_class] = _head(job_class, limits)
            stored = dump(job)
            text = stored.json
            # Characters are never more than bytes, so most rows need no second look.
            if len(text) * 4 > limits.args_bytes and (size := len(text.encode())) > limits.args_bytes:
                raise PayloadTooLarge("arguments", size, limits.args_bytes, "JOB_ARGS_LIMIT")
            row = f'{{"id":"{ids[index]}",{head},"args":{text}{tail}'
            if stored.secrets:
                row += f',"secrets":{_json(stored.secrets)}'
            if new is not None:
                row += _options(new)
            rows.append(row + "}")
            kinds.append(job_class.job_options.kind)
            keys.append(None if new is None else new.unique_key)
        except CarafeError as error:
            faulty += 1
            if faulty <= MAX_FAULTS:
                faults.append((index, error))
    if faults:
        raise BulkInvalid(faults, len(items), count=faulty)
    digest = None
    if idempotency_key is not None:
        # What was asked for: neither the ids made here nor the trace, which differ between two tries of one request.
        tails = [first_tail] * TRACED_OF_BULK + [rest_tail] * max(0, len(rows) - TRACED_OF_BULK)
        asked = "\n".join(row[row.index(",") :].replace(tail, "", 1) for row, tail in zip(rows, tails, strict=False))
        digest = hashlib.sha256(asked.encode()).hexdigest()
    return Batch(ids, kinds, rows, keys, digest, traces)


def prepare_one(new: NewJob, limits: Limits, **options: Any) -> Batch:
    """Check one job. Raises the fault itself: `InvalidArguments`, `PayloadTooLarge` or `InvalidOption`."""
    try:
        return prepare([new], limits, **options)
    except BulkInvalid as error:
        raise error.errors[0][1] from None


def _tail(trace: str | None, created_by: str | None) -> str:
    given = (("trace", trace), ("created_by", created_by))
    return "".join(f',"{name}":{_json(value)}' for name, value in given if value is not None)


def _head(job_class: type[Job], limits: Limits) -> str:
    options = getattr(job_class, "job_options", None)
    if options is None:
        raise InvalidOption("job", f"{job_class.__name__} declares no kind: class {job_class.__name__}(Job, kind=...)")
    timeout = limits.timeout if options.timeout is None else options.timeout
    retries = limits.max_retries if options.max_retries is None else options.max_retries
    return f'"kind":{_json(options.kind)},"version":{options.version},"timeout":{timeout},"max_attempts":{retries + 1}'


def _options(new: NewJob) -> str:
    text = ""
    if new.run_at is not None:
        if new.delay is not None:
            raise InvalidOption("delay", "give run_at or delay, not both")
        text += f',"run_at":"{checked_moment(new.run_at).isoformat()}"'
    if new.delay is not None:
        text += f',"delay":{checked_delay(new.delay)}'
    if new.unique_key is not None:
        _check_key("unique_key", new.unique_key)
        text += f',"unique_key":{_json(new.unique_key)}'
    return text


def _check_key(option: str, key: str | None) -> None:
    if key is None:
        return
    if not 0 < len(key) <= MAX_KEY or not key.isprintable():
        raise InvalidOption(option, f"must be 1 to {MAX_KEY} printable characters")


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


Rows = Sequence[Mapping[str, Any]]
Plan = Generator[tuple[Statement, dict[str, Any]], Rows, tuple[list[Enqueued], list[Hint]]]


def store(batch: Batch, *, scope: str, idempotency_key: str | None, ttl: float) -> Plan:
    """The steps that store a batch: yields statements with their values, is sent their rows.

    Returns the answers in the caller's order, and the hints to push once the transaction is committed.
    """
    if idempotency_key is not None:
        key = {"scope": scope, "key": idempotency_key}
        taken = yield REMEMBER_KEY, {**key, "request_hash": batch.digest, "ttl": ttl}
        if not taken:
            # A new statement, so that it sees what the other transaction committed meanwhile.
            recalled = yield RECALL_KEY, key
            return _recall(recalled, batch, idempotency_key), []
    inserted: dict[UUID, Mapping[str, Any]] = {}
    holders: dict[str, Mapping[str, Any]] = {}
    waiting = list(range(len(batch.ids)))
    for _ in range(ROUNDS):
        rows = yield ENQUEUE, {"rows": "[" + ",".join([batch.rows[index] for index in waiting]) + "]"}
        # asyncpg's own UUIDs equal the plain ones, and are not worth turning into them by the thousand.
        inserted.update((row["id"] if isinstance(row["id"], UUID) else UUID(row["id"]), row) for row in rows)
        waiting = [index for index in waiting if batch.ids[index] not in inserted]
        if not waiting:
            break
        held = yield UNIQUE_HOLDERS, {"keys": _json(sorted({str(batch.unique_keys[index]) for index in waiting}))}
        holders.update((row["unique_key"], row) for row in held)
        waiting = [index for index in waiting if batch.unique_keys[index] not in holders]
        if not waiting:
            break
    if waiting:
        raise InvalidOption("unique_key", "its holder could not be seen by this transaction; try again")
    answers: list[Enqueued] = []
    hints: list[Hint] = []
    for job_id, kind, unique_key, trace in zip(batch.ids, batch.kinds, batch.unique_keys, batch.traces, strict=True):
        row = inserted.get(job_id)
        if row is None:
            holder = holders[str(unique_key)]
            answers.append(Enqueued(as_uuid(holder["id"]), holder["kind"], State(holder["state"]), existing=True))
            continue
        if row["stamp"] is None:
            # For later, or queued in a queue that is paused: no hint either way.
            answers.append(Enqueued(job_id, kind, State(row["state"])))
        else:
            answers.append(Enqueued(job_id, kind, State.QUEUED))
            hints.append(Hint(job_id, kind, row["stamp"], trace))
    if idempotency_key is not None:
        remembered = [[str(answer.id), answer.kind, answer.state, answer.existing] for answer in answers]
        yield ANSWER_KEY, {"scope": scope, "key": idempotency_key, "response": _json(remembered)}
    return answers, hints


def _recall(rows: Rows, batch: Batch, idempotency_key: str) -> list[Enqueued]:
    if not rows or rows[0]["request_hash"] != batch.digest or rows[0]["response"] is None:
        raise IdempotencyConflict(idempotency_key)
    return [
        Enqueued(UUID(job_id), kind, State(state), existing=existing, replayed=True)
        for job_id, kind, state, existing in orjson.loads(rows[0]["response"])
    ]
