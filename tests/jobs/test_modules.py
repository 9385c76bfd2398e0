"""A module that a setting names and that cannot be imported: the error says where."""

from pathlib import Path

import pytest

from carafe.jobs.modules import ModuleNotUsable, load_jobs


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a module `faulty`, and of one that imports it."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "importing.py").write_text("\nimport faulty\n")
    return tmp_path / "faulty.py"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = 1\nb = c\n", r"NameError: name 'c' is not defined \({file}, line 2\)$"),
        ("import nowhere_at_all\n", r"ModuleNotFoundError: No module named 'nowhere_at_all' \({file}, line 1\)$"),
        ("def (", r"SyntaxError: .*\(faulty\.py, line 1\)$"),
    ],
)
@pytest.mark.parametrize("name", ["faulty", "importing"])
def test_the_error_says_in_which_line(module: Path, name: str, text: str, said: str) -> None:
    module.write_text(text)
    with pytest.raises(ModuleNotUsable, match=rf"^JOB_MODULES: '{name}' cannot be imported: " + said.format(file=module)):
        load_jobs([name])


def test_a_module_that_is_not_there_has_no_line() -> None:
    with pytest.raises(ModuleNotUsable, match=r"No module named 'nowhere_at_all'$"):
        load_jobs(["nowhere_at_all"])
