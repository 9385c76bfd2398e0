"""`carafe jobs …`, `queues` and `kinds`, as far as they need no worker."""

import re
import threading
from uuid import UUID, uuid4

import pytest

from carafe import State, SyncClient
from carafe.cli import jobs as commands_of_jobs
from carafe.store.filter_words import WORDS
from tests.cli.conftest import Command
from tests.cli.test_operating import query


@pytest.fixture
def job_id(carafe: Command) -> str:
    return carafe("enqueue", "cli.greet", "name=Ada").out.strip()


def test_a_job_is_listed_for_people_and_for_scripts(carafe: Command, job_id: str) -> None:
    heading, first, *_ = carafe("jobs", "list").out.splitlines()
    assert heading.split() == ["ID", "KIND", "STATE", "ATTEMPT", "CREATED", "ENDED", "WHAT"]
    assert first.split()[:4] == [job_id, "cli.greet", "queued", "0/4"]
    assert carafe("jobs", "list", "--json").json["jobs"][0]["id"] == job_id


def test_filters_and_pages(carafe: Command, job_id: str) -> None:
    later = carafe("enqueue", "cli.fail", "--delay", "1h").out.strip()

    def ids(*options: str) -> list[str]:
        return [job["id"] for job in carafe("jobs", "list", "--json", *options).json["jobs"]]

    assert ids("--state", "scheduled") == [later]
    assert set(ids("--state", "scheduled", "--state", "queued")) >= {later, job_id}
    assert ids("--kind", "cli.fail") == [later]
    assert ids("--state", "dead") == []
    assert job_id in ids("--since", "1h")
    assert ids("--since", "2100-01-01T00:00:00Z") == []
    assert ids("--id", later, "--id", job_id, "--arg", "name=Ada") == [job_id]
    assert ids("--until", "1h") == ids("--error-class", "Nothing") == ids("--text", "nothing") == ids("--resolved") == []
    page = carafe("jobs", "list", "--limit", "1", "--json").json
    assert [job["id"] for job in page["jobs"]] == [later]
    assert ids("--limit", "1", "--cursor", page["next_cursor"]) == [job_id]
    assert f"--cursor {page['next_cursor']}" in carafe("jobs", "list", "--limit", "1").err


@pytest.mark.parametrize(
    "options",
    [
        ["--state", "lost"],
        ["--limit", "0"],
        ["--limit", "501"],
        ["--limit", "many"],
        ["--cursor", "nonsense"],
        ["--since", "yesterday"],
        ["--since", "999999999d"],
        ["--arg", "name"],
        ["--worker", "w"],
        ["--id", "1"],
        ["--since", "1h", "--until", "2h"],
    ],
    ids=" ".join,
)
def test_bad_filters_are_code_2(carafe: Command, options: list[str]) -> None:
    answer = carafe("jobs", "list", *options)
    assert (answer.code, answer.out) == (2, "")
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("command", [["jobs", "list"], ["bulk", "start"]], ids=" ".join)
def test_every_word_of_a_filter_is_an_option_and_every_state_is_offered(carafe: Command, command: list[str]) -> None:
    text = carafe(*command, "--help").out
    for word in WORDS:
        assert f"--{word.name.replace('_', '-').removesuffix('s')}" in text
    assert all(state.value in text for state in State)


def test_show_tells_all_of_a_job(carafe: Command, job_id: str) -> None:
    shown = dict(line.split(maxsplit=1) for line in carafe("jobs", "show", job_id).out.splitlines())
    assert shown["id"] == job_id
    assert shown["state"] == "queued"
    assert shown["note"] == "No workers are alive: start one with `carafe serve --worker`."
    assert shown["attempt"] == "0 of 4, 5 min each"
    assert '"name":"Ada"' in shown["args"]


def test_a_terminal_is_not_steered_by_what_a_job_carries(carafe: Command, job_id: str, database_url: str) -> None:
    carafe("jobs", "cancel", job_id)
    query(database_url, "update carafe.jobs_ended set error = $2 where id = $1", UUID(job_id), "a\x1b[31mred\nnext")
    shown = carafe("jobs", "show", job_id).out
    assert "\x1b" not in shown + carafe("jobs", "list").out
    assert "a\\x1b[31mred⏎next" in shown


@pytest.mark.parametrize("command", ["show", "retry", "cancel", "wait"])
def test_a_job_that_is_not_there_is_code_3(carafe: Command, command: str) -> None:
    missing = str(uuid4())
    answer = carafe("jobs", command, missing)
    assert answer.code == 3
    assert answer.err.startswith(f"error: no job {missing}")
    assert carafe("jobs", command, "not-an-id").code == 2


def test_cancel_and_what_is_not_allowed_after_it(carafe: Command, job_id: str) -> None:
    assert carafe("jobs", "cancel", job_id, "--reason", "no longer wanted").out.split() == [job_id, "cancelled"]
    assert "no longer wanted" in carafe("jobs", "show", job_id).out
    for command in ("cancel", "retry"):
        answer = carafe("jobs", command, job_id)
        assert answer.code == 4
        assert "is cancelled: it cannot be" in answer.err
    ended = carafe("jobs", "wait", job_id)
    assert ended.code == 7
    assert "cancelled" in ended.out


def test_one_that_cannot_be_does_not_stop_the_others(carafe: Command, job_id: str) -> None:
    missing = str(uuid4())
    answer = carafe("jobs", "cancel", missing, job_id, "--json")
    assert answer.code == 3
    assert [(item["id"], item.get("state"), item.get("error", {}).get("code")) for item in answer.json] == [
        (missing, None, "job-not-found"),
        (job_id, "cancelled", None),
    ]


