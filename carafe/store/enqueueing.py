"""Enqueueing: checks a batch of jobs, then stores it by a plan that works with any driver.

The plan is a generator: it yields SQL statements, and the caller runs them and sends their rows back. So the same steps work
on asyncpg, on a caller's ``AsyncSession`` and on a caller's ``Session``. A batch is stored whole or not at all. Faults are
found before anything is stored.
"""

import hashlib
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from carafe.jobs.declaring import no_kind
from carafe.jobs.definition import Job, dump
from carafe.jobs.errors import MAX_FAULTS, BulkInvalid, CarafeError, IdempotencyConflict, InvalidOption, PayloadTooLarge
from carafe.jobs.identifiers import uuid7s
from carafe.jobs.new_job import Limits, NewJob
from carafe.jobs.options import CLASS_OPTIONS, ENQUEUE_OPTIONS, EnqueueOptions, JobOptions, checked_key, checked_text
from carafe.jobs.records import Enqueued, as_uuid
from carafe.jobs.round_trip import as_declared
from carafe.jobs.states import State
from carafe.queue.hints import Hint
from carafe.store.statement import Statement
from carafe.store.statements import ANSWER_KEY, ENQUEUE, RECALL_KEY, REMEMBER_KEY, UNIQUE_HOLDERS

TRACED_OF_BULK = 100
"""The maximum number of jobs of one bulk that are traced. With more, the trace would be unreadable, and the receiver of
the spans would be overloaded."""

CHECKED_AT_ONCE = 100
"""For how many jobs of a bulk one call checks whether their values have the types of their fields."""

ROUNDS = 5
"""How many times storing a job is tried when another job holds its unique key, but ends before it can be read."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Jobs that were checked and are ready to be stored, in the caller's order. Each of `rows` is a JSON object. `digest` is
    a hash of the request, by which a repeated request with the same idempotency key is recognized."""

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
    """Check a bulk, and return it ready to be stored. The first `TRACED_OF_BULK` jobs get `trace`, the others
    `trace_of_rest` (None: `trace` too).

    Raises `BulkInvalid`, which has the errors of the first `MAX_FAULTS` invalid jobs by index, or `InvalidOption`.
    """
    if idempotency_key is not None:
        checked_key(idempotency_key, "idempotency_key")
    checked_text(trace, "trace")
    checked_text(created_by, "created_by")
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
    typed = False
    for index, item in enumerate(items):
        if index == TRACED_OF_BULK:
            tail = rest_tail
        if index % CHECKED_AT_ONCE == 0 and len(items) > 1:
            some = items[index : index + CHECKED_AT_ONCE]
            typed = as_declared([one.job if isinstance(one, NewJob) else one for one in some])
        try:
            new, job = (item, item.job) if isinstance(item, NewJob) else (None, item)
            job_class = type(job)
            head = heads.get(job_class)
            if head is None:
                head = heads[job_class] = _head(job_class, limits, job)
            stored = dump(job, as_declared=typed)
            text = stored.json
            # A character has at most 4 bytes, so the bytes of most texts need not be counted.
            if len(text) * 4 > limits.args_bytes and (size := len(text.encode())) > limits.args_bytes:
                raise PayloadTooLarge("arguments", size, limits.args_bytes, "JOB_ARGS_LIMIT")
            row = f'{{"id":"{ids[index]}",{head},"args":{text}{tail}'
            if stored.secrets:
                row += f',"secrets":{_json(stored.secrets)}'
            if new is not None:
                row += _given(new.options)
            rows.append(row + "}")
            kinds.append(job_class.job_options.kind)
            keys.append(new.options["unique_key"] if new is not None and "unique_key" in new.options else None)
        except CarafeError as error:
            faulty += 1
            if faulty <= MAX_FAULTS:
                faults.append((index, error))
    if faults:
        raise BulkInvalid(faults, len(items), count=faulty)
    digest = None
    if idempotency_key is not None:
        # The digest leaves out ids and trace, which differ between two tries of one request.
        tails = [first_tail] * TRACED_OF_BULK + [rest_tail] * max(0, len(rows) - TRACED_OF_BULK)
        asked = "\n".join(row[row.index(",") :].replace(tail, "", 1) for row, tail in zip(rows, tails, strict=False))
        digest = hashlib.sha256(asked.encode()).hexdigest()
    return Batch(ids, kinds, rows, keys, digest, traces)


