"""Arguments: what can be stored, what cannot, and jobs that outlive a change of their class."""

import json
import math
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest
from pydantic import AliasChoices, Base64Bytes, BaseModel, Field, SecretBytes, SecretStr, ValidationError

from carafe import testing
from carafe.engine.results import ResultNotUsable, encode_result
from carafe.jobs import Client, Context, InvalidArguments, Job, State, UnknownKind, handler
from carafe.jobs.definition import build, dump, load
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
