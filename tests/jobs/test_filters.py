"""The one filter of lists, counts and bulk actions: what a query string, JSON and SQL say is the same."""

import pickle
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carafe.jobs.errors import InvalidFilter, InvalidOption
from carafe.jobs.states import State
from carafe.store.filter_words import WORDS
from carafe.store.filters import ANY_ID, SIDES, JobFilter, Side

JOB = UUID("0192f2b4-0000-7000-8000-000000000001")

words = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=30)
times = st.integers(0, 2**31).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
filters = st.builds(
    JobFilter,
    states=st.frozensets(st.sampled_from(State)),
    kind=st.none() | words,
    error_class=st.none() | words,
    fingerprint=st.none() | words,
    worker=st.none() | st.uuids(),
    since=st.none() | times,
    text=st.none() | words,
    argument=st.none() | st.tuples(words.filter(lambda name: ":" not in name), words),
    resolved=st.none() | st.booleans(),
    ids=st.just(ANY_ID) | st.lists(st.uuids(), unique=True, min_size=1, max_size=3).map(tuple),
)


@given(filters)
def test_a_filter_survives_its_query_string_and_its_json(wanted: JobFilter) -> None:
    assert JobFilter.from_query(wanted.to_query()) == wanted
    assert JobFilter.from_json(wanted.to_json()) == wanted


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        (f" {JOB} ", JobFilter(ids=(JOB,))),
        ("args.briefing_id:7:30", JobFilter(argument=("briefing_id", "7:30"))),
        ("connection refused", JobFilter(text="connection refused")),
        ("", JobFilter()),
    ],
)
def test_what_is_typed_into_the_search_box(typed: str, found: JobFilter) -> None:
    assert JobFilter().search(typed) == found
    assert JobFilter.from_query([("search", typed), ("cursor", "x")]) == found


@pytest.mark.parametrize(
    ("pairs", "field"),
    [
        ([("state", "asleep")], "state"),
        ([("worker", "w")], "worker"),
        ([("id", "1")], "id"),
        ([("since", "yesterday")], "since"),
        ([("since", "2026-01-02T00:00"), ("until", "2026-01-01T00:00")], "until"),
        ([("resolved", "yes")], "resolved"),
        ([("kind", "a\0b")], "kind"),
        ([("text", "x" * 501)], "text"),
        ([("kind", "a"), ("kind", "b")], "kind"),
        ([("args.a", "1"), ("args.b", "2")], "args"),
        ([("search", "args.name")], "search"),
        ([("id", str(UUID(int=number))) for number in range(10_001)], "id"),
    ],
)
def test_what_cannot_be_read_is_refused_by_the_name_of_its_field(pairs: list[tuple[str, str]], field: str) -> None:
    with pytest.raises(InvalidOption, match=f"^{field}: "):
        JobFilter.from_query(pairs)


def test_all_that_cannot_be_read_is_told_at_once() -> None:
    with pytest.raises(InvalidFilter) as refused:
        JobFilter.from_query([("state", "asleep"), ("worker", "w"), ("since", "yesterday")])
    assert [fault.option for fault in refused.value.faults] == ["state", "worker", "since"]
    assert "state: must be one of" in str(refused.value)
    assert "since: must be a time" in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"), [("kind", " "), ("colour", "red"), ("search", "x"), ("since", "2026-01-31T12:00"), ("args", "x")]
)
def test_a_program_is_told_of_what_a_page_lets_pass(name: str, value: str) -> None:
    JobFilter.from_query([(name, value)])
    with pytest.raises(InvalidOption, match=f"^{name}: "):
        JobFilter.from_query([(name, value)], strict=True)


@pytest.mark.parametrize("none", [(), [], frozenset()])
def test_an_empty_selection_is_refused_and_does_not_mean_all_jobs(none: Any) -> None:
    with pytest.raises(InvalidOption, match=r"^id: must not be empty"):
        JobFilter(ids=none)
    everything = replace(JobFilter(ids=(JOB,)), ids=JobFilter().ids)
    assert replace(everything, kind="a") == pickle.loads(pickle.dumps(JobFilter(kind="a"))) == JobFilter(kind="a")


def test_every_field_has_its_word() -> None:
    assert {word.field for word in WORDS} == {field.name for field in fields(JobFilter)}


def test_json_with_a_field_that_there_is_not_is_refused() -> None:
    with pytest.raises(InvalidOption, match=r"^kinds: is not a field"):
        JobFilter.from_json({"kinds": "a"})
    with pytest.raises(InvalidOption, match=r"^states: "):
        JobFilter.from_json({"states": "dead"})


def test_a_time_without_a_zone_is_utc_and_a_plus_may_have_become_a_space() -> None:
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    for text in ("2026-01-31T12:00", "2026-01-31T12:00:00Z", "2026-01-31T13:00:00 01:00", "2026-01-31T13:00:00+01:00"):
        assert JobFilter.from_query([("since", text)]).since == noon


def test_which_side_a_filter_touches() -> None:
    dead, queued = frozenset({State.DEAD}), frozenset({State.QUEUED})
    for wanted, live, ended in [
        (JobFilter(), True, True),
        (JobFilter(dead), False, True),
        (JobFilter(queued), True, False),
        (JobFilter(fingerprint="f"), False, True),
        (JobFilter(queued, fingerprint="f"), False, False),
        (JobFilter(resolved=True), False, True),
        (JobFilter(resolved=False), True, True),
        (JobFilter(frozenset({State.SUCCEEDED}), resolved=True), False, False),
    ]:
        assert (wanted.touches("live"), wanted.touches("ended")) == (live, ended), wanted


@given(filters)
def test_no_value_is_ever_part_of_the_sql(wanted: JobFilter) -> None:
    """The same filter with other values has the same text, with as many values bound."""
    other = replace(
        wanted,
        kind=wanted.kind and "other kind",
        error_class=wanted.error_class and "other error class",
        fingerprint=wanted.fingerprint and "other fingerprint",
        text=wanted.text and "other text",
        argument=None if wanted.argument is None else ("other", "value"),
    )
    for side in SIDES:
        if wanted.touches(side):
            assert _sql(wanted, side) == _sql(other, side)


def _sql(wanted: JobFilter, side: Side) -> list[str]:
    values: list[Any] = []

    def bind(value: Any) -> str:
        values.append(value)
        return f"${len(values)}"

    return wanted.conditions(side, bind)
