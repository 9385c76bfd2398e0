"""The dashboard's own templates show every value as text, and have no inline code or styles that the CSP forbids."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pytest
from jinja2 import nodes

from carafe.dashboard.pages.overview import of_now
from carafe.dashboard.view.rendering import TEMPLATES, environment
from carafe.jobs.records import Count
from carafe.jobs.states import State
from carafe.readmodel.records import Attention, Rates, Snapshot

NOW = datetime(2026, 11, 25, 14, 2, 11, tzinfo=UTC)
EVIL = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7 * 7 }}"
ENVIRONMENT = environment([], reload=False)
ALL = sorted(path.relative_to(TEMPLATES).as_posix() for path in TEMPLATES.rglob("*.html"))


def snapshot(**values: Any) -> Snapshot:
    """Everything at its quietest, but for `values`."""
    quiet: dict[str, Any] = {
        "at": NOW, "counts": {}, "oldest_wait": 0.0, "paused_at": None, "paused_by": None, "paused_reason": None,
        "workers": 1, "draining": 0, "slots": 5, "slots_used": 0, "replicas_wanted": None, "replicas_there": None,
        "leader": None, "redis": None, "rates": Rates(0, 0, 0, 0, None, None, None, None), "drain_seconds": None,
        "held": Count(0), "growing": 0.0, "attention": (),
    }  # fmt: skip
    return Snapshot(**{**quiet, **values})


def render(source: str, **context: Any) -> str:
    """A template of the test's own, with what the shell gives."""
    given = {
        "viewer": SimpleNamespace(name=EVIL, operates=True, can_sign_out=True, sees_args=True),
        "csrf": "TOKEN",
        "nav": [SimpleNamespace(label=EVIL, path="/", current=True)],
        "root": "",
        "path": "/",
        "url": lambda path: path,
        "static": lambda path: f"/static/{path}",
        "snapshot": None,
        "trouble": {"postgres": EVIL, "redis": EVIL, "paused": EVIL},
        "flash": EVIL,
        "now": NOW,
        "version": "1",
    }
    return ENVIRONMENT.from_string(source).render({**given, **context})


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def tags(text: str) -> Iterator[tuple[str, dict[str, str | None]]]:
    """What a browser would make elements of."""
    parser = _Tags()
    parser.feed(text)
    yield from parser.tags


def assert_inert(text: str) -> None:
    for tag, attributes in tags(text):
        assert tag not in ("img", "iframe", "object", "style"), tag
        assert tag != "script" or str(attributes.get("src")).startswith("/static/")
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (tag, attributes)
    assert "49" not in text


SHOW = '{% import "macros/show.html" as show with context %}'
ACT = '{% import "macros/act.html" as act with context %}'
PAGE = '{% import "macros/page.html" as page with context %}'


@pytest.mark.parametrize(
    "source",
    [
        SHOW + "{{ show.pill(e) }}{{ show.state_badge(e) }}{{ show.job_id(e) }}{{ show.copyable(e, e) }}"
        "{{ show.progress(0.5, e) }}",
        SHOW + "{{ show.meter(1, 2, e) }}{{ show.empty(e, e) }}{{ show.notice(e, 'warning') }}{{ show.error(e, e) }}",
        SHOW + "{{ show.json_tree({e: [e, {e: e}]}) }}{{ show.json_tree(e) }}{{ show.traceback(e) }}",
        ACT + "{{ act.button(e, e, {e: e}, title=e) }}{{ act.confirm(e, e, e, [(e, e)], reason='required', title=e) }}",
        ACT
        + "{{ act.field(e, e, e, hint=e, error=e) }}{{ act.area(e, e, e, hint=e) }}{{ act.choice(e, e, [(e, e), e], e) }}"
        "{{ act.check(e, e, value=e, hint=e) }}{% call act.form(e, label=e) %}{{ e }}{% endcall %}"
        "{{ act.link_button(e, e) }}",
        PAGE
        + "{{ page.heading(e, e) }}{{ page.tabs([(e, e, None, true)], e) }}{{ page.chip(e, e, e) }}{{ page.pager(e, e) }}"
        "{% call page.box(e) %}{{ e }}{% endcall %}{% call page.fragment(e, e, e) %}{{ e }}{% endcall %}"
        "{{ page.facts([(e, e)]) }}",
    ],
    ids=["shown", "said", "json", "acts", "fields", "pages"],
)
def test_macros_show_markup_as_text(source: str) -> None:
    text = render(source, e=EVIL)
    assert_inert(text)
    assert "&lt;script&gt;" in text


