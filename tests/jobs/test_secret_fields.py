"""Secrets are recognized by their class: they are stored unchanged for the handler, and their places are recorded, whatever
serializer writes them."""

import base64
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, NamedTuple

import orjson
import pytest
from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Json,
    JsonValue,
    PlainSerializer,
    RootModel,
    Secret,
    SecretBytes,
    SecretStr,
    field_serializer,
    model_serializer,
)
from typing_extensions import TypedDict

from carafe import Job
from carafe.jobs.definition import REDACTED, dump, load, redact
from carafe.jobs.errors import InvalidArguments
from carafe.jobs.secret_fields import may_hold_secrets, secrets_in

WORD = "open-sesame-42"


class Card(Secret[str]):
    """Shows its last digits."""

    def _display(self) -> str:
        return "…" + self.get_secret_value()[-4:]


class Loud(SecretStr):
    """Shows itself."""

    def _display(self) -> str:
        return self.get_secret_value()


Readable = Annotated[SecretStr, PlainSerializer(lambda secret: secret.get_secret_value(), when_used="json")]
AlwaysReadable = Annotated[SecretStr, PlainSerializer(lambda secret: secret.get_secret_value())]
Dotted = Annotated[SecretStr, PlainSerializer(lambda secret: "•••", when_used="json")]
Shortened = Annotated[SecretStr, PlainSerializer(lambda secret: secret.get_secret_value()[:2] + "…", when_used="always")]


class Inner(BaseModel):
    key: Readable
    other: str = "plain"


@dataclass
class Point:
    key: Card
    x: int = 1


class Pair(NamedTuple):
    name: str
    key: Loud


class Typed(TypedDict):
    key: Readable


class Colour(Enum):
    RED = "red"


class Tree(BaseModel):
    key: Card | None = None
    branches: "list[Tree]" = []


class Listed(RootModel[list[Readable]]):
    """A list of secrets."""


INNER = {"key": WORD, "other": "plain"}

CASES: list[tuple[str, Any, Any, list[str]]] = [
    ("str", SecretStr, WORD, [""]),
    ("bytes", SecretBytes, WORD, [""]),
    ("display", Card, WORD, [""]),
    ("shows_itself", Loud, WORD, [""]),
    ("number", Secret[int], 123_456_789, [""]),
    ("structure", Secret[dict[str, Any]], {"a": [WORD]}, [""]),
    ("model_within", Secret[Inner], INNER, [""]),
    ("json_serializer", Readable, WORD, [""]),
    ("serializer", AlwaysReadable, WORD, [""]),
    ("masking_serializer", Dotted, WORD, [""]),
    ("shortening_serializer", Shortened, WORD, [""]),
    ("optional", Readable | None, WORD, [""]),
    ("model", Inner, INNER, ["/key"]),
    ("list", list[Inner], [INNER, INNER], ["/0/key", "/1/key"]),
    ("map", dict[str, Readable], {"a/b": WORD, "c~d": WORD}, ["/a~1b", "/c~0d"]),
    ("enum_map", dict[Colour, Card], {"red": WORD}, ["/red"]),
    ("dataclass", Point, {"key": WORD, "x": 2}, ["/key"]),
    ("pair", Pair, ["n", WORD], ["/1"]),
    ("typed", Typed, {"key": WORD}, ["/key"]),
    ("root", Listed, [WORD, WORD], ["/0", "/1"]),
    ("tree", Tree, {"key": None, "branches": [{"key": WORD, "branches": []}]}, ["/branches/0/key"]),
    ("union", Inner | str, INNER, ["/key"]),
]


@pytest.mark.parametrize(("name", "type_", "value", "places"), CASES, ids=[case[0] for case in CASES])
def test_a_secret_is_stored_whole_and_its_place_is_named(name: str, type_: Any, value: Any, places: list[str]) -> None:
    job_class: Any = type(
        "Given",
        (Job,),
        {"__annotations__": {"field": type_, "plain": str}, "plain": "seen", "__module__": __name__},
        kind=f"secret_fields.{name}",
    )
    assert may_hold_secrets(job_class)
    job: Any = job_class.model_validate_json(orjson.dumps({"field": value}))

    stored = dump(job)

    assert orjson.loads(stored.json) == {"field": value, "plain": "seen"}
    assert list(stored.secrets) == [f"/field{place}" for place in places]
    loaded: Any = load(job_class, stored.json, 1)
    assert sorted(map(repr, secrets_in(loaded))) == sorted(map(repr, secrets_in(job)))
    shown = orjson.dumps(redact(orjson.loads(stored.json), stored.secrets)).decode()
    assert WORD not in shown
    assert "123456789" not in shown
    assert '"seen"' in shown


