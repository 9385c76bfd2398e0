"""The pages of dead letters (groups, a probe and its outcome, replay at a rate, discard) and of bulk actions."""

import re
from html import unescape
from urllib.parse import parse_qs, urlencode, urlsplit
from uuid import UUID, uuid4

import pytest

from carafe import Actor, Client, InvalidOption, State
from carafe.store.bulk import FASTEST, SLOWEST
from carafe.store.database import Database
from carafe.store.filters import JobFilter
from tests.dashboard.conftest import Served
from tests.dashboard.ended import dead, die, every
from tests.dashboard.visiting import Visitor
from tests.waiting import eventually
from tests.web.rows import claim, succeed

pytestmark = pytest.mark.anyio


def group_of(fingerprint: str, **more: str) -> str:
    return "/dead/group?" + urlencode({"kind": "pages.every", "fingerprint": fingerprint} | more)


def query_of(location: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}


async def test_groups_are_listed_by_kind_and_error(ana: Visitor, client: Client, database: Database) -> None:
    for number in range(3):
        await dead(client, database, every(), error=f"no route to {number}", kind="ConnectTimeout", fingerprint="routes")
    await dead(client, database, every(), error="no space", kind="DiskFull", fingerprint="space")
    page = unescape((await ana.open("/dead")).text)
    assert group_of("routes") in page
    assert group_of("space") in page
    assert re.search(r'data-label="Jobs" class="numeric"><span class="number">3</span>', page)
    opened = await ana.open(group_of("routes"))
    assert "ConnectTimeout" in opened.text
    assert opened.text.count("<tr data-key=") == 3
    assert (await ana.open("/dead/group")).status_code == 404


