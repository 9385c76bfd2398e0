"""What a job is: a pydantic model with a kind and options. Declaring the class registers its kind in this process.

Arguments are validated when the object is made, and again by the worker before the handler gets them. The two sides may run
different versions of the class (during a rollout both exist), so:

- the caller's side forbids unknown fields (a typo is an error at once), the worker's side ignores them;
- a field with a default may be added at any time; a rename uses pydantic's ``AliasChoices``: arguments are stored under
  their fields' names, and read by names and aliases;
- for any other change, raise ``version`` and write ``upgrade``, which turns older arguments into today's. A worker that only
  knows an older version leaves the job to workers that know the newer one.
"""

from collections.abc import Mapping
from contextlib import suppress
from types import GenericAlias
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticSerializationError
from typing_extensions import TypeVar, Unpack

from carafe import json_pointer
from carafe.jobs.declaring import check_fields, check_keywords, check_upgrade, checked_kind
from carafe.jobs.errors import Fault, InvalidArguments, InvalidOption, UnknownKind, faults_of
from carafe.jobs.options import CLASS_OPTIONS, ClassOptions
from carafe.jobs.options import JobOptions as JobOptions
from carafe.jobs.round_trip import lost, read_leniently, traits_of
from carafe.jobs.secret_fields import REDACTED as REDACTED
from carafe.jobs.secret_fields import SecretNotStorable, json_with_secrets
from carafe.jobs.stored_json import (
    BEYOND_64_BITS,
    DEEPEST,
    NOT_FINITE,
    TOO_DEEP,
    beyond_64_bits,
    doubled,
    doubled_key,
    fault_of,
    floats_kept,
    not_finite,
    too_deep,
)
from carafe.texts import class_name

if TYPE_CHECKING:

    class ClassKeywords(ClassOptions, ConfigDict, total=False):
        """The keywords of a job's class: its options, and pydantic's own configuration."""


Result = TypeVar("Result", default=Any, covariant=True)
"""The type that a job's handler returns. The job's class declares it, as in ``Job[Exported]``; a bare ``Job`` allows any
type."""

if TYPE_CHECKING:

    class _Typed(BaseModel, Generic[Result]):
        """A model that is generic in the type that its handler returns."""

else:

    class _Typed(BaseModel):
        # Not a generic model of pydantic's: it would require `Result` among the parameters of each generic parent in an
        # application, and make a class for each result type. `carafe.jobs.typed_results` reads the type from the bases.
        def __class_getitem__(cls, item):
            if cls.__pydantic_generic_metadata__["parameters"]:
                return super().__class_getitem__(item)
            return GenericAlias(cls, item)


_NOT_SAID: Any = object()