def test_every_refusal_is_printed_and_the_first_gives_the_code(carafe: Command, job_id: str) -> None:
    missing = [str(uuid4()), str(uuid4())]
    answer = carafe("jobs", "retry", missing[0], job_id, missing[1])
    assert answer.code == 3
    assert [line.split()[0] for line in answer.err.splitlines()] == ["error:"] * 3
    assert all(one in answer.err for one in (*missing, job_id))


def test_run_now_runs_a_scheduled_job_at_once(carafe: Command) -> None:
    job_id = carafe("enqueue", "cli.greet", "name=Ada", "--delay", "1h").out.strip()
    assert carafe("jobs", "run_now", job_id).out.split() == [job_id, "queued"]


def test_waiting_in_vain_is_code_8(carafe: Command, job_id: str) -> None:
    answer = carafe("jobs", "wait", job_id, "--timeout", "0.05")
    assert answer.code == 8
    assert "has not ended within 50 ms: No workers are alive" in answer.err


def test_queues_in_numbers(carafe: Command, job_id: str) -> None:
    queue = carafe("queues", "--json").json[0]
    assert queue["name"] == "default"
    assert queue["queued"] >= 1
    heading, line = carafe("queues").out.splitlines()
    assert heading.startswith("QUEUE")
    assert line.split()[:2] == ["default", str(queue["queued"])]


def test_kinds_need_no_server(carafe: Command) -> None:
    nowhere = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "REDIS_URL": "redis://127.0.0.1:1/0"}
    answer = carafe("kinds", **nowhere)
    assert answer.code == 0
    assert "name=string [count=integer]" in answer.out
    kinds = {kind["kind"]: kind for kind in carafe("kinds", "--json", **nowhere).json}
    assert kinds["cli.fail"]["max_retries"] == 0
    assert kinds["cli.greet"]["max_retries"] == 3
    assert kinds["cli.greet"]["schema"]["required"] == ["name"]


def test_a_paused_kind_is_told_by_every_command_that_queues_a_job_of_it(carafe: Command, job_id: str) -> None:
    later = carafe("enqueue", "cli.greet", "name=Ada", "--delay", "1h").out.strip()
    assert carafe("jobs", "run_now", later).err == ""
    later = carafe("enqueue", "cli.greet", "name=Ada", "--delay", "1h").out.strip()
    carafe("kinds", "pause", "cli.greet", "--reason", "phones are down")

    def remark(*arguments: str) -> str:
        answer = carafe(*arguments)
        assert answer.code == 0, answer.err
        lines = [line for line in answer.err.splitlines() if line.startswith("the kind 'cli.greet' is paused since ")]
        assert len(lines) == 1, answer.err
        return lines[0]

    said = remark("enqueue", "cli.greet", "name=Ada")
    assert said.endswith(": phones are down: its jobs start after `carafe kinds resume cli.greet`")
    assert remark("enqueue", "cli.greet", "name=Ada", "--json") == said
    assert remark("jobs", "run_now", later) == said
    assert remark("jobs", "edit", later, "name=Bob") == said
    carafe("enqueue", "cli.greet", "name=Ada", "--delay", "1h")
    assert remark("bulk", "start", "run_now", "--kind", "cli.greet") == said
    assert remark("bulk", "start", "run_now", "--all") == said
    assert "is paused" not in carafe("enqueue", "cli.fail").err
    assert "is paused" not in carafe("bulk", "start", "cancel", "--kind", "cli.greet").err
    waited = carafe("jobs", "wait", job_id, "--timeout", "0.01").err
    assert "has not ended within 10 ms: The kind 'cli.greet' is paused since " in waited

    queue = carafe("queues")
    assert queue.out.splitlines()[0].split()[:3] == ["QUEUE", "QUEUED", "HELD"]
    held = carafe("queues", "--json").json[0]["held"]
    assert held > 1
    assert f"{held} queued jobs belong to paused kinds; `carafe kinds paused` lists the kinds" in queue.err
    carafe("queues", "pause", "--reason", "a rest")
    assert "the queue is paused since " in carafe("enqueue", "cli.fail").err
    resumed = carafe("kinds", "resume", "cli.greet")
    assert (resumed.code, resumed.out) == (0, "cli.greet  resumed\n")
    assert resumed.err.startswith("warning: The queue is paused since ")
    assert resumed.err.endswith("(a rest): jobs of 'cli.greet' start when the queue is resumed.\n")
    assert carafe("queues", "resume").code == 0
    assert carafe("kinds", "resume", "cli.greet").err == ""


def test_why_a_job_waits_is_said_once_while_it_is_waited_for(
    carafe: Command, job_id: str, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def cancel() -> None:
        with SyncClient.connect(database_url=database_url, redis_url=redis_url) as client:
            client.cancel(UUID(job_id))

    def say(text: str) -> None:
        said.append(text)
        thread = threading.Thread(target=cancel)
        thread.start()
        thread.join()

    monkeypatch.setattr(commands_of_jobs, "PATIENCE", 0.01)
    monkeypatch.setattr(commands_of_jobs, "say", say)
    assert carafe("jobs", "wait", job_id).code == 7
    assert said == ["No workers are alive: start one with `carafe serve --worker`."]


def test_the_attempt_of_a_running_job_counts(carafe: Command, job_id: str, database_url: str) -> None:
    query(
        database_url,
        "update carafe.jobs set state = 'running', hinted_at = null, started_at = now(), fence = 1,"
        " worker = gen_random_uuid() where id = $1",
        job_id,
    )
    shown = carafe("jobs", "show", job_id).out
    assert re.search(r"^attempt +1 of 4,", shown, re.MULTILINE)
    assert re.search(r" running +1/4 ", carafe("jobs", "list", "--id", job_id).out)
    assert carafe("jobs", "show", job_id, "--json").json["attempt"] == 0
