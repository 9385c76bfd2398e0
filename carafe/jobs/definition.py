"""What a job is: a pydantic model with a kind and options. Declaring the class registers its kind in this process.

Arguments are validated when the object is made, and again by the worker before the handler sees them. The two sides may
run different versions of the class (a rollout mixes them), so:

- the caller's side forbids unknown fields (a typo is an error at once), the worker's side ignores them;
- a field with a default may be added at any time; a rename uses pydantic's ``AliasChoices``;
- any other change raises ``version`` and gives ``upgrade``, which turns older arguments into today's. A worker that knows
  only an older version leaves the job to workers that know it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticSerializationError

from carafe.jobs.errors import Fault, InvalidArguments, UnknownKind, faults_of
from carafe.jobs.outcomes import Seconds, seconds
from carafe.jobs.secret_fields import REDACTED as REDACTED
from carafe.jobs.secret_fields import SecretNotStorable, json_with_secrets, may_hold_secrets
from carafe.jobs.stored_json import (
    BEYOND_64_BITS,
    DEEPEST,
    NOT_FINITE,
    TOO_DEEP,
    beyond_64_bits,
    fault_of,
    not_finite,
    too_deep,
)


@dataclass(frozen=True, slots=True)
class JobOptions:
    """A kind and its options. None means: the setting's default (JOB_TIMEOUT, JOB_MAX_RETRIES), resolved at enqueue."""

    kind: str
    version: int
    timeout: float | None
    max_retries: int | None


class Job(BaseModel):
    """The class to declare a job with: ``class Resize(Job, kind="image.resize", timeout=60, max_retries=5)``.

    Class arguments: `kind` (the job's name everywhere, kept when the class is renamed), `timeout` in seconds an attempt,
    `max_retries` after the first attempt, `version` of the arguments (from 1). A class without `kind` is an abstract
    parent. Raises ``TypeError`` for a kind that is taken, or an option out of range.
    """

    model_config = ConfigDict(
        extra="forbid",
        hide_input_in_errors=True,
        # Written as they are, so that `dump` finds and refuses them; pydantic's own way is a null.
        ser_json_inf_nan="constants",
    )
    job_options: ClassVar[JobOptions]

    def __init_subclass__(
        cls,
        *,
        kind: str | None = None,
        timeout: Seconds | None = None,
        max_retries: int | None = None,
        version: int = 1,
        **config: Any,
    ) -> None:
        super().__init_subclass__(**config)

    @classmethod
    def __pydantic_init_subclass__(
        cls,
        *,
        kind: str | None = None,
        timeout: Seconds | None = None,
        max_retries: int | None = None,
        version: int = 1,
        **config: Any,
    ) -> None:
        super().__pydantic_init_subclass__(**config)
        if kind is None:
            return
        limit = None if timeout is None else seconds(timeout)
        if not kind or len(kind) > 200 or not kind.isprintable() or kind != kind.strip():
            raise TypeError(f"{cls.__name__}: kind must be 1 to 200 printable characters (got {kind!r})")
        if limit is not None and not 0 < limit <= MAX_TIMEOUT:
            raise TypeError(f"{cls.__name__}: timeout must be above 0 and at most {MAX_TIMEOUT} seconds (got {limit})")
        if max_retries is not None and not 0 <= max_retries <= MAX_RETRIES:
            raise TypeError(f"{cls.__name__}: max_retries must be from 0 to {MAX_RETRIES} (got {max_retries})")
        if not 1 <= version <= 32767:
            raise TypeError(f"{cls.__name__}: version must be from 1 to 32767 (got {version})")
        cls.job_options = JobOptions(kind, version, limit, max_retries)
        _register(cls)

    @classmethod
    def upgrade(cls, arguments: dict[str, Any], version: int) -> dict[str, Any]:
        """Turn arguments that were stored under an older `version` into today's. Override it when `version` rises."""
        return arguments


MAX_TIMEOUT = 7 * 24 * 3600
MAX_RETRIES = 1000

_kinds: dict[str, type[Job]] = {}


def _register(job_class: type[Job]) -> None:
    kind = job_class.job_options.kind
    known = _kinds.get(kind)
    if known is not None and (known.__module__, known.__qualname__) != (job_class.__module__, job_class.__qualname__):
        raise TypeError(
            f"kind {kind!r} is already declared by {known.__module__}.{known.__qualname__}; "
            f"give {job_class.__module__}.{job_class.__qualname__} another kind"
        )
    _kinds[kind] = job_class


def kinds() -> Mapping[str, type[Job]]:
    """The job classes that this process knows, by kind."""
    return _kinds


def job_class(kind: str) -> type[Job]:
    """The class of a kind. Raises `UnknownKind`."""
    try:
        return _kinds[kind]
    except KeyError:
        raise UnknownKind(kind, list(_kinds)) from None