def _checked_options(name: str, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Picks the options out of the class keywords of the class called `name`, and checks them. The value None sets an option
    to its default, even if a parent class sets another value."""
    try:
        return {
            option: None if keywords[option] is None else found.check(keywords[option], option)
            for option, found in CLASS_OPTIONS.items()
            if option in keywords
        }
    except InvalidOption as error:
        raise TypeError(f"{name}: {error}") from None


class Job(_Typed[Result]):
    """The class to declare a job with: ``class Resize(Job, kind="image.resize", timeout=60, max_retries=5)``.

    Class arguments: `kind` (the job's name everywhere; keep it when the class is renamed), `version` of the arguments (from
    1), the options of `ClassOptions` (`timeout` in seconds for one attempt, `max_retries` after the first attempt), and
    those of pydantic's configuration. A class without `kind` is an abstract parent: no job of the class itself can be
    enqueued. Its subclasses inherit its fields and its options (the nearest class that sets an option decides, and None sets
    the default again). ``Job[Resized]`` declares the type that the handler returns: type checkers check the handler against
    it, and `Client.wait` returns the result as this type.

    Raises ``TypeError`` for a kind that another class has, for a kind with characters that are not allowed, for an option
    that is unknown or out of range, for an `upgrade` that could not be called, and for a field that could not be stored for
    the handler.
    """

    model_config = ConfigDict(
        extra="forbid",
        hide_input_in_errors=True,
        # NaN and Infinity are written as such, so that `dump` finds and refuses them; pydantic would write null.
        ser_json_inf_nan="constants",
    )
    job_options: ClassVar[JobOptions]
    __carafe_said__: ClassVar[Mapping[str, Any]] = {}
    """The options that this class itself sets, without those that it inherits."""

    def __init_subclass__(cls, *, kind: str | None = None, version: int = 1, **keywords: "Unpack[ClassKeywords]") -> None:
        config: dict[str, Any] = {name: value for name, value in keywords.items() if name not in CLASS_OPTIONS}
        check_keywords(cls, config, Job)
        super().__init_subclass__(**config)

    @classmethod
    def __pydantic_init_subclass__(cls, *, kind: str | None = None, version: Any = _NOT_SAID, **keywords: Any) -> None:
        super().__pydantic_init_subclass__(**{name: value for name, value in keywords.items() if name not in CLASS_OPTIONS})
        name = cls.__name__
        cls.__carafe_said__ = _checked_options(name, keywords)
        check_fields(cls)
        check_upgrade(cls, Job)
        if kind is None:
            if version is not _NOT_SAID:
                raise TypeError(
                    f"{name}: version belongs to a kind: set it in the class that has the kind (got {version!r})"
                )
            if cls.__pydantic_generic_metadata__["origin"] is None:
                cls.job_options = None  # type: ignore[assignment]  # not its parent's: jobs of this class would be the parent's
            return
        kind = checked_kind(name, kind)
        version = 1 if version is _NOT_SAID else version
        if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= 32767:
            raise TypeError(f"{name}: version must be a whole number from 1 to 32767 (got {version!r})")
        options: dict[str, Any] = {}
        for parent in reversed(cls.__mro__):
            options.update(vars(parent).get("__carafe_said__", {}))
        cls.job_options = JobOptions(kind, version, **options)
        _register(cls)

    @classmethod
    def upgrade(cls, arguments: dict[str, Any], version: int) -> dict[str, Any]:
        """Turn arguments that were stored under an older `version` into today's. Override it when `version` rises."""
        return arguments


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
    """The job class of a kind. Raises `UnknownKind` when this process has imported no class with that kind."""
    try:
        return _kinds[kind]
    except KeyError:
        raise UnknownKind(kind, list(_kinds)) from None


def build(kind: str, arguments: Any) -> Job:
    """Makes a job object from its kind and JSON-like arguments, as the HTTP API and the command line receive them.

    The arguments may contain a field under its name or its alias. Raises `UnknownKind`, or `InvalidArguments`, which lists
    every fault with its path.
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
        return cls.model_validate_json(text, by_alias=True, by_name=True)
    except ValidationError as error:
        raise InvalidArguments(kind, faults_of(error)) from None


def _unwritable(arguments: Any, error: Exception) -> Fault:
    """The reason, as a `Fault`, why orjson could not write these arguments as JSON (`error` is what it raised)."""
    try:
        place = beyond_64_bits(arguments)
    except RecursionError:
        place = None
    if place is not None:
        return Fault(place, BEYOND_64_BITS)
    return Fault("", TOO_DEEP if "ecursion" in str(error) else f"is not JSON: {error}")


def load(cls: type[Job], stored: str, version: int) -> Job:
    """The job object that a handler gets, made from arguments as JSON (`stored`). `version` is the version of these
    arguments, and at most the version of the class. The key of each field may be its name, as `dump` writes it, or an alias,
    which is the name that another release has for the field.

    Raises `InvalidArguments` when the arguments are no longer valid. The worker then ends the job as dead at once, with the
    faults as its error.
    """
    options = cls.job_options
    try:
        keeps_extra = traits_of(cls).keeps_extra
        text = stored if version >= options.version else orjson.dumps(cls.upgrade(orjson.loads(stored), version))
        job: Job = read_leniently(cls.model_validate_json, text, keeps_extra=keeps_extra)
        return job
    except ValidationError as error:
        raise InvalidArguments(options.kind, faults_of(error)) from None


class Stored(NamedTuple):
    """Arguments in stored form: their JSON text, and JSON pointers (RFC 6901) to the secrets in this text."""

    json: str
    secrets: tuple[str, ...] = ()


def dump(job: Job, *, as_declared: bool = False) -> Stored:
    """The arguments of `job` as JSON, under the fields' names. Secrets are written unhidden, since the handler needs them,
    and their places are listed so that every other reader gets them redacted. `as_declared`: whether the caller knows that
    the values have the types of their fields (see `carafe.jobs.round_trip.as_declared`).

    Raises `InvalidArguments` for values that Carafe's JSON does not accept (`carafe.jobs.stored_json`: NaN, an integer
    beyond 64 bits), for text that Postgres cannot store (a NUL character, a lone surrogate), and for values that the handler
    would not get back (see `carafe.jobs.round_trip`).
    """
    cls = type(job)
    kind = cls.job_options.kind
    traits = traits_of(cls)
    secrets: tuple[str, ...] = ()
    text = ""
    try:
        try:
            text = job.__pydantic_serializer__.to_json(
                job, round_trip=True, warnings=False if as_declared else "error"
            ).decode()
            # An object that was made without validation may lack fields.
            sure = not traits.doubtful and len(job.__dict__) == traits.fields
        except PydanticSerializationError:
            # A value is not of its field's type: set after validation, or an unvalidated default. It may still read back.
            text = job.__pydantic_serializer__.to_json(job, round_trip=True, warnings=False).decode()
            sure = False
        if traits.any_keys and (key := doubled_key(text)) is not None:
            raise InvalidArguments(kind, [Fault("", doubled(key))])
        if traits.secrets or REDACTED in text:
            text, secrets = json_with_secrets(job)
        if "null" in text and _nests(cls):
            # A model inside this one writes a number that is not finite as null, whatever the outer model's configuration.
            place = not_finite(job.model_dump(mode="python", warnings=False))
            if place is not None:
                raise InvalidArguments(kind, [Fault(place, NOT_FINITE)])
    except SecretNotStorable as error:
        if (found := fault_of(text)) is not None:  # no secret's fault
            raise InvalidArguments(kind, [Fault(_place_of(job, found), found)]) from None
        raise InvalidArguments(kind, [Fault(error.path.removeprefix("/").replace("/", "."), str(error))]) from None
    except (PydanticSerializationError, UnicodeEncodeError) as error:
        raise InvalidArguments(kind, [Fault("", f"cannot be written as JSON: {error}")]) from None
    if (found := fault_of(text)) is not None:
        raise InvalidArguments(kind, [Fault(_place_of(job, found), found)])
    if "\\u0000" in text and has_nul(orjson.loads(text)):
        raise InvalidArguments(kind, [Fault("", "a text holds the NUL character, which Postgres cannot store")])
    if not sure:
        _check_reads_back(job, text, whole=traits.doubtful)
    return Stored(floats_kept(text), secrets)


def _place_of(job: Job, fault: str) -> str:
    """The path of the value with a `fault` that `fault_of` has found; empty if it cannot be told, as within a secret."""
    find = {BEYOND_64_BITS: beyond_64_bits, NOT_FINITE: not_finite}.get(fault)
    return "" if find is None else find(job.model_dump(mode="python", warnings=False)) or ""


def _check_reads_back(job: Job, text: str, *, whole: bool) -> None:
    """Raise `InvalidArguments` if a worker could not read `text`, the JSON of `job`. With `whole`, also raise it if the
    worker would read other values than those in `job`."""
    cls = type(job)
    try:
        after = load(cls, text, cls.job_options.version)
    except InvalidArguments:
        raise
    except Exception as error:  # the application's own validator
        said = f"cannot be read back: a validator raises {class_name(error)}"
        raise InvalidArguments(cls.job_options.kind, [Fault("", said)]) from error
    if whole and (place := lost(job, after)) is not None:
        raise InvalidArguments(cls.job_options.kind, [Fault(place, NOT_READ_BACK)])


NOT_READ_BACK = (
    "its handler would get another value: the field is left out of JSON, shares a name with another field, "
    "or its serializer writes what its validators do not read back"
)


_nested: dict[type[Job], bool] = {}


def _nests(job_class: type[Job]) -> bool:
    """Whether a field may hold a model, dataclass or the like, whose own configuration decides how it writes numbers."""
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
    """A copy of `arguments` that every reader but the handler gets: `REDACTED` replaces the value at each JSON pointer in
    `secrets`."""
    for pointer in secrets:
        with suppress(LookupError):
            arguments = json_pointer.put(arguments, pointer, REDACTED)
    return arguments


def is_redacted(arguments: Any, pointer: str) -> bool:
    """Whether the text `REDACTED`, which pages show in place of a secret, is the value at this JSON pointer. When edited
    arguments have that text there, the stored secret is kept."""
    try:
        return bool(json_pointer.get(arguments, pointer) == REDACTED)
    except LookupError:
        return False
