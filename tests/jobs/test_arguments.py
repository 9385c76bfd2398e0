"""Arguments: what can be stored, what cannot, and jobs whose class changes while they wait."""

import json
import math
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from typing import Annotated, Any, Generic, TypeVar

import pytest
from pydantic import (
    AliasChoices,
    Base64Bytes,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    HttpUrl,
    Json,
    PlainSerializer,
    SecretBytes,
    SecretStr,
    ValidationError,
    computed_field,
)

from carafe import BulkInvalid, Client, Context, InvalidArguments, InvalidOption, Job, State, UnknownKind, handler, testing
from carafe.engine.results import ResultNotUsable, encode_result
from carafe.jobs.definition import build, dump, load
from carafe.jobs.stored_json import floats_kept
from carafe.testing.executor import NoHandler
from tests.jobs.by_hand import count
from tests.jobs.kinds import Add, Greet


def nested(depth: int) -> Any:
    """Lists in the arguments' own object, so deep altogether."""
    value: Any = 1
    for _ in range(depth - 1):
        value = [value]
    return value


class Measure(Job, kind="tests.measure"):
    """Takes numbers that JSON does not know, and whatever else there is."""

    value: float = 0.0
    other: Any = None
    token: SecretStr | None = None


@handler(Measure)
async def measure(job: Measure, ctx: Context) -> dict[str, Any]:
    """Says what it got."""
    return {"value": repr(job.value), "other": repr(job.other)}


@pytest.mark.parametrize("value", [1e308, 5e-324, 1e22, 1.2345678901234568e20, 2**63, 0.1])
@pytest.mark.parametrize("token", [None, SecretStr("t")])
async def test_every_float_reaches_the_handler(carafe_client: Client, value: float, token: SecretStr | None) -> None:
    async with testing.inline(carafe_client):
        accepted = await carafe_client.enqueue(Measure(value=value, token=token))

    record = await carafe_client.get(accepted.id)
    assert record.error is None
    assert record.result["value"] == repr(float(value))
    assert float(record.args["value"]) == float(value)


LARGE_FLOATS = [1e16, -1e16, 1.5e18, 1e20, 1e22, -1.2345678901234568e25, 1.7976931348623157e308]


class Echo(Job, kind="tests.echo"):
    """Gets its argument back as its result."""

    value: Any = None
    one: float | str | dict[str, float] = 0.0


@handler(Echo)
async def echo(job: Echo, ctx: Context) -> Any:
    """Returns what it got, and its type's name."""
    return [job.value, job.one, type(job.value).__name__, type(job.one).__name__]


@pytest.mark.parametrize("value", LARGE_FLOATS)
async def test_a_large_float_stays_a_float_on_every_way(carafe_client: Client, value: float) -> None:
    async with testing.inline(carafe_client):
        accepted = await carafe_client.enqueue(Echo(value=value, one=value))
    record = await carafe_client.get(accepted.id)

    assert record.error is None
    assert record.result == [value, value, "float", "float"]
    assert [type(found) for found in (*record.result[:2], record.args["value"])] == [float] * 3
    assert record.args == {"value": value, "one": value}


def test_large_floats_are_written_with_their_digits_and_texts_stay() -> None:
    text = '{"a":[1e+16,-1.25e17,1.5e300],"b":"1e16","c\\"1e16":1e-7}'

    assert floats_kept(text) == (
        '{"a":[10000000000000000.0,-125000000000000000.0,15' + "0" * 299 + '.0],"b":"1e16","c\\"1e16":1e-7}'
    )
    assert floats_kept('{"id":"b5e4e1c2"}') == '{"id":"b5e4e1c2"}'


class Keyed(BaseModel):
    """Has keys of any type."""

    items: dict[int | str, str] = {}


DOUBLED: list[Any] = [
    {1: "a", "1": "b"},
    {True: "a", "true": "b"},
    {"x": [{None: 1, "None": 2}]},
    Keyed(items={1: "a", "1": "b"}),
]


