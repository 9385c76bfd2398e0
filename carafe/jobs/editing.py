"""Edit and run: a stored job's arguments, changed by a person, as a new job. Secrets are kept without ever being shown.

Guarantees: a secret that is kept is taken from the stored arguments in this process, at the very place where it stands; the
new arguments are validated whole, as those of any new job.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from carafe.jobs.definition import Job, build, job_class
from carafe.jobs.errors import Fault, InvalidArguments, InvalidOption
from carafe.jobs.stored_json import readable


def edited(row: Mapping[str, Any], arguments: Mapping[str, Any], keep: Sequence[str]) -> Job:
    """The job that `arguments` make, of the kind of `row` (of get.sql), with the stored secrets at the places `keep`.

    `keep` are JSON pointers of secrets of the stored arguments; what `arguments` hold there (a placeholder) is replaced.
    Arguments of an older version are brought to today's, as the worker does. Raises `InvalidArguments`, `InvalidOption`,
    `UnknownKind`.
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
            raise InvalidOption("keep_secrets", f"{pointer[:100]!r} is no secret of the stored arguments")
        path = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
        changed = _put(changed, path, _at(stored, path), pointer)
    if row["version"] < options.version:
        try:
            changed = job_class(row["kind"]).upgrade(changed, row["version"])
        except Exception as error:  # the application's own code, given what a person has typed
            said = f"cannot be brought from version {row['version']} to {options.version} ({type(error).__name__})"
            raise InvalidArguments(row["kind"], [Fault("", said)]) from error
    return build(row["kind"], changed)


def _at(value: Any, path: Sequence[str]) -> Any:
    for part in path:
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def _put(value: Any, path: Sequence[str], secret: Any, pointer: str) -> Any:
    if not path:
        return secret
    key, rest = path[0], path[1:]
    if isinstance(value, dict) and (key in value or not rest):
        return {**value, key: _put(value.get(key), rest, secret, pointer)}
    if isinstance(value, list) and key.isdecimal() and int(key) < len(value):
        index = int(key)
        return [*value[:index], _put(value[index], rest, secret, pointer), *value[index + 1 :]]
    raise InvalidOption("keep_secrets", f"the arguments have no place for {pointer!r} any more: leave it out")
