"""The pages of kinds over HTTP: figures, options, what runs and failed, pausing and resuming one kind."""

import re
from html import unescape

import pytest

from carafe import Actor, Client
from carafe.store.database import Database
from carafe.telemetry.metrics import BOUNDS
from tests.dashboard.conftest import Served
from tests.dashboard.visiting import Visitor
from tests.waiting import eventually
from tests.web.kinds_for_tests import Resize

RESIZE = "/kinds/web.resize"


def words(page: str) -> str:
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)))


async def text(visitor: Visitor, path: str, status: int = 200) -> str:
    answer = await visitor.open(path)
    assert answer.status_code == status, answer.text
    return words(answer.text)


async def ended(database: Database, kind: str, outcome: str, count: int, bucket: int) -> None:
    """Let this many jobs of a kind have ended in the last minutes, all with the run time of one bar of the histogram."""
    runs = [count if n == bucket else 0 for n in range(len(BOUNDS) + 1)]
    async with database.connection() as connection:
        await connection.execute(
            "insert into carafe.statistics (width, at, kind, outcome, count, wait_seconds, run_seconds, waits, runs)"
            " values (600, date_bin('10 minutes', now(), timestamptz '2000-01-01 00:00+00'), $1, $2, $3, 0, $4, $5, $5)",
            kind,
            outcome,
            count,
            float(count),
            runs,
        )


async def test_a_kind_shows_its_figures_and_options(ana: Visitor, client: Client, database: Database) -> None:
    await client.enqueue(Resize(width=3))
    await ended(database, "web.resize", "succeeded", 90, 5)
    await ended(database, "web.resize", "retrying", 7, 5)
    await ended(database, "web.resize", "dead", 3, 5)

    page = await text(ana, RESIZE)

    assert "Attempts that failed 10 %" in page
    assert re.search(r"Succeeded 90\b.*Retried 7\b.*Dead 3\b", page)
    assert "1 queued" in page
    assert "No live worker has a handler for this kind." in page
    assert re.search(r"Options Version 1 Timeout 1 min Retries 1 ", page)
    listed = await text(ana, "/kinds")
    assert re.search(r"web\.resize 1 0 90 7 3 1.0 s not paused", listed)


async def test_the_charts_come_alone_and_link_to_this_kind(ana: Visitor, database: Database) -> None:
    page = (await ana.open(RESIZE + "?range=5m")).text
    address = unescape(re.findall(r'id="fragment-charts" data-fragment="([^"]+)"', page)[0])
    assert address == f"{RESIZE}?range=5m&fragment=charts"
    part = (await ana.open(address)).text
    assert part.lstrip().startswith('<div class="fragment" id="fragment-charts"')
    assert "Backlog and workers" not in part


async def test_a_kind_that_nobody_knows_is_not_found(ana: Visitor) -> None:
    assert "No such kind" in await text(ana, "/kinds/no.such", 404)
    assert "No such kind" in await text(ana, "/kinds/%3Cb%3E%2Fb", 404)
    answer = await ana.send("/kinds/no.such/pause")
    assert answer.status_code == 404


@pytest.mark.parametrize("path", ["/pause", f"{RESIZE}/pause"])
@pytest.mark.parametrize("reason", ["x" * 501, "two\nlines", "\x1b[31mred"])
async def test_a_reason_that_cannot_be_kept_whole_is_refused(ana: Visitor, path: str, reason: str) -> None:
    page = path.removesuffix("/pause") or "/"
    await ana.open(page)
    assert (await ana.send(path, reason=reason)).headers["location"] == page
    shown = await text(ana, page)
    assert "Nothing was done. reason: must be" in shown
    assert "Resume" not in shown


async def test_one_kind_is_paused_and_resumed(dashboard: Served, ana: Visitor, vic: Visitor, database: Database) -> None:
    client = dashboard.dashboard.client
    await ana.open(RESIZE)
    answer = await ana.send(f"{RESIZE}/pause", reason="phones <b>down</b>")
    assert (answer.status_code, answer.headers["location"]) == (303, RESIZE)
    job = await client.enqueue(Resize(width=2))

    async def shown() -> bool:
        page = await text(vic, RESIZE)
        return "by ana: phones <b>down</b>" in page and "Pause this kind" not in page

    await eventually(shown, within=10)
    assert "Resume this kind" in await text(ana, RESIZE)
    assert re.search(
        r"The kind 'web.resize' is paused since .* by ana: phones <b>down</b>", await text(ana, f"/jobs/{job.id}")
    )

    async def attends() -> bool:
        return "the kind web.resize is paused by ana (phones <b>down</b>)" in await text(ana, "/")

    await eventually(attends, within=10)

    async def listed() -> bool:
        page = await text(ana, "/kinds")
        first = r"Mean run State web\.resize \d+ 0 [\d. s–]* paused "
        return re.search(first + r".* by ana: phones <b>down</b>", page) is not None

    await eventually(listed, within=10)
    assert re.search(r"The kind web\.resize is paused .* \d+ queued jobs? waits?;", await text(ana, "/jobs?kind=web.resize"))
    assert "is paused" not in await text(ana, "/jobs?kind=web.login")
    await ana.send(f"{RESIZE}/pause")
    assert "It was paused already, by ana" in await text(ana, RESIZE)
    await ana.send(f"{RESIZE}/resume")
    assert await client.paused_kinds() == []
    async with database.connection() as connection:
        rows = await connection.fetch(
            "select action, actor, via, target from carafe.audit where action like '%kind' order by at"
        )
    assert [tuple(row) for row in rows] == [
        (action, "ana", "dashboard", "web.resize") for action in ("pause kind", "pause kind", "resume kind")
    ]


async def test_a_reason_turns_no_text_around(dashboard: Served, ana: Visitor) -> None:
    client = dashboard.dashboard.client
    await client.pause_kind("web.resize", reason="gone \u202etxt.exe", by=Actor("ev\u202ei\u200el", "api"))
    try:
        for page in (RESIZE, "/audit"):
            found = (await ana.open(page)).text
            assert "gone \\u202etxt.exe" in found
            assert "ev\\u202ei\\u200el" in found
            assert not {"\u202e", "\u200e"} & set(found)
    finally:
        await client.resume_kind("web.resize")


@pytest.mark.parametrize("act", ["pause", "resume"])
async def test_who_may_only_look_can_do_neither(vic: Visitor, act: str) -> None:
    await vic.open(RESIZE)
    assert (await vic.send(f"{RESIZE}/{act}")).status_code == 403


async def test_a_kind_without_a_handler_is_told_from_one_that_has(ana: Visitor, database: Database) -> None:
    assert "no worker has a handler" not in await text(ana, "/kinds")  # no worker is alive, so nothing is known
    async with database.connection() as connection:
        await connection.execute(
            "insert into carafe.workers (id, name, host, pid, incarnation, version, kinds, versions, concurrency, state)"
            " values (gen_random_uuid(), 'w', 'h', 1, 'w', '1', '{web.resize}', '{1}', 5, 'running')"
        )

    async def told() -> bool:
        page = await text(ana, "/kinds")
        return bool(re.search(r"web\.login [\d. s–]* not paused no worker has a handler", page)) and not re.search(
            r"web\.resize [\d. s–]* not paused no worker", page
        )

    await eventually(told, within=10)
