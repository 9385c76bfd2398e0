"""What the shell offers at Tab: kinds, states, ids; nothing, and silently, where nobody can be asked."""

import os
import shlex
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from carafe.cli import completing
from carafe.cli.commands import app
from tests.cli.conftest import Answer, Command, application, process
from tests.cli.test_operating import query
from tests.test_embedded_access import STRANGER

pytestmark = pytest.mark.process

NOWHERE = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "REDIS_URL": "redis://127.0.0.1:1/0"}
Tab = Callable[..., Answer]


@pytest.fixture
def tab(database_url: str, redis_url: str, tmp_path: Path) -> Tab:
    """What bash is offered after these words, the last of which is being typed."""

    def ask(*words: str, **environment: str) -> Answer:
        settings = application(database_url, redis_url) | environment
        typed = {
            "COMP_WORDS": shlex.join(["carafe", *words]),
            "COMP_CWORD": str(len(words)),
            "_CARAFE_COMPLETE": "complete_bash",
        }
        return process(folder=tmp_path, **settings, **typed)

    return ask


def offered(answer: Answer) -> list[str]:
    assert (answer.code, answer.err) == (0, "")
    return answer.out.split()


def test_kinds(tab: Tab) -> None:
    assert offered(tab("enqueue", "cli.")) == ["cli.fail", "cli.greet", "cli.hold"]
    assert offered(tab("jobs", "list", "--kind", "cli.g")) == ["cli.greet"]


def test_kinds_without_a_server(tab: Tab) -> None:
    assert offered(tab("enqueue", "cli.g", **NOWHERE)) == ["cli.greet"]


def test_states_and_actions(tab: Tab) -> None:
    assert sorted(offered(tab("jobs", "list", "--state", "s"))) == ["scheduled", "succeeded"]
    assert offered(tab("bulk", "start", "r")) == ["retry", "run_now"]


def test_ids_that_the_command_is_for(tab: Tab, carafe: Command) -> None:
    queued = carafe("enqueue", "cli.greet", "name=Ada").out.strip()
    later = carafe("enqueue", "cli.greet", "name=Ada", "--delay", "1h").out.strip()
    assert set(offered(tab("jobs", "show", queued[:4]))) >= {queued, later}
    assert offered(tab("jobs", "run_now", "")) == [later]
    assert offered(tab("jobs", "retry", "")) == []
    assert offered(tab("jobs", "show", queued)) == [queued]
    assert later in offered(tab("jobs", "list", "--id", ""))
    bulk = carafe("bulk", "start", "cancel", "--id", queued).out.strip()
    assert offered(tab("bulk", "show", "")) == [bulk]


@pytest.mark.parametrize("words", [("jobs", "show", ""), ("workers", "drain", ""), ("bulk", "show", "")], ids=" ".join)
def test_nothing_is_said_where_the_server_is_away(tab: Tab, words: tuple[str, ...]) -> None:
    assert offered(tab(*words, **NOWHERE)) == []
    assert offered(tab(*words, DATABASE_URL="not a url")) == []


def test_nothing_is_said_by_a_module_that_cannot_be_imported(tab: Tab, tmp_path: Path) -> None:
    (tmp_path / "noisy.py").write_text("print('noise')\nraise SystemExit(3)")
    assert offered(tab("enqueue", "", JOB_MODULES="noisy")) == []


def test_nothing_is_read_in_a_folder_that_others_can_write_to(tab: Tab, tmp_path: Path) -> None:
    (tmp_path / "trap.py").write_text("open('ran', 'w').close()")
    project = tmp_path / "pyproject.toml"
    project.write_text('[tool.carafe]\njob_modules = ["trap"]\n')

    def runs() -> bool:
        offered(tab("enqueue", "", JOB_MODULES=""))
        offered(tab("jobs", "show", "", SETTINGS_CLASS="trap"))
        ran = (tmp_path / "ran").exists()
        (tmp_path / "ran").unlink(missing_ok=True)
        return ran

    assert runs()
    for place in (tmp_path, project):
        mode = place.stat().st_mode
        place.chmod(mode | stat.S_IWOTH)
        assert not runs()
        place.chmod(mode)
        if os.geteuid() == 0:
            os.chown(place, STRANGER, -1)
            assert not runs()
            os.chown(place, 0, -1)
    assert runs()


def test_the_shell_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completing, "SECONDS", 0.01)
    forever = threading.Event()

    def ask() -> list[completing.Offer]:
        forever.wait()
        return [("late", "")]

    assert completing._within(ask) == []
    forever.set()


def every(command: Any, path: str = "carafe") -> Iterator[tuple[str, Any]]:
    """Every argument and option of every command, with a name for the message."""
    for parameter in command.params:
        yield f"{path} {parameter.name}", parameter
    for name, below in getattr(command, "commands", {}).items():
        yield from every(below, f"{path} {name}")


def test_every_kind_state_and_id_has_an_offer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Callable[[], list[completing.Offer]]] = []

    def within(ask: Callable[[], list[completing.Offer]]) -> list[completing.Offer]:
        asked.append(ask)
        return []

    monkeypatch.setattr(completing, "_within", within)
    without: list[str] = []
    seen: set[str] = set()
    for name, parameter in every(typer.main.get_command(app)):
        words = {"kind", "state", "id", "ids", "action"} & set(parameter.name.split("_"))
        seen |= words
        before = len(asked)
        if words and not parameter.shell_complete(None, "") and len(asked) == before:
            without.append(name)
    assert without == []
    assert seen == {"kind", "state", "id", "ids", "action"}


def test_kinds_that_are_paused_and_jobs_that_run(tab: Tab, carafe: Command, database_url: str) -> None:
    assert offered(tab("kinds", "pause", "cli.")) == ["cli.fail", "cli.greet", "cli.hold"]
    assert offered(tab("kinds", "resume", "")) == []
    assert carafe("kinds", "pause", "cli.greet").code == 0
    assert offered(tab("kinds", "resume", "cli.")) == ["cli.greet"]
    assert carafe("kinds", "resume", "cli.greet").code == 0
    waiting = carafe("enqueue", "cli.greet", "name=Ada").out.strip()
    assert waiting not in offered(tab("jobs", "stack", ""))
    query(
        database_url,
        "update carafe.jobs set state = 'running', hinted_at = null, started_at = now(), fence = 1,"
        " worker = gen_random_uuid() where id = $1",
        waiting,
    )
    assert offered(tab("jobs", "stack", "")) == [waiting]


def test_words_of_rows_hold_nothing_that_a_shell_would_run() -> None:
    offers = [("a", "x$(touch /tmp/y)`z`'\";\n kind.a@1 dead")]
    assert completing._begun("a", offers) == [("a", "xtouch tmpyz kind.a@1 dead")]
