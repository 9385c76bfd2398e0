"""Nothing that an attempt stores or logs contains the values of secret fields, however the attempt ends and wherever it
runs."""

import random
from functools import partial
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from carafe import Client, State
from carafe.jobs.hiding import SHORTEST, Hiding, overlap
from carafe.jobs.records import JobRecord
from carafe.jobs.secret_fields import REDACTED
from carafe.settings.settings import Settings
from carafe.store.job_logs import read
from tests.engine.conftest import ClientWith
from tests.engine.hiding_jobs import FORBIDDEN, AsyncLetting, Letting, Login, ProcessLetting, ThreadLetting
from tests.engine.worker_process import WorkerProcess
from tests.waiting import eventually

PASSWORD = 'sésame-"quoted"-\\back'
KEY = "open-sesame-42"
SECRETS = (PASSWORD, KEY, FORBIDDEN, "sesame", "quoted")

MODES: dict[str, type[Letting]] = {"async": AsyncLetting, "thread": ThreadLetting, "process": ProcessLetting}


def test_a_value_is_replaced_however_it_is_written() -> None:
    hiding = Hiding.of([PASSWORD, "short", b"\xff\x00bytes-of-it", 123_456_789, {"inner": ["deep-inside"]}, "a b/c d/e"])
    assert hiding is not None
    for written in (
        PASSWORD,
        repr(PASSWORD),
        orjson.dumps(PASSWORD).decode(),
        repr(b"\xff\x00bytes-of-it"),
        "deep-inside",
        "123456789",
        "https://user:s%C3%A9same-%22quoted%22-%5Cback@host",
        *("a%20b%2Fc%20d%2Fe", "a%20b/c%20d/e", "a+b%2Fc+d%2Fe"),
    ):
        hidden = hiding.text(f"before {written} after")
        assert REDACTED in hidden, written
        assert hidden.startswith("before ")
        assert hidden.endswith(" after")
        assert "sesame" not in hidden
    assert hiding.text("short texts stay") == "short texts stay"
    assert hiding.text("cut within deep-in…") == f"cut within {REDACTED}…"
    assert hiding.text("nside, and its end") == "nside, and its end"
    assert hiding.text("inside, and its end") == f"{REDACTED}, and its end"


def test_the_keys_of_a_secret_dictionary_are_secret_unless_they_are_names() -> None:
    names = {"password": "one-of-them", "Content-Type": "another-one", "AWS_ACCESS_KEY_ID": "and-another"}
    keys = {"KeySecret77": 1, "ann@example.org": 2, 7_654_321: 3, ("inside-a", b"tuple-of-keys"): 4, "x" * 33: 5}
    hiding = Hiding.of([names | keys])
    assert hiding is not None
    assert hiding.text(" ".join(names)) == " ".join(names)
    for text in ("KeySecret77", "ann@example.org", "7654321", "inside-a", "tuple-of-keys", "x" * 33, *names.values()):
        assert hiding.text(f"with {text}.") == f"with {REDACTED}."


def test_json_stays_json() -> None:
    hiding = Hiding.of([123_456_789, PASSWORD])
    assert hiding is not None
    given = orjson.dumps({"number": 123_456_789, "at": 0.1234567891, PASSWORD: [PASSWORD, f"a{PASSWORD}b", None, True]})
    assert orjson.loads(hiding.json(given.decode())) == {
        "number": REDACTED,
        "at": 0.1234567891,
        REDACTED: [REDACTED, f"a{REDACTED}b", None, True],
    }
    assert hiding.json('{"a": 1}') == '{"a": 1}'


def test_what_cannot_be_looked_through_is_left_out() -> None:
    class Hostile:
        def __repr__(self) -> str:
            raise LookupError("no")

    hiding = Hiding.of([KEY])
    assert hiding is not None
    endless: list[Any] = []
    endless.append(endless)
    assert hiding.value(Hostile()) == REDACTED
    assert hiding.value(endless) == REDACTED


class Counted(str):
    """A text that counts how often one of its characters is looked at."""

    __slots__ = ()
    looks = 0

    def __getitem__(self, key: Any) -> str:
        Counted.looks += 1
        return super().__getitem__(key)


