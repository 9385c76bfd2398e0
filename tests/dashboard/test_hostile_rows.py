"""Every page, list, answer and stream can show any row."""

import re
from collections.abc import AsyncIterator
from uuid import UUID

import httpx
import pytest

from carafe import State
from carafe.settings.settings import Settings
from carafe.web.application import create_web_application
from tests import hostile_rows
from tests.dashboard.conftest import Served, served
from tests.dashboard.streaming import following
from tests.dashboard.visiting import Visitor
from tests.web import kinds_for_tests  # noqa: F401  declares the kinds of the rows

STEERS = re.compile(r"[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What turns the text of a page around, or cannot be shown."""

INPUTS = re.compile(r"<(input|option)\b[^>]*>|<textarea.*?</textarea>", re.DOTALL)
"""What the browser sends back as it is."""


@pytest.fixture(scope="module")
async def made(database_url: str) -> list[UUID]:
    return await hostile_rows.insert(database_url)


@pytest.fixture(scope="module")
async def api(settings: Settings, made: list[UUID]) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        served(create_web_application(settings), settings, "PORT") as web,
        httpx.AsyncClient(base_url=web.url, timeout=60, verify=False) as http,
    ):
        yield http


async def faults(http: httpx.AsyncClient, paths: list[str], **headers: str) -> dict[str, object]:
    """Those that do not answer 200."""
    found: dict[str, object] = {}
    for path in paths:
        try:
            answer = await http.get(path, headers=headers)
        except Exception as error:
            found[path] = repr(error)
            continue
        if answer.status_code != 200:
            found[path] = answer.status_code
        elif answer.headers["content-type"].startswith("text/html") and STEERS.search(INPUTS.sub("", answer.text)):
            found[path] = "it shows a character that turns its text around"
    return found


async def test_every_page_answers(ana: Visitor, made: list[UUID]) -> None:
    paths = ["/", "/?range=24h", "/?range=7d", "/jobs", "/dead", "/dead?all=1", "/bulk", "/workers", "/audit", "/enqueue"]
    paths += [f"/jobs?state={state}" for state in State] + [f"/audit?target={made[-1]}"]
    paths += ["/dead/group?kind=web.anything&fingerprint=print"]
    assert await faults(ana.http, paths) == {}
    assert await faults(ana.http, paths, **{"X-Fragment": "1"}) == {}
    jobs = [f"/jobs/{job}" for job in made]
    assert await faults(ana.http, jobs) == {}
    assert await faults(ana.http, [f"{job}/edit" for job in jobs if "00" in job][:40]) == {}


async def test_the_overview_tells_what_there_is(ana: Visitor, dashboard: Served, made: list[UUID]) -> None:
    snapshot = await dashboard.dashboard.model.snapshot()
    assert snapshot.counts[State.RUNNING].number == len(hostile_rows.TIMES) + 1
    page = (await ana.open(f"/jobs/{made[0]}")).text
    assert "9999-12-31 23:59:59 UTC" in page


async def test_streams_follow_them(ana: Visitor, made: list[UUID]) -> None:
    topics = ",".join(["overview", "jobs", "dead", "workers", "bulk", *(f"job:{job}" for job in made[:45])])
    async with following(ana.http, topics) as reader:
        await reader.until("changed", f"job:{made[0]}")
        await reader.until("changed", "overview")


async def test_nothing_was_said_in_the_log(ana: Visitor, made: list[UUID], caplog: pytest.LogCaptureFixture) -> None:
    await ana.open("/")
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_every_answer_of_the_api_is_one(api: httpx.AsyncClient, made: list[UUID]) -> None:
    paths = ["/queues", "/workers", "/audit?limit=500", f"/audit?target={made[-1]}", "/bulk-actions?limit=500", "/kinds"]
    assert await faults(api, [f"/api/v1{path}" for path in paths]) == {}
    assert await faults(api, [f"/api/v1/jobs/{job}" for job in made]) == {}


@pytest.mark.parametrize("query", ["", "&state=dead", "&state=succeeded", "&state=queued", "&state=scheduled&state=running"])
async def test_a_listing_shows_each_job_once_page_by_page(api: httpx.AsyncClient, query: str) -> None:
    seen: list[str] = []
    cursor = ""
    for _ in range(500):
        answer = await api.get(f"/api/v1/jobs?limit=3{query}{cursor}")
        assert answer.status_code == 200, answer.text
        seen += [job["id"] for job in answer.json()["jobs"]]
        if answer.json()["next_cursor"] is None:
            break
        cursor = f"&cursor={answer.json()['next_cursor']}"
    assert len(seen) == len(set(seen)) > 0
    whole = await api.get(f"/api/v1/jobs?limit=500{query}")
    assert whole.json()["jobs"][0]["id"] == seen[0]
