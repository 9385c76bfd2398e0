"""The word list of `make lint` (.ci/words.py) finds a phrase wherever a line ends in it."""

import importlib.util
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("words", Path(__file__).parent.parent / ".ci" / "words.py")
assert _spec is not None
assert _spec.loader is not None
words = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(words)


# In pieces, since the same list is read over this file.
PHRASE = "is" + " no "


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["a function that is", "no generator"], [(1, PHRASE)]),
        (["    # a function that is", "    # no generator"], [(1, PHRASE)]),
        (["a table that is", "-- no view"], [(1, PHRASE)]),
        (["where there", f"    {PHRASE}generator"], []),
        (["a function", "that is not a generator"], []),
    ],
)
def test_a_phrase_is_found_across_the_end_of_a_line(lines: list[str], found: list[tuple[int, str]]) -> None:
    assert [(number, phrase) for number, phrase, _ in words.phrases(lines, words.rules())] == found
