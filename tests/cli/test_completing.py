"""What the shell offers at Tab: kinds, states, ids; nothing, and silently, where nobody can be asked."""

import os
import shlex
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from carafe.cli import completing
from tests.cli.conftest import Answer, Command, application, process
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


def test_words_of_rows_hold_nothing_that_a_shell_would_run() -> None:
    offers = [("a", "x$(touch /tmp/y)`z`'\";\n kind.a@1 dead")]
    assert completing._begun("a", offers) == [("a", "xtouch tmpyz kind.a@1 dead")]