@pytest.mark.parametrize("value", DOUBLED, ids=str)
def test_keys_that_are_equal_in_json_lose_no_value_silently(value: Any) -> None:
    words = "two keys that are both '.*' in JSON: one value would be lost"
    with pytest.raises(ResultNotUsable, match=words):
        encode_result(value, 10_000)
    with pytest.raises(InvalidArguments, match=words):
        dump(Measure(other=value))


def test_keys_of_several_types_that_differ_are_stored() -> None:
    value = {1: "a", "2": {'quoted ":': 1e-7}, None: "é"}

    assert json.loads(str(encode_result(value, 10_000))) == {"1": "a", "2": {'quoted ":': 1e-7}, "None": "é"}
    assert json.loads(dump(Measure(other=value)).json)["other"]["1"] == "a"


@pytest.mark.parametrize("value", [-(2**63), 2**64 - 1])
@pytest.mark.parametrize("token", [None, SecretStr("t")])
async def test_integers_of_64_bits_reach_the_handler(carafe_client: Client, value: int, token: SecretStr | None) -> None:
    async with testing.inline(carafe_client):
        accepted = await carafe_client.enqueue(Measure(other=value, token=token))

    record = await carafe_client.get(accepted.id)
    assert (record.args["other"], record.result["other"]) == (value, str(value))


class Inner(BaseModel):
    """A model inside a job's arguments, which writes NaN as null if one lets it."""

    price: float


@dataclass
class Plain:
    """The same as a dataclass."""

    price: float


NOT_FINITE = [math.nan, math.inf, -math.inf]
CANNOT_BE_CARRIED = [
    *NOT_FINITE,
    *([value] for value in NOT_FINITE),
    *({"a": [Inner(price=value)]} for value in NOT_FINITE),
    Plain(math.inf),
    2**64,
    -(2**63) - 1,
    {"a": [2**70]},
    10**400,
    nested(201),
]


async def test_what_not_every_side_can_carry_is_refused_in_words(carafe_client: Client) -> None:
    words = r"NaN or Infinity|beyond 64 bits|more than 200 deep"
    for value, token in product(CANNOT_BE_CARRIED, (None, SecretStr("t"))):
        with pytest.raises(InvalidArguments, match=words):
            await carafe_client.enqueue(Measure(other=value, token=token))
        if not isinstance(value, dict | Plain):
            with pytest.raises(InvalidArguments, match=words):
                build("tests.measure", {"other": value})
        with pytest.raises(ResultNotUsable, match=words):
            encode_result({"other": value}, 10_000)
    for number in NOT_FINITE:
        with pytest.raises(InvalidArguments, match=r"value: .*NaN or Infinity"):
            await carafe_client.enqueue(Measure(value=number))
    assert await count(carafe_client.database) == 0


async def test_what_every_side_can_carry_is_not(carafe_client: Client) -> None:
    for value in (nested(199), "9" * 30, None, {"a": None}, "NaN and Infinity are words, 12345678901234567890123 a text"):
        accepted = await carafe_client.enqueue(Measure(other=value))
        assert (await carafe_client.get(accepted.id)).args["other"] == value
        assert value is None or json.loads(str(encode_result(value, 10_000))) == value


@pytest.mark.parametrize("value", ["a\0b", ["x", {"y": "\0"}], {"\0": 1}, "\ud800", {"\udfff": 1}, object()])
@pytest.mark.parametrize("token", [None, SecretStr("t")])
async def test_what_postgres_cannot_store_is_refused(carafe_client: Client, value: Any, token: SecretStr | None) -> None:
    with pytest.raises(InvalidArguments, match=r"NUL character|cannot be written as JSON"):
        await carafe_client.enqueue(Measure(other=value, token=token))

    assert await count(carafe_client.database) == 0


class Upload(Job, kind="tests.upload"):
    """Bytes, plain and secret."""

    data: bytes = b""
    picture: Base64Bytes = b""
    key: SecretBytes | None = None


def test_bytes_are_text_unless_the_field_says_base64() -> None:
    job = Upload(data="é".encode(), picture=b64encode(b"\xff"), key=SecretBytes("kéy".encode()))

    loaded = load(Upload, dump(job).json, 1)

    assert (loaded, loaded.picture) == (job, b"\xff")  # type: ignore[attr-defined]
    for arguments in ({"data": b"\xff"}, {"key": SecretBytes(b"\xff")}):
        with pytest.raises(InvalidArguments, match="cannot be written as JSON"):
            dump(Upload(**arguments))