@pytest.mark.parametrize("status", [403, 404, 503])
def test_error_pages_show_markup_as_text(status: int) -> None:
    text = render('{% include "error.html" %}', status=status, title=EVIL, text=EVIL)
    assert_inert(text)


def test_the_sign_in_page_shows_markup_as_text() -> None:
    text = render('{% include "login.html" %}', viewer=None, nav=[], next=EVIL, name=EVIL, fault=EVIL)
    assert_inert(text)


def test_the_overview_shows_markup_as_text() -> None:
    everything = snapshot(
        counts={state: Count(3) for state in State},
        paused_at=NOW, paused_by=EVIL, paused_reason=EVIL, leader=EVIL, draining=1, replicas_wanted=3, replicas_there=1,
        attention=(Attention("key", "critical", EVIL, EVIL, NOW),),
    )  # fmt: skip
    text = render('{% include "overview/now.html" %}', snapshot=everything, **of_now(everything))
    assert_inert(text)
    assert text.count("&lt;script&gt;") >= 4  # the pause is said by the banner


def overview(**values: Any) -> str:
    given = snapshot(**values)
    text = render('{% include "overview/now.html" %}', snapshot=given, **of_now(given))
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))


def test_the_backlog_is_told_in_words() -> None:
    queued = {State.QUEUED: Count(7)}
    assert "growing by 12/s" in overview(counts=queued, growing=12.0)
    assert "drained in 3 min 5 s" in overview(counts=queued, growing=-2.0, drain_seconds=185.0)
    assert "steady" in overview(counts=queued)
    assert "empty" in overview()
    assert "paused, growing by 2.0/s" in overview(counts=queued, growing=2.0, paused_at=NOW)


def test_what_needs_attention_links_to_where_it_is_dealt_with() -> None:
    given = snapshot(attention=(Attention("dead", "critical", "Dead letters grow", "/dead?x=1", NOW),))
    text = render('{% include "overview/now.html" %}', snapshot=given, **of_now(given))
    assert 'href="/dead?x=1"' in text
    assert "Nothing needs attention" not in text
    assert "Nothing needs attention" in overview()


def test_every_counter_is_a_link() -> None:
    given = snapshot(counts={state: Count(1) for state in State})
    links = [
        a["href"]
        for tag, a in tags(render('{% include "overview/now.html" %}', snapshot=given, **of_now(given)))
        if tag == "a"
    ]
    for state in State:
        assert (f"/jobs?state={state.value}" if state is not State.DEAD else "/dead") in links


def test_who_may_only_look_is_offered_nothing_to_do() -> None:
    viewer = SimpleNamespace(name="ben", operates=False, can_sign_out=False, sees_args=False)
    given = snapshot(paused_at=NOW)
    text = render('{% include "overview/now.html" %}', viewer=viewer, snapshot=given, **of_now(given))
    assert not [tag for tag, _ in tags(text) if tag in ("form", "button")]


def test_json_of_any_depth_and_length_ends() -> None:
    deep: Any = "bottom"
    for _ in range(300):
        deep = {"in": deep}
    text = render(SHOW + "{{ show.json_tree(value) }}", value={"deep": deep, "long": list(range(1_000))})
    assert "… nested deeper: see the raw text" in text
    assert "… 800 more: see the raw text" in text
    assert text.count("<li>") < 250


@pytest.mark.parametrize("name", ALL)
def test_no_template_turns_escaping_off_or_writes_inline(name: str) -> None:
    source = (TEMPLATES / name).read_text()
    tree = ENVIRONMENT.parse(source)
    assert not [found for found in tree.find_all(nodes.Filter) if found.name in ("safe", "forceescape")]
    assert not list(tree.find_all((nodes.ScopedEvalContextModifier, nodes.MarkSafe)))
    assert not re.search(r"<[^>{]*\s(style|on[a-z]+)=", source)
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style", source)
    assert "javascript:" not in source


@pytest.mark.parametrize("name", ALL)
def test_no_paragraph_holds_what_html_ends_it_for(name: str) -> None:
    """A form, details, list or division inside <p> is put behind it by the browser, with other looks."""
    source = re.sub(r"\{#.*?#\}", "", (TEMPLATES / name).read_text(), flags=re.S)
    for paragraph in re.findall(r"<p[ >].*?</p>", source, re.S):
        assert not re.search(r"<(form|details|div|ul|ol|dl|section|table|pre)\b|act\.(button|confirm|form)\(", paragraph), (
            paragraph
        )
