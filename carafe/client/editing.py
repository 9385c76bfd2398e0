"""Edit and run: a person changes a stored job's arguments, and a new job gets the changed arguments. Stored secrets can be
kept without being shown.

Guarantees: a secret that is kept is copied, within this process, from the stored arguments to the same place in the new
ones. The new arguments are validated as a whole, like those of any new job.

Who may edit may also send a kept secret elsewhere, by changing an argument that says where it goes (a URL). So the audit
names the changed arguments and the kept secrets.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from carafe import json_pointer
from carafe.jobs.definition import Job, build, job_class
from carafe.jobs.errors import Fault, InvalidArguments, InvalidOption
from carafe.jobs.stored_json import readable, written
from carafe.texts import clean

MOST_NAMED, LONGEST_NAME = 100, 100
"""The greatest number of changed arguments, and of kept secrets, that are named, and of characters of each name."""


class Edited(NamedTuple):
    """A job with edited arguments. `changed`: the names of the top-level arguments whose values differ from the stored ones.
    `kept`: the JSON pointers of the secrets that were kept. Both are bounded, since they go into the audit."""

    job: Job
    changed: list[str]
    kept: list[str]


def edited(row: Mapping[str, Any], arguments: Mapping[str, Any], keep: Sequence[str]) -> Edited:
    """A new job with the kind of `row` (the stored job's row of the statement `GET`) and these `arguments`.

    `keep` are JSON pointers to secrets in the stored arguments. The stored values replace what `arguments` have at these
    places (a placeholder). Arguments of an older version are upgraded to the current version, as in a worker. Raises
    `InvalidArguments`, `InvalidOption`, `UnknownKind`.
    """
    options = job_class(row["kind"]).job_options
    if row["version"] > options.version:
        raise InvalidOption(
            "args",
            f"are of version {row['version']} of {row['kind']!r}, and this process knows {options.version}: "
            "try again when the rollout has ended",
        )
    stored = readable(row["args"])
    changed: Any = dict(arguments)
    for pointer in keep:
        if pointer not in (row["secrets"] or ()):
            raise InvalidOption("keep_secrets", f"{pointer[:100]!r} is not a secret of the stored arguments")
        secret = json_pointer.get(stored, pointer)
        try:
            changed = json_pointer.put(changed, pointer, secret, add=True)
        except LookupError:
            text = f"the arguments have no place for {pointer!r} any more: leave it out"
            raise InvalidOption("keep_secrets", text) from None
    differing = _named(name for name in {**_object(stored), **changed} if _differ(stored, changed, name))
    if row["version"] < options.version:
        try:
            changed = job_class(row["kind"]).upgrade(changed, row["version"])
        except Exception as error:  # the application's own code, on what a person typed
            said = f"cannot be brought from version {row['version']} to {options.version} ({type(error).__name__})"
            raise InvalidArguments(row["kind"], [Fault("", said)]) from error
    return Edited(build(row["kind"], changed), differing, _named(keep))


def _object(stored: Any) -> dict[str, Any]:
    return stored if isinstance(stored, dict) else {}  # a row that was changed by hand


def _differ(stored: Any, changed: dict[str, Any], name: str) -> bool:
    before = _object(stored)
    if name not in before or name not in changed:
        return True
    return written(before[name]) != written(changed[name])  # as JSON: in Python 1, True and 1.0 are equal


def _named(names: Iterable[str]) -> list[str]:
    found = [clean(name, LONGEST_NAME) for name in islice(names, MOST_NAMED + 1)]
    return found if len(found) <= MOST_NAMED else [*found[:MOST_NAMED], "…"]
