"""The form for a job's arguments: its fields, and that a form which is submitted unchanged changes nothing."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carafe import InvalidArguments
from carafe.dashboard.pages.argument_form import JSON as JSON_AREA
from carafe.dashboard.pages.argument_form import ArgumentForm, Filled, with_faults
from carafe.jobs.definition import REDACTED, build, dump, redact
from tests.dashboard.kinds_of_pages import Every, Old, Secretive


def sent(filled: tuple[Filled, ...]) -> list[tuple[str, str]]:
    """What a browser sends of a form that nobody has changed."""
    pairs: list[tuple[str, str]] = []
    for one in filled:
        name, control = one.field.name, one.field.control
        if name == JSON_AREA:
            pairs.append((JSON_AREA, typed(one.value, "\r\n")))
            continue
        if control == "secret" and one.keepable:
            pairs.append((f"secret.{name}", "keep" if one.kept else "replace"))
        pairs.append((("utc." if control == "moment" else "args.") + name, typed(one.value, "")))
    return pairs


def typed(value: str, line_break: str) -> str:
    """A value as a browser sends it: every kind of line break is one (in a text area) or none (in a field)."""
    return value.replace("\r\n", "\n").replace("\r", "\n").replace("\n", line_break)


def stored(arguments: dict[str, Any]) -> Any:
    """The arguments as the store keeps them."""
    return orjson.loads(dump(build("pages.every", arguments)).json)


def fields() -> dict[str, Any]:
    return {one.name: one for one in ArgumentForm(Every).fields}


def test_scalars_enumerations_and_dates_are_fields() -> None:
    assert {name: one.control for name, one in fields().items()} == {
        "text": "text",
        "note": "text",
        "count": "integer",
        "share": "number",
        "size": "choice",
        "level": "choice",
        "loud": "choice",
        "day": "date",
        "moment": "moment",
        "local": "moment",
    }
    assert ArgumentForm(Every).blank()[-1].field.hint.startswith("One JSON object, by name: items, anything; and ")
    assert fields()["count"].attributes == {"step": "1", "min": "1", "max": "10"}
    assert fields()["count"].hint == "How often."
    assert fields()["size"].choices == (('"small"', "small"), ('"large"', "large"))
    assert (fields()["text"].empty, fields()["note"].empty) == ("", 'the default, "none yet"')


def test_what_is_left_empty_is_left_out() -> None:
    form = ArgumentForm(Every)
    reading = form.read([("args.text", "hello"), ("args.count", "3"), ("args.share", " "), (JSON_AREA, "")])
    assert reading.arguments == {"text": "hello", "count": 3}
    assert not reading.faults


def test_null_and_an_empty_text_are_given_as_json() -> None:
    reading = ArgumentForm(Every).read([("args.text", ""), ("args.note", ""), (JSON_AREA, '{"text": "", "note": null}')])
    assert reading.arguments == {"text": "", "note": None}
    assert not reading.faults


def test_an_argument_is_given_once() -> None:
    reading = ArgumentForm(Every).read([("args.text", "one"), (JSON_AREA, '{"text": "two"}')])
    assert [fault.path for fault in reading.faults] == ["text"]


def test_what_cannot_be_read_stands_at_its_field() -> None:
    form = ArgumentForm(Every)
    reading = form.read([("args.text", "hello"), (JSON_AREA, '{"items": [1,'), ("args.count", "three")])
    assert reading.arguments["count"] == "three"  # for the model, which says what is wrong with it
    shown, others = with_faults(reading.filled, reading.faults)
    (nested,) = [one for one in shown if one.field.name == JSON_AREA]
    assert nested.errors[0].startswith("is not JSON")
    assert nested.value == '{"items": [1,'
    assert others == ()


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, max_examples=300)
@given(
    st.fixed_dictionaries(
        {"text": TEXTS | st.just("two\nlines") | st.just("\nfirst") | st.just("\r\n"), "count": st.integers(1, 10)},
        optional={
            "note": st.none() | TEXTS | st.just(""),
            "share": st.floats(allow_nan=False, allow_infinity=False) | st.just(1e300) | st.just(1e22),
            "size": st.sampled_from(["small", "large"]),
            "level": st.sampled_from([1, 2, 3]),
            "loud": st.booleans(),
            "day": st.none() | st.dates().map(str),
            "moment": st.none()
            | st.sampled_from(
                [
                    "2026-01-01T00:00:00Z",
                    "2026-01-01T00:00:00.123456Z",
                    "2026-01-01T00:00:00.5Z",
                    "2026-01-01T06:00:00+02:00",
                ]
            ),
            "local": st.none() | st.sampled_from(["2026-01-01T00:00:00", "2026-01-01T00:00:00.25"]),
            "items": st.lists(st.fixed_dictionaries({"name": TEXTS, "amount": st.integers(1, 9)}), max_size=3),
            "anything": JSON,
        },
    )
)
def test_editing_nothing_changes_nothing(arguments: dict[str, Any]) -> None:
    before = stored(arguments)
    form = ArgumentForm(Every)
    reading = form.read(sent(form.stored(before, ())))
    assert reading.faults == ()
    assert stored(reading.arguments) == before


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["text", "count", "note"]), JSON, max_size=3))
def test_arguments_in_one_piece_change_nothing_either(arguments: dict[str, Any]) -> None:
    form = ArgumentForm(Every, whole=True)
    reading = form.read(sent(form.stored(arguments, ())))
    assert reading.faults == ()
    assert reading.arguments == arguments


def secretive() -> tuple[Any, tuple[str, ...]]:
    """Stored arguments as a page gets them: redacted, with the places of the secrets."""
    kept = dump(Secretive.model_validate({"user": "ana", "password": "pw", "hints": [{"pet": "cat"}, {"pet": "dog"}]}))
    return redact(orjson.loads(kept.json), kept.secrets), kept.secrets


def test_secrets_are_kept_by_their_places() -> None:
    arguments, secrets = secretive()
    form = ArgumentForm(Secretive)
    filled = form.stored(arguments, secrets)
    assert all("pw" not in one.value and "cat" not in one.value for one in filled)
    reading = form.read(sent(filled), secrets)
    assert reading.faults == ()
    assert set(reading.keep) == set(secrets)
    assert reading.arguments == arguments


def test_a_secret_is_replaced_when_that_is_chosen() -> None:
    arguments, secrets = secretive()
    form = ArgumentForm(Secretive)
    pairs = dict(sent(form.stored(arguments, secrets)))
    typed = form.read((pairs | {"args.password": "new"}).items(), secrets)
    assert [fault.path for fault in typed.faults] == ["password"]  # a browser may have filled it in by itself
    replaced = form.read((pairs | {"secret.password": "replace", "args.password": "new"}).items(), secrets)
    assert replaced.arguments["password"] == "new"
    assert "/password" not in replaced.keep
    assert all("new" not in one.value for one in replaced.filled)


def test_asterisks_do_not_become_a_secret() -> None:
    arguments, secrets = secretive()
    form = ArgumentForm(Secretive)
    pairs = dict(sent(form.stored(arguments, secrets)))
    moved = f'{{"hints": [{{"pet": "{REDACTED}", "other": "{REDACTED}"}}]}}'
    reading = form.read((pairs | {JSON_AREA: moved}).items(), secrets)
    assert [fault.path for fault in reading.faults] == ["hints.0.other"]
    fewer = form.read((pairs | {JSON_AREA: '{"hints": []}'}).items(), secrets)
    assert fewer.keep == ("/password",)
    blank = form.read([("args.user", "ana"), ("args.password", REDACTED)])
    assert [fault.path for fault in blank.faults] == ["password"]


@pytest.mark.parametrize("text", ["[", "1", "null", '"text"', "{} {}", "NaN", "[" * 100_000])
def test_arguments_in_one_piece_must_be_an_object(text: str) -> None:
    reading = ArgumentForm(Old, whole=True).read([(JSON_AREA, text)])
    assert len(reading.faults) == 1


def test_an_integer_beyond_64_bits_is_refused_and_never_rounded() -> None:
    form = ArgumentForm(Every)
    for arguments in ({"text": "x", "count": 1, "anything": [2**70]}, {"text": "x", "count": 2**70}):
        reading = form.read(sent(form.stored(arguments, ())))
        assert reading.arguments == arguments
        with pytest.raises(InvalidArguments, match="beyond 64 bits"):
            build("pages.every", reading.arguments)
