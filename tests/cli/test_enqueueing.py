"""`carafe enqueue` turns words into arguments. Faults are reported with their paths, and then nothing is stored."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from tests.cli.conftest import Answer, Command

REFERENCE = "0190a0a0-0000-7000-8000-000000000000"


def show(carafe: Command, answer: Answer) -> dict[str, object]:
    assert answer.code == 0, answer.err
    shown: dict[str, object] = carafe("jobs", "show", answer.out.strip(), "--json").json
    return shown


def count(carafe: Command) -> int:
    return len(carafe("jobs", "list", "--limit", "500", "--json").json["jobs"])


def test_the_id_is_all_that_is_printed(carafe: Command) -> None:
    answer = carafe("enqueue", "cli.greet", "name=Ada")
    assert answer.code == 0
    assert answer.out.strip() == show(carafe, answer)["id"]
    assert answer.err == ""


def test_values_are_text_where_the_job_takes_text_and_json_elsewhere(carafe: Command) -> None:
    job = show(
        carafe,
        carafe("enqueue", "cli.greet", "name=5", "count=3", 'tags=["a","b=c"]', f"reference={REFERENCE}", "style=1"),
    )
    assert job["args"] == {
        "name": "5",
        "count": 3,
        "tags": ["a", "b=c"],
        "reference": REFERENCE,
        "password": None,
        "style": "1",
    }


def test_words_lie_over_the_json_object(carafe: Command) -> None:
    answer = carafe("enqueue", "cli.greet", "name=Grace", "--json-args", '{"name": "Ada", "count": 7}')
    args = show(carafe, answer)["args"]
    assert isinstance(args, dict)
    assert (args["name"], args["count"]) == ("Grace", 7)


def test_secrets_are_redacted_wherever_a_job_is_shown(carafe: Command) -> None:
    answer = carafe("enqueue", "cli.greet", "name=Ada", "password=hunter2")
    shown = carafe("jobs", "show", answer.out.strip())
    assert "hunter2" not in shown.out + carafe("jobs", "list", "--json").out
    assert '"password":"**********"' in shown.out


def test_json_says_what_the_client_says(carafe: Command) -> None:
    answer = carafe("enqueue", "cli.greet", "name=Ada", "--delay", "5m", "--json")
    assert {name: answer.json[name] for name in ("kind", "state", "existing")} == {
        "kind": "cli.greet",
        "state": "scheduled",
        "existing": False,
    }


def test_a_time_schedules_the_job(carafe: Command) -> None:
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    elsewhere = later.astimezone(timezone(timedelta(hours=5, minutes=30)))
    job = show(carafe, carafe("enqueue", "cli.greet", "name=Ada", "--run-at", elsewhere.isoformat()))
    assert (job["state"], datetime.fromisoformat(str(job["due_at"]))) == ("scheduled", later)


def test_a_unique_key_returns_the_job_that_holds_it(carafe: Command) -> None:
    first = carafe("enqueue", "cli.greet", "name=Ada", "--unique-key", "only")
    second = carafe("enqueue", "cli.greet", "name=Ada", "--unique-key", "only")
    assert (second.code, second.out) == (0, first.out)
    assert "already holds the unique key 'only'" in second.err


def test_an_idempotency_key_makes_one_job_of_two_requests(carafe: Command) -> None:
    first = carafe("enqueue", "cli.greet", "name=Ada", "--idempotency-key", "once")
    second = carafe("enqueue", "cli.greet", "name=Ada", "--idempotency-key", "once")
    assert (second.code, second.out) == (0, first.out)
    assert "was used before" in second.err
    other = carafe("enqueue", "cli.greet", "name=Grace", "--idempotency-key", "once")
    assert other.code == 4
    assert "another body" in other.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["cli.nope"], ["unknown kind 'cli.nope'", "cli.greet"]),
        (["cli.greet"], ["name: Field required"]),
        (["cli.greet", "name=Ada", "count=many", "nmae=x"], ["count: Input should be", "nmae: Extra inputs"]),
        (["cli.greet", "Ada"], ["name=value", "'Ada'"]),
        (["cli.greet", "name=Ada", "name=Eve"], ["'name' is given twice"]),
        (["cli.greet", "--json-args", "{"], ["--json-args is not JSON"]),
        (["cli.greet", "--json-args", "[1]"], ["must be a JSON object"]),
        (["cli.greet", "--json-args", "[1]", "name=Ada"], ["must be a JSON object"]),
        (["cli.greet", "name=Ada", "--run-at", "tomorrow"], ["--run-at takes a time with its zone"]),
        (["cli.greet", "name=Ada", "--run-at", "2100-01-31T12:00:00"], ["--run-at takes a time with its zone"]),
        (["cli.greet", "name=Ada", "--delay", "soon"], ["--delay takes seconds"]),
        (["cli.greet", "name=Ada", "--delay", "nan"], ["--delay takes seconds"]),
        (["cli.greet", "name=Ada", "--delay", "5m", "--run-at", "2100-01-01T00:00:00Z"], ["not both"]),
        (["cli.greet", "name=Ada", "--unique-key", ""], ["unique_key"]),
        (["cli.greet", "name=" + "x" * 300_000], ["JOB_ARGS_LIMIT"]),
    ],
    ids=lambda value: " ".join(value)[:60],
)
def test_bad_input_is_told_and_nothing_is_stored(carafe: Command, arguments: list[str], told: list[str]) -> None:
    before = count(carafe)
    answer = carafe("enqueue", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: ")
    for words in told:
        assert words in answer.err
    assert "Traceback" not in answer.err
    assert count(carafe) == before


def test_a_value_is_never_repeated_where_it_may_be_secret(carafe: Command) -> None:
    answer = carafe("enqueue", "cli.greet", "count=hunter2")
    assert answer.code == 2
    assert "hunter2" not in answer.err


def test_redis_being_away_costs_no_job(carafe: Command) -> None:
    answer = carafe("enqueue", "cli.greet", "name=Ada", REDIS_URL="redis://127.0.0.1:1/0")
    assert show(carafe, answer)["state"] == "queued"
    assert "the steward will push them" in answer.err


def test_postgres_being_away_is_code_5(carafe: Command) -> None:
    answer = carafe("enqueue", "cli.greet", "name=Ada", DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    assert (answer.code, answer.out) == (5, "")
    assert "nothing was changed" in answer.err