async def test_text_that_only_looks_like_nul_is_stored(carafe_client: Client) -> None:
    accepted = await carafe_client.enqueue(Measure(other="\\u0000 is six characters"))

    assert (await carafe_client.get(accepted.id)).args["other"] == "\\u0000 is six characters"


def test_a_typo_is_an_error_at_once_and_never_repeats_the_value() -> None:
    with pytest.raises(ValidationError) as raised:
        Greet(nane="hunter2")  # type: ignore[call-arg]

    assert "hunter2" not in str(raised.value)


def test_arguments_from_outside_are_built_by_the_rules_of_json() -> None:
    assert build("tests.add", {"a": 1, "b": 2}) == Add(a=1, b=2)
    with pytest.raises(InvalidArguments) as raised:
        build("tests.add", {"a": "hunter2", "c": 1})
    assert [(fault.path, fault.type) for fault in raised.value.faults] == [
        ("a", "int_parsing"),
        ("b", "missing"),
        ("c", "extra_forbidden"),
    ]
    assert "hunter2" not in str(raised.value)
    with pytest.raises(InvalidArguments, match="must be a JSON object"):
        build("tests.add", [1, 2])
    with pytest.raises(UnknownKind, match=r"unknown kind 'tests.ad'; JOB_MODULES declares: .*tests\.add"):
        build("tests.ad", {})


def test_a_kind_is_declared_once() -> None:
    with pytest.raises(TypeError, match=r"'tests\.greet' is already declared by tests\.jobs\.kinds\.Greet"):

        class Other(Job, kind="tests.greet"):
            pass

    assert build("tests.greet", {"name": "Ada"}) == Greet(name="Ada")


@pytest.mark.parametrize(
    "options",
    [{"kind": ""}, {"kind": " x"}, {"timeout": 0}, {"timeout": 10**7}, {"max_retries": -1}, {"version": 0}],
)
def test_options_out_of_range_stop_the_declaration(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="must be"):

        class Wrong(Job, **({"kind": "tests.wrong"} | options)):
            pass


# What follows declares one kind several times, as releases of an application do: always the same class by its name.


def first_release() -> type[Job]:
    class Order(Job, kind="tests.order"):
        """As it was."""

        customer: str
        amount: int

    Order.__qualname__ = "Order"
    return declared(Order)


def declared(order: type[Job]) -> type[Job]:
    async def take(job: Any, ctx: Context) -> Any:
        return job.model_dump()

    take.__qualname__ = "take"
    handler(order)(take)
    return order


@pytest.fixture(autouse=True)
def forgotten_releases() -> Any:
    """Each test begins with a first release."""
    from carafe.jobs import definition, handlers

    definition._kinds.pop("tests.order", None)
    handlers._handlers.pop("tests.order", None)
    yield
    definition._kinds.pop("tests.order", None)
    handlers._handlers.pop("tests.order", None)


def release(order: Callable[[], type[Job]]) -> None:
    """The next release replaces the class."""
    from carafe.jobs import definition, handlers

    definition._kinds.pop("tests.order", None)
    handlers._handlers.pop("tests.order", None)
    declared(order())


async def run_after(client: Client, order: Callable[[], type[Job]], **arguments: Any) -> Any:
    """Enqueue with the first release, run with the next."""
    async with testing.manual(client) as jobs:
        await client.enqueue(first_release()(**arguments))
        release(order)
        [record] = await jobs.drain()
    assert record.error is None
    return record.result


async def test_a_field_with_a_default_may_be_added(carafe_client: Client) -> None:
    def order() -> type[Job]:
        class Order(Job, kind="tests.order"):
            customer: str
            amount: int
            currency: str = "EUR"

        return Order

    result = await run_after(carafe_client, order, customer="Ada", amount=3)

    assert result == {"customer": "Ada", "amount": 3, "currency": "EUR"}