def build(kind: str, arguments: Any) -> Job:
    """A job object from a kind and JSON-like arguments, as the HTTP API and the command line get them.

    Raises `UnknownKind`, or `InvalidArguments` with every fault by its path.
    """
    cls = job_class(kind)
    if not isinstance(arguments, dict):
        raise InvalidArguments(kind, [Fault("", f"must be a JSON object (got {type(arguments).__name__})")])
    try:
        # By way of JSON text, so that the rules are those of JSON (a UUID is a string).
        text = orjson.dumps(arguments)
    except orjson.JSONEncodeError as error:
        raise InvalidArguments(kind, [_unwritable(arguments, error)]) from None
    if b"null" in text and (place := not_finite(arguments)) is not None:
        raise InvalidArguments(kind, [Fault(place, NOT_FINITE)])
    if text.count(b"[") + text.count(b"{") > DEEPEST and too_deep(text.decode()):
        raise InvalidArguments(kind, [Fault("", TOO_DEEP)])
    try:
        return cls.model_validate_json(text)
    except ValidationError as error:
        raise InvalidArguments(kind, faults_of(error)) from None


def _unwritable(arguments: Any, error: Exception) -> Fault:
    """Why plain data is no JSON that every side could carry."""
    try:
        place = beyond_64_bits(arguments)
    except RecursionError:
        place = None
    if place is not None:
        return Fault(place, BEYOND_64_BITS)
    return Fault("", TOO_DEEP if "ecursion" in str(error) else f"is not JSON: {error}")


def load(cls: type[Job], stored: str, version: int) -> Job:
    """The job object that a handler gets, from stored arguments of that `version` (at most the class's own).

    Raises `InvalidArguments` when they no longer validate: the job then ends dead at once, with the faults as its error.
    """
    options = cls.job_options
    try:
        if version < options.version:
            return cls.model_validate_json(orjson.dumps(cls.upgrade(orjson.loads(stored), version)), extra="ignore")
        return cls.model_validate_json(stored, extra="ignore")
    except ValidationError as error:
        raise InvalidArguments(options.kind, faults_of(error)) from None


@dataclass(frozen=True, slots=True)
class Stored:
    """Arguments as the store keeps them: JSON text, and where secrets stand in it (JSON pointers, RFC 6901)."""

    json: str
    secrets: tuple[str, ...] = ()


def dump(job: Job) -> Stored:
    """The arguments of `job` as JSON, secrets whole (the handler needs them) and their places named for redaction.

    Raises `InvalidArguments` for what JSON cannot hold here (`carafe.jobs.stored_json`: NaN, an integer beyond 64 bits), or
    not in Postgres (a NUL character, a lone surrogate).
    """
    kind = job.job_options.kind
    secrets: tuple[str, ...] = ()
    try:
        text = job.model_dump_json()
        if REDACTED in text or may_hold_secrets(type(job)):
            text, secrets = json_with_secrets(job)
        if "null" in text and _nests(type(job)):
            # A model inside this one writes a number that is not finite as null, whatever the outer one says.
            place = not_finite(job.model_dump(mode="python"))
            if place is not None:
                raise InvalidArguments(kind, [Fault(place, NOT_FINITE)])
    except SecretNotStorable as error:
        raise InvalidArguments(kind, [Fault(error.path.removeprefix("/").replace("/", "."), str(error))]) from None
    except (PydanticSerializationError, UnicodeEncodeError) as error:
        raise InvalidArguments(kind, [Fault("", f"cannot be written as JSON: {error}")]) from None
    if (found := fault_of(text)) is not None:
        raise InvalidArguments(kind, [Fault("", found)])
    if "\\u0000" in text and has_nul(orjson.loads(text)):
        raise InvalidArguments(kind, [Fault("", "a text holds the NUL character, which Postgres cannot store")])
    return Stored(text, secrets)


_nested: dict[type[Job], bool] = {}


def _nests(job_class: type[Job]) -> bool:
    """Whether a field may hold a model, dataclass or the like, which writes numbers by rules of its own."""
    if job_class not in _nested:
        plain = (str, int, float, bool, type(None))
        _nested[job_class] = any(field.annotation not in plain for field in job_class.model_fields.values())
    return _nested[job_class]


def has_nul(value: Any) -> bool:
    """Whether a text anywhere in JSON-like data holds the NUL character, which Postgres's jsonb cannot store."""
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any("\0" in key or has_nul(item) for key, item in value.items())
    return isinstance(value, list) and any(map(has_nul, value))


def redact(arguments: Any, secrets: tuple[str, ...] | list[str]) -> Any:
    """A copy of `arguments` with the value at each JSON pointer of `secrets` replaced, for every reader but the handler."""
    for pointer in secrets:
        arguments = _replaced(arguments, [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]])
    return arguments


def _replaced(value: Any, path: list[str]) -> Any:
    if not path:
        return REDACTED
    key, rest = path[0], path[1:]
    if isinstance(value, dict) and key in value:
        return {**value, key: _replaced(value[key], rest)}
    if isinstance(value, list) and key.isascii() and key.isdecimal() and int(key) < len(value):
        index = int(key)
        return [*value[:index], _replaced(value[index], rest), *value[index + 1 :]]
    return value