@pytest.mark.parametrize("length", [100, 10_000])
def test_a_cut_value_is_found_in_steps_that_grow_with_the_lengths_alone(length: int) -> None:
    form, tail = Counted("ab" * length + "c"), "ab" * (length // 2) + "b" + "ab" * length
    Counted.looks = 0
    assert overlap(form, tail) == 2 * length
    assert Counted.looks < 5 * (len(form) + len(tail))


def test_a_cut_value_is_found_as_by_trying_every_length() -> None:
    lots = random.Random(13)
    for _ in range(2_000):
        form, tail = ("".join(lots.choices("ab", k=lots.randint(SHORTEST, 14))) for _ in range(2))
        tried = [n for n in range(SHORTEST, len(form) + 1) if tail.endswith(form[:n])]
        assert overlap(form, tail) == max(tried, default=0), (form, tail)


def test_a_huge_text_with_many_values_is_looked_through_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []

    def counted(form: str, tail: str) -> int:
        looked_at.append(len(form) + len(tail))
        return overlap(form, tail)

    monkeypatch.setattr("carafe.jobs.hiding.overlap", counted)
    secret = "ab" * 20_000
    hiding = Hiding.of([secret])
    assert hiding is not None
    text = f"{secret}, " * 50
    assert hiding.text(f"{text}{secret[:-1]}…") == f"{REDACTED}, " * 50 + f"{REDACTED}…"
    assert sum(looked_at) < 5 * len(text)
    assert len(looked_at) <= 2 * len(hiding._all_forms())


def test_a_secret_of_any_kind_has_texts() -> None:
    class Hostile:
        __slots__ = ()

        def __str__(self) -> str:
            raise LookupError("no")

    class Endless:
        def __init__(self) -> None:
            self.own, self.word = self, KEY

    hiding = Hiding.of([Hostile(), Endless()])
    assert hiding is not None
    assert hiding.text(f"with {KEY}") == f"with {REDACTED}"


@pytest.fixture(scope="module")
def worker_settings() -> dict[str, str]:
    return {
        "JOB_MODULES": "tests.engine.hiding_jobs",
        "HANDLER_MODULES": "tests.engine.hiding_handlers",
        "REFUSE_SECRETS": "1",
        # Web's own, which a worker does not read.
        **dict.fromkeys(WEBS, ""),
        "PASSWORD_OF_THE_APPLICATION": "its own",
    }


WEBS = ("API_TOKENS", "DASHBOARD_USERS", "DASHBOARD_SECRET_KEYS")
"""Secrets of the web process alone."""

KEPT = {
    "DATABASE_URL",
    "REDIS_URL",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "TRACE_URL_TEMPLATE",
}
"""Settings with a secret in them that handlers may need (they enqueue, open sessions, call webhooks, send spans), or that
anyone who reads a page knows."""


def test_every_secret_setting_is_withheld_from_child_processes_or_known_to_be_needed() -> None:
    secret = {
        name.upper()
        for name, field in Settings.model_fields.items()
        if any(word in str(field.annotation) for word in ("Secret", "Token", "DashboardUser"))
    }
    assert secret == KEPT | set(WEBS)


@pytest.mark.process
async def test_a_child_process_does_not_get_the_web_processs_secrets(worker: WorkerProcess, client: Client) -> None:
    threads, children = [
        await client.wait((await client.enqueue(letting(mode, "environment"))).id, timeout=40)
        for mode in ("thread", "process")
    ]
    assert {"DATABASE_URL", "REDIS_URL", "PASSWORD_OF_THE_APPLICATION"} <= set(children.result)
    assert not set(WEBS) & set(children.result)
    assert set(WEBS) <= set(threads.result)


def letting(mode: str, how: str, key: str = KEY) -> Letting:
    return MODES[mode](how=how, logins=[Login(name="ann", password=SecretStr(PASSWORD))], key=SecretStr(key))


async def stored(database: Any, job_id: Any) -> str:
    """Everything that Postgres keeps of a job but its arguments."""
    rows = [
        *await database.fetch("select to_jsonb(j) - 'args' as row from carafe.jobs j where id = $1", job_id),
        *await database.fetch("select to_jsonb(j) - 'args' as row from carafe.jobs_ended j where id = $1", job_id),
        *await database.fetch("select to_jsonb(a) as row from carafe.attempts a where job_id = $1", job_id),
    ]
    return "\n".join(str(row["row"]) for row in rows)


HOW: dict[str, State] = {
    "error": State.DEAD,
    "logged error": State.SUCCEEDED,
    "class": State.DEAD,
    "retry": State.DEAD,
    "discard": State.DEAD,
    "cancel": State.CANCELLED,
    "cut": State.DEAD,
    "result": State.SUCCEEDED,
    "threads": State.SUCCEEDED,
    "names": State.SUCCEEDED,
}


@pytest.mark.process
@pytest.mark.parametrize("mode", MODES)
async def test_nothing_that_an_attempt_leaves_shows_a_secret(
    mode: str, worker: WorkerProcess, client_with: ClientWith, client: Client, database: Any
) -> None:
    once = client_with(max_retries=0)
    jobs = {how: await once.enqueue(letting(mode, how)) for how in HOW}
    records: dict[str, JobRecord] = {how: await client.wait(job.id, timeout=40) for how, job in jobs.items()}

    assert {how: record.state for how, record in records.items()} == HOW
    assert records["result"].result == {"key": REDACTED, REDACTED: 1, "text": f"{{{REDACTED}}}", "number": 42}
    assert records["error"].error == f"{{'key': '{REDACTED}', 'password': '{REDACTED}'}}"
    assert records["class"].error_class == f"{REDACTED}.Refused_{REDACTED}"
    assert records["cut"].error is not None
    assert KEY[:6] not in records["cut"].error
    assert records["cut"].error.endswith("*…")
    for how, job in jobs.items():
        lines = await logged(client, job.id)
        assert [line for line in lines if line.startswith(f"plain as ann with '{REDACTED}' and {REDACTED}")], lines
        everything = "\n".join([*lines, await stored(database, job.id), repr(records[how])])
        assert not [secret for secret in SECRETS if secret in everything], (how, everything)
    await eventually(lambda: len(worker.events("structured")) > 0)
    hidden = f"as ann with '{REDACTED}' and {REDACTED}"
    for where in ("a pool", "a thread"):
        await eventually(partial(worker.events, f"from {where} {hidden}"))
    await eventually(
        lambda: any(line.get(REDACTED) == REDACTED and f"of {REDACTED}" in line for line in worker.events("names"))
    )
    if mode == "async":
        assert {f"from an executor {REDACTED}", f"from its own executor {REDACTED}"} <= set(
            await logged(client, jobs["threads"].id)
        )
    assert not [secret for secret in SECRETS if secret in worker.log], worker.log


PROTOCOL = {
    "result": "result",
    "completed": "result",
    "outcome": "discard",
    "reason": "cancel",
    "discard": "discard",
    "cancel": "cancel",
    "warning": "error",
}
"""Words by which a child process and its worker understand each other, and an end that says them."""


@pytest.mark.process
async def test_a_secret_that_is_a_word_of_ours_costs_no_job_its_end(
    worker: WorkerProcess, client_with: ClientWith, client: Client
) -> None:
    once = client_with(max_retries=0)
    jobs = {word: await once.enqueue(letting("process", how, key=word)) for word, how in PROTOCOL.items()}
    for word, how in PROTOCOL.items():
        record = await client.wait(jobs[word].id, timeout=60)
        assert record.state is HOW[how], (word, record)
        said = str(record.result) if how == "result" else str(record.error)
        assert REDACTED in said, (word, record)
        assert "died" not in said
        assert "exited" not in said


async def logged(client: Client, job_id: Any) -> list[str]:
    """What is kept of what the job has logged, once there is something."""
    lines: list[str] = []

    async def written() -> bool:
        async with client.database.connection() as connection:
            lines[:] = [line.text for line in await read(connection, job_id)]
        return len(lines) >= 2

    await eventually(written)
    return lines


@pytest.mark.process
async def test_progress_and_a_result_in_a_transaction(worker: WorkerProcess, client: Client, database: Any) -> None:
    done = await client.enqueue(letting("async", "transaction"))
    assert (await client.wait(done.id, timeout=20)).result == {"key": REDACTED}

    running = await client.enqueue(letting("async", "progress"))

    async def noted() -> bool:
        record = await client.get(running.id)
        return record.progress_note == f"with {REDACTED}"

    await eventually(noted)
    await client.cancel(running.id)
    await client.wait(running.id, timeout=20)
    assert not [secret for secret in SECRETS if secret in worker.log]


@pytest.mark.process
@pytest.mark.parametrize("mode", MODES)
async def test_a_validator_that_names_the_value(mode: str, worker: WorkerProcess, client: Client) -> None:
    job = await client.enqueue(letting(mode, "error", key=FORBIDDEN))
    record = await client.wait(job.id, timeout=20)
    assert record.state is State.DEAD
    assert record.error is not None
    assert f"{REDACTED} is not allowed" in record.error
    assert FORBIDDEN not in worker.log
