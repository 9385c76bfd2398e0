"""The forms "Enqueue" and "Edit and run": the values become a job, and each fault is shown at its field."""

from html import unescape
from uuid import UUID

import pytest

from carafe import Client, State
from carafe.jobs.definition import REDACTED
from carafe.store.database import Database
from tests.dashboard.ended import every
from tests.dashboard.kinds_of_pages import LATER, Secretive
from tests.dashboard.visiting import Visitor

pytestmark = pytest.mark.anyio

SECRET = "s3cr3t-of-the-tests"


async def stored(database: Database, job_id: UUID) -> str:
    """The arguments as the store has them, secrets and all."""
    async with database.connection() as connection:
        found: str = await connection.fetchval("select args::text from carafe.jobs where id = $1", job_id)
    return found


def job_at(location: str) -> UUID:
    assert location.startswith("/jobs/")
    return UUID(location.removeprefix("/jobs/"))


async def test_kinds_are_offered_and_one_is_filled_in(ana: Visitor, client: Client) -> None:
    page = await ana.open("/enqueue")
    assert '<a href="/enqueue?kind=pages.every">' in page.text
    assert "One argument of every sort." in page.text
    form = await ana.open("/enqueue?kind=pages.every")
    assert 'type="number" name="args.count"' in form.text
    assert 'type="date" name="args.day"' in form.text
    assert 'type="datetime-local" name="utc.moment"' in form.text
    assert "<textarea" in form.text
    fields = {
        "kind": "pages.every",
        "args.text": "hello",
        "args.note": "",
        "args.count": "3",
        "args.size": '"large"',
        "args.loud": "true",
        "args.day": "2026-01-31",
        "utc.moment": "2026-01-31T06:00",
        "utc.local": "2026-01-31T07:00",
        "json-args": '{"items": [{"name": "a",\r\n "amount": 2}], "note": null}',
        "run_at": "2031-01-01T06:00",
        "unique_key": "one of a kind",
    }
    answer = await ana.send("/enqueue", **fields)
    assert answer.status_code == 303
    job = await client.get(job_at(answer.headers["location"]))
    assert job.args == {
        "text": "hello",
        "note": None,
        "count": 3,
        "share": 0.5,
        "size": "large",
        "level": 1,
        "loud": True,
        "day": "2026-01-31",
        "moment": "2026-01-31T06:00:00Z",
        "local": "2026-01-31T07:00:00",
        "items": [{"name": "a", "amount": 2}],
        "anything": None,
    }
    assert (job.state, job.due_at, job.unique_key, job.created_by) == (State.SCHEDULED, LATER, "one of a kind", "ana")
    again = await ana.send("/enqueue", **fields)
    assert job_at(again.headers["location"]) == job.id  # the unique key has its job


async def test_faults_stand_at_their_fields_by_path(ana: Visitor, database: Database) -> None:
    await ana.open("/enqueue?kind=pages.every")
    page = await ana.send(
        "/enqueue",
        kind="pages.every",
        **{"args.text": "<kept>", "args.count": "11", "json-args": '{"items": [{"name": "a", "amount": 0}, {"amount": 1}]}'},
    )
    assert page.status_code == 422
    text = unescape(page.text)
    assert "Input should be less than or equal to 10" in text
    assert "items.0.amount: Input should be greater than or equal to 1" in text
    assert "items.1.name: Field required" in text
    assert 'id="error-json-args"' in page.text
    assert 'value="&lt;kept&gt;"' in page.text
    page = await ana.send("/enqueue", kind="pages.every", **{"args.count": "1", "json-args": "{", "run_at": "soon"})
    assert page.status_code == 422
    page = await ana.send(
        "/enqueue", kind="pages.every", **{"args.text": "x", "args.count": "1", "run_at": "1999-13-01T00:00"}
    )
    assert 'id="error-run_at"' in page.text
    assert (await ana.send("/enqueue", kind="pages.nothing")).status_code == 422
    assert (await ana.open("/enqueue?kind=pages.nothing")).status_code == 422


