"""Reading the body of a bulk: its values and jobs are counted before any of them is validated, and its faults are listed
no further than anybody reads.

Built to be run in a thread: it holds Python's lock for the parsing of what is known to be bounded, never for seconds.
"""

import re
from dataclasses import replace
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from carafe.jobs.errors import MAX_FAULTS, Fault, InvalidOption, faults_of
from carafe.settings import Settings
from carafe.web.bodies import check_numbers, malformed
from carafe.web.models import BulkRequest, EnqueueRequest
from carafe.web.problems import ProblemError, invalid_request

VALUES = 262_144
"""Values (numbers, texts, lists, objects) of a bulk at most, beside `VALUES_OF_A_JOB` for each of BULK_LIMIT jobs: in memory
an empty list takes thirty times its bytes."""

VALUES_OF_A_JOB = 64

UNKNOWN = 10
"""Unknown fields of one object that are listed."""


def parse_bulk(body: bytes, settings: Settings) -> list[EnqueueRequest]:
    """The jobs of a bulk. Raises ProblemError (400, 413, 422) or `InvalidOption` for too many."""
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
    """A bulk of more jobs than one may have."""
    return InvalidOption("jobs", f"at most {limit} at once (got {count}); send several bulks (BULK_LIMIT)")


def _entries(found: Any) -> list[Any]:
    """What stands for jobs in what was parsed."""
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


def _validated(entries: list[Any]) -> list[EnqueueRequest]:
    jobs: list[EnqueueRequest] = []
    faults: list[Fault] = []
    more = 0
    for index, entry in enumerate(entries):
        try:
            unknown = _unknown(entry, EnqueueRequest, f"jobs.{index}.") if isinstance(entry, dict) else []
            if not unknown:
                jobs.append(EnqueueRequest.model_validate(entry))
                continue
            found = unknown
        except ValidationError as error:
            place = f"jobs.{index}."
            found = [replace(fault, path=f"{place}{fault.path}".rstrip(".")) for fault in faults_of(error)]
        if len(faults) < MAX_FAULTS:
            faults += found
        else:
            more += sum(fault.count for fault in found)
    if faults:
        if more:
            faults.append(Fault("jobs", f"and {more:,} more", "too_many_faults", more))
        raise invalid_request(faults)
    return jobs


def _unknown(found: dict[str, Any], model: type[BulkRequest] | type[EnqueueRequest], prefix: str) -> list[Fault]:
    """The fields that the model has not: pydantic would list all of them, however many they are."""
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
