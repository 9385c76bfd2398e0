"""Which failures belong to the same group."""

import pytest

from carafe.store.fingerprint import fingerprint, normalized


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("order 17 not found", "order 4711 not found"),
        ("took 1.5 s", "took 20 s"),
        ("no user 0190e6a0-0000-7000-8000-000000000001", "no user 0190E6A0-1111-7000-8000-0000000000ff"),
        ("10.0.0.1:5432 refused", "192.168.1.20:5432 refused"),
        ("<Thing object at 0x7f00aa>", "<Thing object at 0x55bb>"),
        ("bad key 'alpha'", "bad key 'beta'"),
        ('no "x"', 'no "y and z"'),
        ("first line\nand more", "first line\nand other"),
        ("commit 0123456789abcdef0123", "commit fedcba98765432100000"),
    ],
)
def test_what_varies_does_not_count(one: str, other: str) -> None:
    assert fingerprint("kind", "Error", one) == fingerprint("kind", "Error", other)


def test_kind_class_and_words_do() -> None:
    prints = {
        fingerprint("a", "Error", "refused"),
        fingerprint("b", "Error", "refused"),
        fingerprint("a", "Other", "refused"),
        fingerprint("a", "Error", "reset"),
    }

    assert len(prints) == 4
    assert all(value.startswith("v1:") and len(value) == 19 for value in prints)


def test_a_huge_message_is_cut() -> None:
    assert len(normalized("x " * 1_000_000)) == 300
    assert normalized("") == ""