async def test_a_field_may_be_renamed_with_an_alias(carafe_client: Client) -> None:
    def order() -> type[Job]:
        class Order(Job, kind="tests.order"):
            buyer: str = Field(validation_alias=AliasChoices("buyer", "customer"))  # type: ignore[pydantic-alias]
            amount: int

        return Order

    assert await run_after(carafe_client, order, customer="Ada", amount=3) == {"buyer": "Ada", "amount": 3}


async def test_a_field_may_be_dropped(carafe_client: Client) -> None:
    def order() -> type[Job]:
        class Order(Job, kind="tests.order"):
            customer: str

        return Order

    assert await run_after(carafe_client, order, customer="Ada", amount=3) == {"customer": "Ada"}


async def test_any_other_change_is_a_new_version_that_upgrades_the_old(carafe_client: Client) -> None:
    def order() -> type[Job]:
        class Order(Job, kind="tests.order", version=2):
            customer: str
            cents: int

            @classmethod
            def upgrade(cls, arguments: dict[str, Any], version: int) -> dict[str, Any]:
                assert version == 1
                return {"customer": arguments["customer"], "cents": arguments["amount"] * 100}

        return Order

    assert await run_after(carafe_client, order, customer="Ada", amount=3) == {"customer": "Ada", "cents": 300}


async def test_a_newer_version_is_left_to_workers_that_know_it(carafe_client: Client) -> None:
    class Order(Job, kind="tests.order", version=2):
        customer: str

    async with testing.manual(carafe_client) as jobs:
        accepted = await carafe_client.enqueue(Order(customer="Ada"))
        release(first_release)
        with pytest.raises(NoHandler, match="in version 2"):
            await jobs.drain()

    record = await carafe_client.get(accepted.id)
    assert (record.state, record.attempt, record.releases) == (State.QUEUED, 0, 0)


async def test_arguments_that_no_longer_validate_end_dead_at_once_with_the_reason(carafe_client: Client) -> None:
    def order() -> type[Job]:
        class Order(Job, kind="tests.order"):
            customer: int
            amount: int

        return Order

    async with testing.manual(carafe_client) as jobs:
        await carafe_client.enqueue(first_release().model_validate({"customer": "hunter2", "amount": 3}))
        release(order)
        [record] = await jobs.drain(with_retries=True)

    assert (record.state, record.attempt) == (State.DEAD, 1)
    assert record.attempts[0].cause == "validation"
    assert "customer: Input should be a valid integer" in str(record.error)
    assert "hunter2" not in str(record.error)


def test_what_is_dumped_is_loaded_again() -> None:
    job = Measure(value=0.1, other={"a": [1, "é"]})

    assert load(Measure, dump(job).json, 1) == job


# -- what enqueue writes reads back as the same job


class Address(BaseModel):
    """A model inside a job, with an alias and without a default."""

    street: str = Field(alias="Strasse")


class Open(BaseModel):
    """A model that keeps what it does not declare."""

    model_config = ConfigDict(extra="allow")


class Aliased(Job, kind="tests.aliased"):
    """Fields whose JSON may be misnamed."""

    new: str = Field(default="", validation_alias=AliasChoices("new", "old"))  # type: ignore[pydantic-alias]
    camel: int = Field(default=0, alias="camelCase")
    api_key: SecretStr = Field(default=SecretStr("the default"), alias="apiKey")
    address: Address | None = None
    written: int = Field(default=0, serialization_alias="writtenOnly")
    parsed: Json[Any] = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        """Written by pydantic, and no argument."""
        return 2 * self.camel


@handler(Aliased)
async def aliased(job: Aliased, ctx: Context) -> dict[str, Any]:
    """Says what it got."""
    return {**job.model_dump(mode="json"), "key": job.api_key.get_secret_value()[:3]}


ALIASED = {"new": "n", "camelCase": 41, "apiKey": "abcdef", "address": {"Strasse": "Lange Gasse"}, "parsed": "[1]"}


