"""Files that are read by their names in a folder: a pipe, a device or a huge file of that name is a fault in words."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from carafe.named_files import LARGEST, read_named
from carafe.settings.local_servers import SERVERS_FILE, announced
from carafe.settings.settings import Settings, SettingsError, load_settings

Spoil = Callable[[Path], None]


def huge(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(LARGEST + 1)


SPOILT: dict[str, Spoil] = {
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "huge": huge,
}


@pytest.mark.parametrize("name", ["pyproject.toml", "env.local"])
@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_file_of_settings_that_is_none_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, spoil: Spoil
) -> None:
    monkeypatch.chdir(tmp_path)
    for setting in Settings.model_fields:
        monkeypatch.delenv(setting.upper(), raising=False)
    spoil(tmp_path / name)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert f"{name}: cannot be read: it must be a regular file of at most 1 MiB" in str(refused.value)


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_addresses_of_servers_that_are_no_file_are_none(tmp_path: Path, spoil: Spoil) -> None:
    spoil(tmp_path / SERVERS_FILE)
    assert announced(tmp_path) is None


def test_a_file_of_the_largest_size_is_read(tmp_path: Path) -> None:
    file = tmp_path / "whole"
    file.write_text("x" * LARGEST)
    assert read_named(file) == "x" * LARGEST


def test_a_table_that_is_nested_too_deep_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pyproject.toml").write_text("[tool.carafe]\njob_modules = " + "[" * 100_000)
    with pytest.raises(SettingsError, match=r"pyproject.toml: cannot be read: "):
        load_settings()
