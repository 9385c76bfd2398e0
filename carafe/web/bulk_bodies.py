"""Reads the body of a request that enqueues a bulk of jobs.

The values in the body are counted before it is parsed, and the jobs before any of them is validated. The answer lists the
first faults only, and the number of the others.

Call `parse_bulk` in a thread. While it parses, no other thread can run (Python's GIL); the limit on values keeps this time
below a few seconds.
"""

import re
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from carafe.jobs.errors import MAX_FAULTS, Fault, InvalidOption, faults_of
from carafe.settings.settings import Settings
from carafe.web.bodies import check_numbers, malformed
from carafe.web.models import BulkRequest, EnqueueRequest, JobToEnqueue
from carafe.web.problems import ProblemError, invalid_request

VALUES = 262_144
"""The maximum number of values (numbers, texts, lists, objects) of a bulk, in addition to `VALUES_OF_A_JOB` for each of
BULK_LIMIT jobs. There is a limit because a value may take much more memory than its JSON: an empty list takes thirty
times its bytes."""

VALUES_OF_A_JOB = 64
"""Values that each job of a bulk may have on average, in addition to `VALUES` for the whole bulk."""

UNKNOWN = 10
"""How many unknown fields of one object are listed by name; the others are only counted."""


@dataclass(frozen=True, slots=True)
class Bulk:
    """The entries of a bulk. `jobs` are those whose form is valid, and `places` are their indexes. `malformed` has, for each
    of the other entries, its index and its faults, until `MAX_FAULTS` faults are listed. `more` is the number of further
    faults, `more_jobs` the number of entries that have only such faults."""

    jobs: list[JobToEnqueue]
    places: list[int]
    malformed: list[tuple[int, list[Fault]]]
    more: int
    more_jobs: int

    @property
    def total(self) -> int:
        """The number of entries."""
        return len(self.jobs) + len(self.malformed) + self.more_jobs

    def refusal(self) -> ProblemError:
        """Returns the error that lists the faults of form, for a bulk whose jobs have no other faults."""
        faults = [fault for _, found in self.malformed for fault in found]
        if self.more:
            faults.append(Fault("jobs", f"and {self.more:,} more", "too_many_faults", self.more))
        return invalid_request(faults)


def parse_bulk(body: bytes, settings: Settings) -> Bulk:
    """Returns a bulk's well-formed jobs and the faults of its malformed ones. Malformed jobs raise no error here: the caller
    checks the well-formed jobs for other faults first, so that one answer lists all faults.

    Raises ProblemError: 400 for a body that is not JSON, 413 for too many values, 422 for a body that is not a bulk. Raises
    `InvalidOption` for more than BULK_LIMIT jobs.
    """
    _count_values(body, VALUES + VALUES_OF_A_JOB * settings.bulk_limit)
    try:
        found = from_json(body)
    except ValueError as error:
        raise malformed(body, str(error)) from None
    entries = _entries(found)
    if len(entries) > settings.bulk_limit:
        raise too_many(len(entries), settings.bulk_limit)
    jobs = _validated(entries)
    check_numbers(body, lambda: found)
    return jobs


def too_many(count: int, limit: int) -> InvalidOption:
    """Returns the error for a bulk of `count` jobs when at most `limit` are allowed."""
    return InvalidOption("jobs", f"at most {limit} at once (got {count}); send several bulks (BULK_LIMIT)")


def _entries(found: Any) -> list[Any]:
    """Returns the list under ``jobs`` in a parsed body. Raises ProblemError 422 if there is no such list or if the list is
    empty."""
    if not isinstance(found, dict):
        raise invalid_request([Fault("", "Input should be an object", "model_type")])
    faults = _unknown(found, BulkRequest, "")
    jobs = found.get("jobs")
    if "jobs" not in found:
        faults.append(Fault("jobs", "Field required", "missing"))
    elif not isinstance(jobs, list):
        faults.append(Fault("jobs", "Input should be a valid array", "list_type"))
    elif not jobs:
        faults.append(Fault("jobs", "List should have at least 1 item", "too_short"))
    if faults:
        raise invalid_request(faults)
    assert isinstance(jobs, list)
    return jobs


def _validated(entries: list[Any]) -> Bulk:
    jobs: list[JobToEnqueue] = []
    places: list[int] = []
    malformed: list[tuple[int, list[Fault]]] = []
    count = more = more_jobs = 0
    for index, entry in enumerate(entries):
        try:
            unknown = _unknown(entry, EnqueueRequest, f"jobs.{index}.") if isinstance(entry, dict) else []
            if not unknown:
                jobs.append(EnqueueRequest.model_validate(entry))
                places.append(index)
                continue
            found = unknown
        except ValidationError as error:
            place = f"jobs.{index}."
            found = [replace(fault, path=f"{place}{fault.path}".rstrip(".")) for fault in faults_of(error)]
        if count < MAX_FAULTS:
            malformed.append((index, found))
            count += len(found)
        else:
            more += sum(fault.count for fault in found)
            more_jobs += 1
    return Bulk(jobs, places, malformed, more, more_jobs)


def _unknown(found: dict[str, Any], model: type[BulkRequest] | type[JobToEnqueue], prefix: str) -> list[Fault]:
    """Returns a fault for each field that `model` does not have, up to `UNKNOWN`, and one fault with the number of the rest.

    pydantic itself would list every unknown field, however many there are.
    """
    fields = model.model_fields
    names = [name for name in found if name not in fields]
    faults = [Fault(prefix + name, "Extra inputs are not permitted", "extra_forbidden") for name in names[:UNKNOWN]]
    if len(names) > UNKNOWN:
        more = len(names) - UNKNOWN
        faults.append(Fault(prefix.rstrip("."), f"and {more:,} more unknown fields", "too_many_faults", more))
    return faults


# Possessive, and with an end that always fits, so that no text makes it start over.
_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)


def _count_values(body: bytes, limit: int) -> None:
    if _at_most(body) <= limit:
        return
    # Commas and brackets inside of texts are none; what stands between the texts is counted piece by piece.
    count = place = 0
    for text in _TEXT.finditer(body):
        if text.start() > place:
            count += _at_most(body[place : text.start()])
        place = text.end()
        if count > limit:
            break
    count += _at_most(body[place:])
    if count > limit:
        said = f"the body has more than {limit:,} values; send less at once (BULK_LIMIT gives the bound)"
        raise ProblemError(413, "payload-too-large", said)


def _at_most(text: bytes) -> int:
    return text.count(b",") + text.count(b"[") + text.count(b"{")