async def test_a_secret_that_was_typed_does_not_come_back(ana: Visitor, client: Client, database: Database) -> None:
    page = await ana.open("/enqueue?kind=pages.secretive")
    assert 'type="password" name="args.password"' in page.text
    page = await ana.send("/enqueue", kind="pages.secretive", **{"args.password": SECRET, "json-args": '{"hints": [1]}'})
    assert page.status_code == 422
    assert SECRET not in page.text
    answer = await ana.send("/enqueue", kind="pages.secretive", **{"args.user": "ana", "args.password": SECRET})
    job_id = job_at(answer.headers["location"])
    assert SECRET in await stored(database, job_id)
    assert (await client.get(job_id)).args["password"] == REDACTED


async def test_a_viewer_enqueues_nothing(vic: Visitor) -> None:
    assert (await vic.open("/enqueue")).status_code == 403
    await vic.open("/jobs")
    assert (await vic.send("/enqueue", kind="pages.every", **{"args.text": "x", "args.count": "1"})).status_code == 403


async def test_edit_and_run_makes_a_new_job_that_knows_its_origin(ana: Visitor, client: Client) -> None:
    old = (await client.enqueue(every(text='say "hi" & <go>', note=None, moment="2026-01-01T00:00:00Z"))).id
    page = await ana.open(f"/jobs/{old}/edit")
    assert 'value="say &#34;hi&#34; &amp; &lt;go&gt;"' in page.text
    fields = {"args.text": "changed", "args.count": "4", "json-args": '{"note": null}', "run_at": "2031-01-01T06:00"}
    answer = await ana.send(f"/jobs/{old}/edit", **fields)
    new = job_at(answer.headers["location"])
    assert new != old
    job = await client.get(new)
    assert (job.args["text"], job.args["count"], job.args["note"], job.due_at) == ("changed", 4, None, LATER)
    assert (await client.get(old)).args["count"] == 3
    page = await ana.open(f"/jobs/{new}")
    assert f'href="/jobs/{old}"' in page.text
    assert "edit and run" in (await ana.open(f"/audit?target={new}")).text


async def test_edit_keeps_or_replaces_secrets(ana: Visitor, client: Client, database: Database) -> None:
    old = (
        await client.enqueue(Secretive.model_validate({"user": "ana", "password": SECRET, "hints": [{"pet": SECRET}]}))
    ).id
    page = await ana.open(f"/jobs/{old}/edit")
    assert SECRET not in page.text
    assert "keep stored value" in page.text
    hints = f'{{"hints": [{{"pet": "{REDACTED}"}}]}}'
    kept = {"args.user": "ben", "secret.password": "keep", "args.password": "", "json-args": hints}
    answer = await ana.send(f"/jobs/{old}/edit", **kept)
    assert (await stored(database, job_at(answer.headers["location"]))).count(SECRET) == 2
    answer = await ana.send(f"/jobs/{old}/edit", **(kept | {"secret.password": "replace", "args.password": "another"}))
    text = await stored(database, job_at(answer.headers["location"]))
    assert text.count(SECRET) == 1
    assert '"another"' in text
    refused = await ana.send(f"/jobs/{old}/edit", **(kept | {"args.password": "filled in by the browser"}))
    assert refused.status_code == 422
    assert "filled in by the browser" not in refused.text


async def test_editing_an_older_version_is_brought_to_today(ana: Visitor, client: Client, database: Database) -> None:
    async with database.connection() as connection:
        job_id = (await client.enqueue(every())).id
        await connection.execute(
            "update carafe.jobs set kind = 'pages.old', version = 1, args = '{\"old_name\": 1}' where id = $1", job_id
        )
    page = await ana.open(f"/jobs/{job_id}/edit")
    assert 'name="json-args"' in page.text
    answer = await ana.send(f"/jobs/{job_id}/edit", **{"json-args": '{"old_name": 5}'})
    assert (await client.get(job_at(answer.headers["location"]))).args == {"new_name": 5}
    assert (await ana.send(f"/jobs/{job_id}/edit", **{"json-args": "{"})).status_code == 422
    assert (await ana.send(f"/jobs/{job_id}/edit", **{"json-args": '{"other": 5}'})).status_code == 422