async def test_a_field_with_an_alias_reaches_its_handler_by_every_way_in(carafe_client: Client) -> None:
    constructed = Aliased.model_validate({**ALIASED, "written": 3})
    built = build("tests.aliased", ALIASED)
    by_names = build("tests.aliased", {"camel": 41, "address": {"street": "Lange Gasse"}})
    async with testing.inline(carafe_client):
        accepted = await carafe_client.enqueue(constructed)
        record = await carafe_client.get(accepted.id)
        assert record.error is None
        assert record.result["camel"] == 41
        assert (record.result["new"], record.result["address"]) == ("n", {"street": "Lange Gasse"})
        assert (record.result["key"], record.result["written"], record.result["parsed"]) == ("abc", 3, [1])
        assert "double" not in record.args

        edited = await carafe_client.edit_and_run(accepted.id, {**record.args, "camel": 42}, keep_secrets=["/api_key"])
        record = await carafe_client.get(edited.id)
    assert (record.result["camel"], record.result["key"]) == (42, "abc")
    assert (load(Aliased, dump(built).json, 1).camel, by_names.camel) == (41, 41)  # type: ignore[attr-defined]


async def test_enqueued_arguments_with_aliases_can_be_asserted(carafe_client: Client) -> None:
    async with testing.manual(carafe_client) as jobs:
        await carafe_client.enqueue(Aliased.model_validate(ALIASED))
        jobs.assert_enqueued(Aliased, camel=41, api_key="abcdef")


def test_rows_of_an_earlier_release_are_read_by_aliases_too() -> None:
    job: Any = load(Aliased, '{"old":"o","camelCase":1,"double":2,"address":{"Strasse":"x"}}', 1)

    assert (job.new, job.camel, job.address.street) == ("o", 1, "x")


class Kept(Job, kind="tests.kept", extra="allow"):
    """Keeps what it does not declare, as the model within does; its neighbour within does not."""

    a: int
    within: Open | None = None
    address: Address | None = None


async def test_undeclared_fields_that_a_model_keeps_reach_its_handler() -> None:
    job: Any = Kept.model_validate({"a": 1, "zz": "kept", "within": {"w": 1}, "address": {"Strasse": "x"}})

    loaded: Any = load(Kept, dump(job).json, 1)

    assert loaded == job
    assert (loaded.zz, loaded.within.w) == ("kept", 1)


def test_a_newer_releases_fields_are_ignored_where_a_model_beside_keeps_others() -> None:
    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid")
        x: int

    class Mixed(Job, kind="tests.mixed_extra"):
        strict: Strict
        within: Open

    loaded: Any = load(Mixed, '{"strict":{"x":1,"newer":2},"within":{"w":1},"newer":3}', 1)

    assert (loaded.strict.x, loaded.within.w) == (1, 1)


class Forgetful(BaseModel):
    """Leaves a field out of JSON."""

    kept: int = 0
    left_out: int = Field(default=2, exclude=True)


Masked = Annotated[str, PlainSerializer(lambda text: "*" * len(text))]
ToSeconds = Annotated[datetime, PlainSerializer(lambda moment: moment.isoformat(timespec="seconds"))]
Tuple = Annotated[tuple[int, ...], PlainSerializer(lambda numbers: ",".join(map(str, numbers)))]
Readable = Annotated[Tuple, BeforeValidator(lambda given: given.split(",") if isinstance(given, str) else given)]


class Doubtful(Job, kind="tests.doubtful"):
    """Fields with serializers of the application's own."""

    within: tuple[Forgetful, ...] = ()
    masked: Masked = ""
    moment: ToSeconds | None = None
    numbers: Tuple | None = None
    readable: Readable | None = None
    unless_none: int | None = Field(default=None, exclude_if=lambda value: value is None)
    swapped: "Swapped | None" = None


class Swapped(BaseModel):
    """Two fields with each other's names."""

    one: int = Field(default=0, alias="two")
    two: int = Field(default=0, alias="one")