async def test_many_groups_are_shown_when_asked_for(
    ana: Visitor, client: Client, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carafe.dashboard.pages.dead.SHOWN", 2)
    for number in range(4):
        await dead(client, database, every(), fingerprint=f"one of many {number}")

    async def listed() -> bool:  # the groups are up to 5 s old
        return "one+of+many+3" in (await ana.open("/dead?all=1")).text

    await eventually(listed, 20)
    whole = unescape((await ana.open("/dead?all=1")).text)
    groups = whole.count("<tr data-key=")
    assert groups >= 4
    assert "not shown" not in whole
    assert 'data-fragment="/dead?all=1"' in whole
    page = unescape((await ana.open("/dead")).text)
    assert page.count("<tr data-key=") == 2
    assert f"{groups - 2} smaller groups not shown." in page
    assert 'data-fragment="/dead"' in page


async def test_a_probe_shows_its_outcome_in_place(ana: Visitor, client: Client, database: Database) -> None:
    ids = {await dead(client, database, every(), fingerprint="probed") for _ in range(3)}
    await ana.open(group_of("probed"))
    answer = await ana.send("/dead/group/probe", kind="pages.every", fingerprint="probed")
    assert answer.status_code == 303
    path = answer.headers["location"]
    probe = UUID(query_of(path)["probe"])
    assert probe in ids
    page = await ana.open(path)
    assert f"job:{probe}" in page.text  # followed live
    row = await claim(database, probe, "pages.every")
    assert "It is running." in (await ana.open(path)).text
    await die(database, row, error="it broke again", fingerprint="probed")
    assert "It is dead again with the same error: Broken: it broke again" in (await ana.open(path)).text
    answer = await ana.send("/dead/group/probe", kind="pages.every", fingerprint="probed", id=str(probe))
    await die(database, await claim(database, probe, "pages.every"), error="new", fingerprint="another")
    assert "It is dead with a different error" in (await ana.open(path)).text
    answer = await ana.send("/dead/group/probe", kind="pages.every", fingerprint="probed", id=str(sorted(ids - {probe})[0]))
    path = answer.headers["location"]
    await succeed(database, await claim(database, query_of(path)["probe"], "pages.every"), "null")
    assert "It succeeded." in (await ana.open(path)).text


async def test_a_group_is_replayed_at_a_rate_and_steered_in_place(ana: Visitor, client: Client, database: Database) -> None:
    for _ in range(3):
        await dead(client, database, every(), fingerprint="replayed")
    await ana.open(group_of("replayed"))
    wrong = await ana.send("/dead/group/replay", kind="pages.every", fingerprint="replayed", rate="fast")
    assert wrong.status_code == 422
    assert "rate: must be a number" in wrong.text
    answer = await ana.send("/dead/group/replay", kind="pages.every", fingerprint="replayed", rate="2.5", probe="")
    here = answer.headers["location"]
    (record,) = [one for one in await client.bulks() if one.filter.get("fingerprint") == "replayed"]
    assert (record.action, record.rate, record.matched.number, record.actor) == ("retry", 2.5, 3, "ana")
    page = unescape((await ana.open(here)).text)
    assert f'action="/bulk/{record.id}/pause"' in page
    answer = await ana.send(f"/bulk/{record.id}/pause", back=here)
    assert answer.headers["location"] == here
    assert (await client.bulk(record.id)).state == "paused"
    assert f'action="/bulk/{record.id}/resume"' in (await ana.open(here)).text
    await ana.send(f"/bulk/{record.id}/resume", back=here)
    assert (await client.bulk(record.id)).state == "running"
    answer = await ana.send(f"/bulk/{record.id}/cancel", back="//evil.example.com")
    assert answer.headers["location"] == f"/bulk/{record.id}"
    assert (await client.bulk(record.id)).state == "cancelled"
    # What is over is still shown there: the last of them.
    ended = await ana.open(here)
    assert ended.status_code == 200
    assert f"/bulk/{record.id}" in ended.text
    over = await ana.send(f"/bulk/{record.id}/pause", back=here)
    assert over.status_code == 409


async def test_a_group_is_discarded_with_a_reason(ana: Visitor, client: Client, database: Database) -> None:
    await dead(client, database, every(), fingerprint="given up")
    await ana.open(group_of("given up"))
    wrong = await ana.send("/dead/group/discard", kind="pages.every", fingerprint="given up", reason=" ")
    assert wrong.status_code == 422
    assert "reason: must be given" in wrong.text
    answer = await ana.send("/dead/group/discard", kind="pages.every", fingerprint="given up", reason="never mind")
    assert answer.status_code == 303
    (record,) = [one for one in await client.bulks() if one.filter.get("fingerprint") == "given up"]
    assert (record.action, record.reason) == ("discard", "never mind")


async def test_a_viewer_can_start_nothing(vic: Visitor, client: Client, database: Database) -> None:
    job_id = await dead(client, database, every(), fingerprint="untouched")
    page = await vic.open(group_of("untouched"))
    assert "Probe one" not in page.text
    for path in ("/dead/group/probe", "/dead/group/replay", "/dead/group/discard"):
        answer = await vic.send(path, kind="pages.every", fingerprint="untouched", rate="1", reason="x")
        assert answer.status_code == 403
    assert (await vic.send("/bulk", action="retry", fingerprint="untouched")).status_code == 403
    assert (await client.get(job_id)).state is State.DEAD


# -- bulk actions


async def test_what_a_selection_becomes(ana: Visitor, client: Client, database: Database) -> None:
    chosen = [str(await dead(client, database, every(), fingerprint="chosen")) for _ in range(2)]
    await dead(client, database, every(), fingerprint="chosen")
    query = urlencode([("state", "dead"), ("selecting", "1"), *(("selected", one) for one in chosen), ("action", "retry")])
    page = await ana.open(f"/bulk/new?{query}")
    assert page.status_code == 200
    assert "Retry 2 jobs" in page.text
    fields = re.findall(r'<input type="hidden" name="id" value="([^"]+)">', page.text)
    assert sorted(fields) == sorted(chosen)
    answer = await ana.send("/bulk", action="retry", id=chosen, reason="two of them", rate="")
    record = await client.bulk(UUID(answer.headers["location"].removeprefix("/bulk/")))
    assert sorted(record.filter["ids"]) == sorted(chosen)
    assert record.reason == "two of them"
    followed = await ana.open(f"/bulk/{record.id}")
    assert "two of them" in followed.text
    assert f"/bulk/{record.id}" in (await ana.open("/bulk")).text


async def test_all_that_match_are_taken_by_their_filter(ana: Visitor, client: Client, database: Database) -> None:
    for _ in range(3):
        await dead(client, database, every(), fingerprint="all of it")
    query = {"state": "dead", "fingerprint": "all of it", "selecting": "1", "all": "1", "action": "retry"}
    page = await ana.open(f"/bulk/new?{urlencode(query | {'selected': str(uuid4())})}")
    assert "Retry 3 jobs" in page.text
    assert 'name="fingerprint" value="all of it"' in page.text
    nothing = await ana.open("/bulk/new?state=dead&selecting=1&action=retry")
    assert nothing.status_code == 422
    assert "Nothing is selected" in nothing.text
    assert (await ana.open("/bulk/new?action=destroy")).status_code == 422
    assert (await ana.open("/bulk/new?action=retry&state=queued")).status_code == 422
    assert (await ana.open(f"/bulk/{uuid4()}")).status_code == 404


async def test_a_rate_that_the_field_takes_is_one_that_the_action_takes(
    ana: Visitor, client: Client, database: Database
) -> None:
    await dead(client, database, every(), fingerprint="rated")
    for path in ("/bulk/new?action=retry&fingerprint=rated", group_of("rated")):
        field = re.search(r'<input[^>]* name="rate"[^>]*>', (await ana.open(path)).text)
        assert field
        bounds = [float(re.search(rf' {name}="([^"]+)"', field[0])[1]) for name in ("min", "max")]  # type: ignore[index]
        assert bounds == [SLOWEST, FASTEST]


async def test_a_bulk_form_that_is_wrong_comes_back_as_it_was(ana: Visitor) -> None:
    await ana.open("/jobs")
    page = await ana.send("/bulk", action="discard", kind="pages.every", reason="", rate="7")
    assert page.status_code == 422
    assert "reason: must be given" in page.text


async def test_an_empty_condition_never_widens_an_action(ana: Visitor, client: Client, database: Database) -> None:
    await dead(client, database, every(), fingerprint="not widened")
    before = len(await client.bulks(500))
    for empty in ({"kind": ""}, {"text": " "}, {"id": ""}):
        page = await ana.open(f"/bulk/new?{urlencode({'action': 'retry', 'all': '1'} | empty)}")
        assert (page.status_code, "must not be empty" in page.text) == (422, True), empty
        page = await ana.send("/bulk", action="retry", **empty)
        assert (page.status_code, "must not be empty" in page.text) == (422, True), empty
    assert (await ana.open("/bulk/new?action=retry&selecting=1&selected=")).status_code == 422
    assert (await ana.send("/dead/group/discard", kind="pages.every", fingerprint=" ", reason="all?")).status_code == 422
    with pytest.raises(InvalidOption, match=r"^kind: must not be empty"):
        await client.start_bulk("retry", JobFilter(kind=""), by=Actor("ana", "api"))
    assert len(await client.bulks(500)) == before


# -- workers


async def test_a_worker_is_shown_and_asked_to_drain(
    ana: Visitor, vic: Visitor, client: Client, database: Database, dashboard: Served
) -> None:
    assert "No worker is alive" in (await ana.open("/workers")).text
    worker = uuid4()
    job_id = (await client.enqueue(every())).id
    async with database.connection() as connection:
        await connection.execute(
            "insert into carafe.workers (id, name, host, pid, incarnation, version, kinds, concurrency, state) "
            "values ($1, 'worker <1>', 'host <i>', 7, 'boot', '1.0', '{pages.every}', 5, 'running')",
            worker,
        )
        await connection.execute("update carafe.queues set paused_at = null")
    row = await claim(database, job_id, "pages.every")
    async with database.connection() as connection:
        await connection.execute("update carafe.jobs set worker = $1 where id = $2", worker, row["id"])
    page = await ana.open("/workers")
    assert "worker &lt;1&gt;" in page.text
    assert "host &lt;i&gt;" in page.text
    assert str(job_id) in page.text
    assert (await vic.send(f"/workers/{worker}/drain")).status_code == 403
    answer = await ana.send(f"/workers/{worker}/drain")
    assert answer.status_code == 303
    assert "drain requested" in (await ana.open("/workers")).text
    assert "drain worker" in (await ana.open(f"/audit?target={worker}")).text
    assert (await ana.send(f"/workers/{uuid4()}/drain")).status_code == 404
    listed = await ana.open(f"/jobs?worker={worker}")
    assert str(job_id) in listed.text


def test_a_group_filter_is_of_the_unresolved_dead() -> None:
    from carafe.dashboard.pages.dead import _wanted

    assert _wanted("k", "f") == JobFilter(frozenset({State.DEAD}), "k", fingerprint="f", resolved=False)
