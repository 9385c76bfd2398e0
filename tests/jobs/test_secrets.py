"""The handler receives secrets unchanged, and no other reader sees them."""

import json

import pytest
from pydantic import BaseModel, Secret, SecretBytes, SecretStr

from carafe import Client, Context, InvalidArguments, Job, State, handler, testing
from carafe.jobs.definition import REDACTED, build
from tests.jobs.by_hand import row_of
from tests.jobs.kinds import Login

WORD = "hunter2"


class Inner(BaseModel):
    """Secrets below other things."""

    pin: Secret[int]
    key: SecretBytes


class Nested(Job, kind="tests.nested"):
    """Secrets everywhere."""

    inner: Inner
    by_name: dict[str, SecretStr]
    maybe: SecretStr | None = None
    pairs: tuple[tuple[str, SecretStr], ...] = ()


@handler(Nested)
async def nested(job: Nested, ctx: Context) -> str:
    """Shows that it has them."""
    by_name = {name: value.get_secret_value() for name, value in job.by_name.items()}
    pairs = [value.get_secret_value() for _, value in job.pairs]
    plain = [job.inner.pin.get_secret_value(), job.inner.key.get_secret_value().hex(), by_name, pairs, job.maybe]
    return json.dumps(plain)[::-1]


def job(user: str = "ada") -> Login:
    return Login(user=user, password=SecretStr(WORD), tokens=(SecretStr(WORD), SecretStr(WORD)))


async def test_the_handler_gets_it_whole(carafe_client: Client) -> None:
    async with testing.inline(carafe_client):
        accepted = await carafe_client.enqueue(job())

    assert (await carafe_client.get(accepted.id)).result == len(WORD)


async def test_readers_get_it_redacted(carafe_client: Client) -> None:
    accepted = await carafe_client.enqueue(job())

    record = await carafe_client.get(accepted.id)
    assert record.args == {"user": "ada", "password": REDACTED, "tokens": [REDACTED, REDACTED]}
    [found] = (await carafe_client.find(kind="tests.login")).jobs
    assert found.args == record.args
    assert WORD not in f"{record!r} {found!r} {accepted!r} {job()!r}"


async def test_neither_errors_nor_logs_nor_attempts_repeat_it(
    carafe_client: Client, capfd: pytest.CaptureFixture[str]
) -> None:
    async with testing.inline(carafe_client):
        accepted = await carafe_client.enqueue(job(user="nobody"))

    record = await carafe_client.get(accepted.id)
    assert record.state is State.DEAD
    assert "may not log in" in str(record.error)
    [attempt] = record.attempts
    assert WORD not in f"{record!r} {attempt.traceback}"
    output = "".join(capfd.readouterr())
    assert "job failed" in output
    assert WORD not in output
    row = await row_of(carafe_client.database, accepted.id)
    assert WORD in row["args"]  # a retry needs it
    assert WORD not in repr({name: value for name, value in row.items() if name != "args"})


def test_a_fault_names_the_argument_and_not_its_value() -> None:
    with pytest.raises(InvalidArguments) as raised:
        build("tests.login", {"user": "ada", "password": {"word": WORD}})

    assert "password: Input should be a valid string" in str(raised.value)
    assert WORD not in str(raised.value)


async def test_secrets_of_every_kind_at_any_depth_arrive(carafe_client: Client) -> None:
    arguments = Nested(
        inner=Inner(pin=Secret(4711), key=SecretBytes("kéy".encode())),
        by_name={"a/b~c": SecretStr(WORD), "": SecretStr("empty name")},
        pairs=(("x", SecretStr(WORD)),),
    )
    async with testing.inline(carafe_client):
        accepted = await carafe_client.enqueue(arguments)

    record = await carafe_client.get(accepted.id)
    assert record.error is None
    expected = [4711, "kéy".encode().hex(), {"a/b~c": WORD, "": "empty name"}, [WORD], None]
    assert json.loads(record.result[::-1]) == expected
    assert record.args == {
        "inner": {"pin": REDACTED, "key": REDACTED},
        "by_name": {"a/b~c": REDACTED, "": REDACTED},
        "maybe": None,
        "pairs": [["x", REDACTED]],
    }