def test_aliases_keep_their_names() -> None:
    class Named(Job, kind="secret_fields.aliases"):
        model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True, validate_by_alias=True)
        token: Readable = Field(alias="accessToken")
        other: Card = Field(validation_alias=AliasChoices("other", "older"))

    stored = dump(Named.model_validate({"accessToken": WORD, "older": WORD}))

    assert orjson.loads(stored.json) == {"accessToken": WORD, "other": WORD}
    assert set(stored.secrets) == {"/accessToken", "/other"}
    assert set(secrets_in(load(Named, stored.json, 1))) == {WORD}


def test_a_serializer_whose_validator_reads_what_it_writes_is_kept() -> None:
    def encoded(secret: SecretStr) -> str:
        return "b64:" + base64.b64encode(secret.get_secret_value().encode()).decode()

    def decoded(value: Any) -> Any:
        if isinstance(value, SecretStr):
            return value
        if not value.startswith("b64:"):
            raise ValueError("must begin with b64:")
        return base64.b64decode(value[4:]).decode()

    class Encoded(Job, kind="secret_fields.encoded"):
        token: Annotated[SecretStr, BeforeValidator(decoded), PlainSerializer(encoded, when_used="json")]

    stored = dump(Encoded(token=SecretStr(WORD)))

    assert orjson.loads(stored.json) == {"token": "b64:" + base64.b64encode(WORD.encode()).decode()}
    assert stored.secrets == ("/token",)
    assert list(secrets_in(load(Encoded, stored.json, 1))) == [WORD]


def test_a_field_that_is_written_in_another_shape_is_hidden_whole() -> None:
    class Flat(Job, kind="secret_fields.flat"):
        pairs: dict[str, SecretStr]

        @field_serializer("pairs", when_used="json")
        def _flat(self, pairs: dict[str, SecretStr]) -> str:
            return orjson.dumps({key: value.get_secret_value() for key, value in pairs.items()}).decode()

        @classmethod
        def _read(cls, value: Any) -> Any:
            return orjson.loads(value) if isinstance(value, str) else value

    class Read(Flat, kind="secret_fields.flat_read"):
        pairs: Annotated[dict[str, SecretStr], BeforeValidator(Flat._read)]

    stored = dump(Read(pairs={"a": SecretStr(WORD)}))
    assert stored.secrets == ("/pairs",)
    assert redact(orjson.loads(stored.json), stored.secrets) == {"pairs": REDACTED}

    with pytest.raises(InvalidArguments) as told:
        dump(Flat(pairs={"a": SecretStr(WORD)}))
    assert [(fault.path, "serializer of its own" in fault.message) for fault in told.value.faults] == [("pairs", True)]


def test_what_would_reach_the_handler_masked_is_refused() -> None:
    class Wrapped(Job, kind="secret_fields.wrapped"):
        token: SecretStr

        @model_serializer(when_used="json")
        def _wrapped(self) -> dict[str, Any]:
            return {"v": {"token": str(self.token)}}

    with pytest.raises(InvalidArguments) as told:
        dump(Wrapped(token=SecretStr(WORD)))
    assert WORD not in str(told.value)


class Odd(Job, kind="secret_fields.odd"):
    innocent: SecretBytes = SecretBytes(b"b")
    token: SecretStr = SecretStr(WORD)
    anything: Any = None
    written: Json[dict[str, SecretStr]] | None = None
    even: int = 0


@pytest.mark.parametrize(
    ("job", "path", "words"),
    [
        (Odd(anything=10**5000), "anything", "beyond 64 bits"),
        (Odd(anything={"a": [10**30]}), "anything.a.0", "beyond 64 bits"),
        (Odd(anything=float("nan")), "anything", "NaN"),
        (Odd.model_validate({"written": f'{{"key": "{WORD}"}}'}), "written", "declare the type itself instead of Json"),
        (Odd(anything="x").model_copy(update={"even": "odd"}), "even", "cannot be read back"),
    ],
)
def test_what_cannot_be_stored_is_told_by_its_own_name(job: Job, path: str, words: str) -> None:
    with pytest.raises(InvalidArguments) as told:
        dump(job)
    [fault] = told.value.faults
    assert (fault.path, words in fault.message) == (path, True), fault
    assert WORD not in str(told.value)