Doubtful.model_rebuild()
WHOLE = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ({"within": (Forgetful(), Forgetful(left_out=9))}, "within.1.left_out"),
        ({"masked": "4111"}, "masked"),
        ({"moment": WHOLE.replace(microsecond=1)}, "moment"),
        ({"numbers": (1, 2)}, "numbers"),
        ({"swapped": Swapped(one=1, two=2)}, "swapped.one"),
    ],
)
def test_a_value_that_would_not_reach_the_handler_is_refused_with_its_path(arguments: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidArguments) as refused:
        dump(Doubtful(**arguments))

    assert [fault.path for fault in refused.value.faults] == [path]


def test_values_that_come_back_through_own_serializers_are_stored() -> None:
    job = Doubtful(within=(Forgetful(kept=1),), moment=WHOLE, readable=(1, 2), swapped=Swapped(one=1, two=1))

    assert load(Doubtful, dump(job).json, 1) == job


def test_a_field_that_cannot_be_stored_stops_the_declaration() -> None:
    with pytest.raises(TypeError, match=r"Wrong: the field b has exclude=True.*PrivateAttr"):

        class Wrong(Job, kind="tests.wrong"):
            b: int = Field(default=2, exclude=True)

    with pytest.raises(TypeError, match=r"Wrong: 'new' is an alias of the field old and also the name of another field"):

        class Wrong(Job, kind="tests.wrong"):  # type: ignore[no-redef]
            new: int = 0
            old: int = Field(default=0, alias="new")


class Typed(Job, kind="tests.typed_values"):
    """Values that validation would not let through, and defaults that it does not see."""

    secs: int
    numbers: tuple[int, ...] = ()
    url: HttpUrl = "https://example.org"  # type: ignore[assignment]
    wrong: int = None  # type: ignore[assignment]


def changed(name: str, value: Any) -> Job:
    job = Typed(secs=1, wrong=1)
    setattr(job, name, value)
    return job


@pytest.mark.parametrize(
    ("job", "path"),
    [
        (changed("secs", "abc"), "secs"),
        (changed("numbers", (1, "x")), "numbers.1"),
        (Typed.model_construct(wrong=1), "secs"),  # type: ignore[call-arg]
        (Typed.model_construct(secs="abc", wrong=1), "secs"),  # type: ignore[arg-type]
        (Typed(secs=1), "wrong"),
    ],
)
async def test_what_no_worker_could_read_is_refused_at_enqueue(carafe_client: Client, job: Job, path: str) -> None:
    with pytest.raises(InvalidArguments) as refused:
        await carafe_client.enqueue(job)
    with pytest.raises(BulkInvalid) as bulk:
        await carafe_client.enqueue_many([Typed(secs=1, wrong=1), job])

    assert [fault.path for fault in refused.value.faults] == [path]
    assert [index for index, _ in bulk.value.errors] == [1]


def test_values_of_other_types_that_a_worker_reads_are_stored() -> None:
    loaded: Any = load(Typed, dump(changed("secs", "7")).json, 1)

    assert (loaded.secs, str(loaded.url)) == (7, "https://example.org/")


class Undeclared(Greet):
    """Would be enqueued as its parent, without its own field."""

    more: int = 0


async def test_a_class_without_a_kind_below_one_with_a_kind_is_refused(carafe_client: Client) -> None:
    words = r"Undeclared declares no kind of its own.*\('tests\.greet'\): class Undeclared\(Greet, kind=\.\.\.\)"
    with pytest.raises(InvalidOption, match=words):
        await carafe_client.enqueue(Undeclared(name="Ada", more=9))
    with pytest.raises(TypeError, match=words):
        handler(Undeclared)
    async with testing.manual(carafe_client) as jobs:
        for given in (Undeclared, Undeclared(name="Ada")):
            with pytest.raises(TypeError, match=words):
                jobs.assert_enqueued(given)
        with pytest.raises(TypeError, match=r"takes a job class .*\(got 'tests\.greet'\)"):
            jobs.assert_enqueued("tests.greet")  # type: ignore[arg-type]


T = TypeVar("T")


class General(Job, Generic[T], kind="tests.general"):
    """Generic in an argument: its parametrizations are the same kind."""

    item: T


def test_a_parametrized_class_is_its_origins_kind() -> None:
    assert dump(General[int](item=1)).json == '{"item":1}'
    assert General[int].job_options.kind == "tests.general"