def prepare_one(new: NewJob, limits: Limits, **options: Any) -> Batch:
    """Check one job, and return it ready to be stored. Raises `InvalidArguments`, `PayloadTooLarge` or `InvalidOption`."""
    try:
        return prepare([new], limits, **options)
    except BulkInvalid as error:
        raise error.errors[0][1] from None


def _tail(trace: str | None, created_by: str | None) -> str:
    given = (("trace", trace), ("created_by", created_by))
    return "".join(f',"{name}":{_json(value)}' for name, value in given if value is not None)


def _no_job(given: object) -> str:
    """The error message for an enqueued object that is not a job."""
    if isinstance(given, type):
        return f"is the class {given.__name__}; a job is an object of it, with its arguments: {given.__name__}(...)"
    return f"must be an object of a class declared with Job (got one of {type(given).__name__})"


def _head(job_class: type[Job], limits: Limits, job: Job) -> str:
    if not issubclass(job_class, Job):
        raise InvalidOption("job", _no_job(job))
    options = getattr(job_class, "job_options", None)
    if options is None:
        raise InvalidOption("job", no_kind(job_class))
    return _said_by_class(options, limits)


def _said_by_class(options: JobOptions, limits: Limits) -> str:
    text = f'"kind":{_json(options.kind)},"version":{options.version}'
    for name, value in limits.resolve(options).items():
        option = CLASS_OPTIONS[name]
        text += f',"{option.column}":{_WRITTEN[option.what](option.kept(value))}'
    return text


def _given(options: EnqueueOptions) -> str:
    """The options that were given for one job, as JSON. They are written after the class's options: when a name occurs twice
    in a JSON object, its last value counts.

    They are always in the order of the table of options, not in the caller's order. This text becomes part of the digest by
    which requests with the same idempotency key are compared.
    """
    given: Mapping[str, Any] = options
    if "run_at" in given and "delay" in given and None not in (given["run_at"], given["delay"]):
        raise InvalidOption("delay", "give run_at or delay, not both")
    text = ""
    for name, head, check, written in _GIVEN:
        if name in given and (value := given[name]) is not None:
            text += head + written(check(value, name))
    return text


def sample(kind: str) -> tuple[UUID, str]:
    """The id and the row (as JSON) of a test job without arguments, for rehearsing an enqueue. No class has to declare the
    kind."""
    [job_id] = uuid7s(1)
    said = _said_by_class(JobOptions(kind, 1), Limits())
    return job_id, f'{{"id":"{job_id}",{said},"args":{{}},"secrets":[]}}'


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


_WRITTEN: Mapping[str, Callable[[Any], str]] = {
    "moment": lambda moment: f'"{moment.isoformat()}"',
    "duration": str,
    "integer": str,
    "text": _json,
}
"""For each type of option, the function that writes a value as JSON."""

_GIVEN = tuple(
    (name, f',"{option.column}":', option.check, _WRITTEN[option.what]) for name, option in ENQUEUE_OPTIONS.items()
)

Rows = Sequence[Mapping[str, Any]]
Plan = Generator[tuple[Statement, dict[str, Any]], Rows, tuple[list[Enqueued], list[Hint]]]


def store(batch: Batch, *, scope: str, idempotency_key: str | None, ttl: float) -> Plan:
    """The plan that stores a batch: a generator that yields SQL statements with their values, and is sent the rows of each.

    Returns the answers, in the order of the batch, and the hints to push after the transaction has been committed. Raises
    `IdempotencyConflict`, or `InvalidOption` when the job that holds a unique key cannot be seen.
    """
    if idempotency_key is not None:
        checked_text(scope, "scope")
        key = {"scope": scope, "key": idempotency_key}
        taken = yield REMEMBER_KEY, {**key, "request_hash": batch.digest, "ttl": ttl}
        if not taken:
            # Another statement: it sees what the other transaction has committed meanwhile.
            recalled = yield RECALL_KEY, key
            return _recall(recalled, batch, idempotency_key), []
    inserted: dict[UUID, Mapping[str, Any]] = {}
    holders: dict[str, Mapping[str, Any]] = {}
    waiting = list(range(len(batch.ids)))
    for _ in range(ROUNDS):
        rows = yield ENQUEUE, {"rows": "[" + ",".join([batch.rows[index] for index in waiting]) + "]"}
        # asyncpg's own UUIDs equal plain ones. Converting thousands of them is not worth the time.
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