def test_a_secret_is_no_name() -> None:
    class Keyed(Job, kind="secret_fields.keyed"):
        scores: dict[SecretStr, int]

    with pytest.raises(InvalidArguments, match="a secret cannot be the name of an item"):
        dump(Keyed(scores={SecretStr(WORD): 1}))


UNIONS: list[tuple[Any, bool]] = [
    (str | SecretStr, False),
    (SecretStr | str, True),
    (str | None | SecretStr, False),
    (Annotated[str, Field(min_length=3)] | SecretStr, False),
    (str | Readable, False),
    (str | Card, False),
    (bytes | SecretBytes, False),
    (bytes | SecretStr, False),
    (str | SecretBytes, False),
    (SecretBytes | bytes, True),
    (Any | SecretStr, False),
    (JsonValue | SecretStr, False),
    (SecretStr | Any, True),
    (int | Secret[int], False),
    (Secret[int] | int, True),
    (int | SecretStr, True),
    (list[str] | SecretStr, True),
    (list[str | SecretStr], False),
    (dict[str, str | SecretStr], False),
    (str | Inner, True),
    (SecretStr | None, True),
    (Tree | None, True),
]


@pytest.mark.parametrize(("type_", "works"), UNIONS, ids=map(str, range(len(UNIONS))))
def test_a_secret_behind_a_plain_type_is_refused_where_it_is_declared(type_: Any, works: bool) -> None:
    def declare() -> Any:
        return type("Given", (Job,), {"__annotations__": {"plain": str, "field": type_}, "__module__": __name__})

    if works:
        declare()
        return
    with pytest.raises(TypeError, match="Given: in the field field, a plain type stands before a secret one"):
        declare()


def test_fields_may_be_called_as_the_parts_of_a_schema() -> None:
    class Within(BaseModel):
        ref: SecretStr
        type: dict[str, str] = {"type": "union"}
        default: SecretStr | str

    class Outer(Job):
        ref: Within
        schema_ref: Within | None = None
        choices: int | None = None

    class Faulty(BaseModel):
        type: str
        default: str | SecretStr

    with pytest.raises(TypeError, match="in the field ref"):

        class Wrong(Job):
            ref: Faulty


def test_a_secret_behind_a_plain_type_is_found_in_a_model_within() -> None:
    class Within(BaseModel):
        key: str | SecretStr

    with pytest.raises(TypeError, match="in the field outer"):

        class Outer(Job):
            outer: list[Within]


def test_kinds_without_secret_fields_are_told_by_their_class() -> None:
    class Plain(Job, kind="secret_fields.none"):
        name: str
        items: list[dict[str, Any]]
        inner: Point | None = None

    class NoneAtAll(Job, kind="secret_fields.none_at_all"):
        name: str
        items: list[dict[str, Any]]

    assert may_hold_secrets(Plain)
    assert not may_hold_secrets(NoneAtAll)


def test_a_class_that_is_built_late_is_looked_at_once_it_is_whole() -> None:
    class Deferred(Job, kind="secret_fields.deferred"):
        model_config = ConfigDict(defer_build=True)
        token: SecretStr

    class DeferredPlain(Job, kind="secret_fields.deferred_plain"):
        model_config = ConfigDict(defer_build=True)
        name: str

    assert may_hold_secrets(Deferred)
    assert not may_hold_secrets(DeferredPlain)


def test_a_class_that_cannot_be_looked_at_may_hold_secrets_until_it_can() -> None:
    class Forward(Job, kind="secret_fields.forward"):
        inner: "ToBeDefined"  # type: ignore[name-defined]  # noqa: F821

    class ForwardPlain(Job, kind="secret_fields.forward_plain"):
        inner: "ToBeDefined"  # type: ignore[name-defined]  # noqa: F821

    assert may_hold_secrets(Forward)
    assert may_hold_secrets(ForwardPlain)
    Forward.model_rebuild(_types_namespace={"ToBeDefined": Inner})
    ForwardPlain.model_rebuild(_types_namespace={"ToBeDefined": int})
    assert may_hold_secrets(Forward)
    assert not may_hold_secrets(ForwardPlain)
