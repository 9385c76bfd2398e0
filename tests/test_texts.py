"""Every object can be turned into text, whatever its own methods do."""

import time
from typing import Any

import pytest

from carafe.texts import MAX_ERROR, MAX_TRACEBACK, class_name, clean, describe, in_words, reason_of, shown, text_of
from tests.engine.hostile_handlers import ACTS, HostileText, Liar, NoModule, NoText


@pytest.mark.parametrize("what", ACTS)
def test_every_hostile_exception_is_described_within_its_limits(what: str) -> None:
    if not what.startswith(("raises", "recurses")):
        pytest.skip("raises nothing")
    began = time.monotonic()
    with pytest.raises(BaseException) as raised:  # noqa: PT011
        ACTS[what].run()
    name, message, traceback = describe(raised.value)
    for text, limit in ((name, 500), (message, MAX_ERROR), (traceback, MAX_TRACEBACK)):
        assert type(text) is str
        assert len(text) <= limit
        assert "\0" not in text
        text.encode()
    # A deadline, not a measure: a group of millions took minutes.
    assert time.monotonic() - began < 30


def test_a_traceback_shows_what_an_error_came_from_as_python_does() -> None:
    try:
        try:
            raise LookupError("first")
        except LookupError as error:
            raise ValueError("second") from error
    except ValueError as error:
        traceback = describe(error)[2]
    first, second = traceback.split("\nThe above exception was the direct cause of the following exception:\n\n")
    assert first.endswith("LookupError: first\n")
    assert second.endswith("ValueError: second\n")
    assert "test_texts.py" in first


def test_names_and_texts_are_by_the_true_type() -> None:
    assert class_name(Liar("x")) == "tests.engine.hostile_handlers.Liar"
    assert class_name(NoModule("x")) == "NoModule"
    assert text_of(HostileText("sly")) == "sly"
    assert type(text_of(HostileText("sly"))) is str
    assert in_words(ValueError()) == "ValueError"
    assert "whose text cannot be made" in in_words(NoText())


class _Refuses:
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("why", "'why'"),
        (5, "5"),
        (None, "None"),
        ("x" * 1_000, "'" + "x" * 99 + "…"),
        (b"x" * 1_000, "b'" + "x" * 98 + "…"),
        (int, "the class int"),
        (len, "the function len"),
        ([], "an object of list"),
        (_Refuses(), "an object of _Refuses"),
        (10**5_000, "an object of int"),  # Python refuses to write this many digits
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_value_is_shown(value: Any, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("why", "why"),
        (None, "no reason given"),
        ("", "no reason given"),
        (5, "5"),
        (b"\xffx", "\ufffdx"),
        (ValueError("boom"), "ValueError: boom"),
    ],
)
def test_a_reason_is_text_whatever_is_given(reason: Any, text: str) -> None:
    assert reason_of(reason) == text


def test_a_text_is_what_postgres_can_store() -> None:
    assert clean("a\0b\ud800", 100) == "a\\0b\\ud800"
    assert clean("x" * 11, 10) == "x" * 9 + "…"
