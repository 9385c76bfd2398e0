"""The list of jobs, a job's page and their actions, over HTTP as a browser without JavaScript uses them."""

import random
import re
import subprocess
from collections.abc import Mapping
from html import unescape
from urllib.parse import parse_qs, quote, urlsplit
from uuid import UUID, uuid4

import orjson
import pytest

from carafe import Client, State
from carafe.jobs.definition import REDACTED
from carafe.readmodel.jobview import versions
from carafe.store.database import Database
from tests.dashboard.conftest import PASSWORDS, Open
from tests.dashboard.ended import dead, every
from tests.dashboard.kinds_of_pages import LATER, Marked, Secretive
from tests.dashboard.visiting import Visitor
from tests.web.rows import claim, succeed

pytestmark = pytest.mark.anyio

SECRET = "s3cr3t-of-the-tests"


async def state_of(client: Client, job_id: UUID) -> State:
    return (await client.get(job_id)).state


def copied(page: str, label: str) -> str:
    """A command that the page offers to be copied."""
    found = re.search(rf'<pre [^>]*aria-label="{label}">(.*?)</pre>', page, re.DOTALL)
    assert found
    return unescape(found[1])


async def test_a_kept_trace_is_linked_and_another_only_named(opened: Open, database: Database) -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    async with opened(trace_url_template="https://traces.example/{trace_id}?view=1") as served:
        visitor = served.visitor()
        await visitor.sign_in("ana", PASSWORDS["ana"])
        for flags, linked in (("01", True), ("00", False)):
            job_id = (await served.dashboard.client.enqueue(every())).id
            async with database.connection() as connection:
                text = f"00-{trace_id}-00f067aa0ba902b7-{flags} carafe=00f067aa0ba902b8"
                await connection.execute("update carafe.jobs set trace = $2 where id = $1", job_id, text)
            page = (await visitor.open(f"/jobs/{job_id}")).text
            assert f">{trace_id}<" in page
            assert ('href="https://traces.example/' + trace_id + '?view=1"' in page) is linked
            assert "carafe=00f067aa0ba902b8" not in page


# -- the list


async def test_the_list_shows_the_beginning_of_the_arguments_without_secrets(ana: Visitor, client: Client) -> None:
    noise = random.Random(1).randbytes(50_000).hex()
    said = (await client.enqueue(Secretive(user="ana <i>", password=SECRET), run_at=LATER)).id
    long, half = [(await client.enqueue(Marked(value=value), run_at=LATER)).id for value in (noise, "y" * 1_000)]
    page = (await ana.open("/jobs?state=scheduled")).text
    rows = {
        job: unescape(re.search(rf'data-key="{job}".*?class="beginning">(.*?)</td>', page, re.DOTALL)[1])  # type: ignore[index]
        for job in (said, long, half)
    }
    assert 'user: "ana <i>"' in rows[said]
    assert REDACTED in rows[said]
    assert SECRET not in page
    assert "long" in rows[long]
    assert noise[:20] not in page
    assert rows[half].startswith('value: "yyyy')
    assert len(rows[half]) == 200


async def test_tabs_and_chips_stand_in_the_address(ana: Visitor, client: Client, database: Database) -> None:
    job_id = await dead(client, database, every(text="tabs"), kind="TabError", fingerprint="tabs")
    page = await ana.open("/jobs?state=dead&error_class=TabError")
    assert page.status_code == 200
    assert str(job_id) in page.text
    assert "TabError" in page.text
    assert '/jobs?state=queued&amp;error_class=TabError"' in page.text  # another tab keeps the filter
    other = await ana.open("/jobs?state=dead&error_class=Another")
    assert str(job_id) not in other.text
    assert "Nothing matches" in other.text


async def test_what_a_form_leaves_empty_does_not_stand_in_the_address(ana: Visitor) -> None:
    answer = await ana.open("/jobs?kind=pages.every&error_class=&since=2026-01-01T00:00:00&until=")
    assert answer.status_code == 303
    query = parse_qs(urlsplit(answer.headers["location"]).query)
    assert query == {"kind": ["pages.every"], "since": ["2026-01-01T00:00:00Z"]}


@pytest.mark.parametrize(
    "query",
    ["args.tag=", "q=args.tag:", "args.tag=+&kind=", "args.a:b=&q=", "q=+&search=", "cursor=", "nothing=", "kind=&args.=x"],
)
async def test_a_redirect_of_the_list_ends_at_the_address_it_leads_to(ana: Visitor, query: str) -> None:
    answer = await ana.open(f"/jobs?{query}")
    if answer.status_code == 303:
        answer = await ana.open(answer.headers["location"])
    assert answer.status_code in (200, 422)


async def test_an_argument_is_searched_for_by_its_empty_value(ana: Visitor, client: Client) -> None:
    empty, full = [(await client.enqueue(every(text=text))).id for text in ("", "full")]
    page = await ana.open("/jobs?state=queued&args.text=")
    assert (str(empty) in page.text, str(full) in page.text) == (True, False)


async def test_searching_for_an_id_opens_the_job(ana: Visitor, client: Client) -> None:
    job_id = (await client.enqueue(every())).id
    answer = await ana.open(f"/jobs?q={job_id}&state=dead")
    assert answer.status_code == 303
    assert answer.headers["location"] == f"/jobs/{job_id}"
    missing = await ana.open(f"/jobs?q={uuid4()}")
    assert missing.status_code == 404
    assert "never existed" in missing.text


async def test_searching_for_an_argument_or_an_error(ana: Visitor, client: Client, database: Database) -> None:
    waiting = (await client.enqueue(every(text="needle"))).id
    answer = await ana.open("/jobs?q=args.text:needle")
    page = await ana.open(answer.headers["location"])
    assert str(waiting) in page.text
    failed = await dead(client, database, every(), error="the disk of node 7 is full")
    answer = await ana.open(f"/jobs?q={quote('DISK of node')}")
    page = await ana.open(answer.headers["location"])
    assert str(failed) in page.text
    assert str(waiting) not in page.text


async def test_a_filter_that_is_none_is_said_so(ana: Visitor) -> None:
    page = await ana.open("/jobs?worker=nobody")
    assert page.status_code == 422
    assert "worker: must be a UUID" in page.text
    assert (await ana.open("/jobs?cursor=nonsense")).status_code == 422


async def test_pages_of_the_list_follow_each_other(ana: Visitor, client: Client) -> None:
    ids = {str(one.id) for one in await client.enqueue_many([every(text=f"page {n}") for n in range(120)])}
    seen: list[str] = []
    path = "/jobs?state=queued&kind=pages.every"
    while path:
        page = await ana.open(path)
        seen += re.findall(r'<tr data-key="([^"]+)"', page.text)
        link = re.search(r'href="([^"]+)" rel="next"', page.text)
        path = unescape(link[1]) if link else ""
    assert len(seen) == len(set(seen))
    assert ids <= set(seen)


async def test_a_fragment_is_the_live_part_alone(ana: Visitor) -> None:
    whole = await ana.open("/jobs")
    part = await ana.open("/jobs", **{"X-Fragment": "1"})
    assert "<html" in whole.text
    assert "<html" not in part.text
    assert 'id="fragment-jobs"' in part.text


# -- one job


async def test_a_job_that_is_none(ana: Visitor) -> None:
    page = await ana.open(f"/jobs/{uuid4()}")
    assert page.status_code == 404
    assert "No such job" in page.text
    assert (await ana.open("/jobs/nonsense")).status_code == 422


async def test_retry_cancel_run_now_and_discard(ana: Visitor, client: Client, database: Database) -> None:
    job_id = await dead(client, database, every())
    page = await ana.open(f"/jobs/{job_id}")
    assert "Traceback of it broke" in page.text
    refused = await ana.send(f"/jobs/{job_id}/discard", reason=" ")
    assert refused.status_code == 303
    assert "Nothing was done" in (await ana.open(f"/jobs/{job_id}")).text
    assert (await ana.send(f"/jobs/{job_id}/discard", reason="given up")).status_code == 303
    page = await ana.open(f"/jobs/{job_id}")
    assert "given up" in page.text
    assert "resolved" in page.text
    assert (await ana.send(f"/jobs/{job_id}/retry")).headers["location"] == f"/jobs/{job_id}"
    assert await state_of(client, job_id) is State.QUEUED
    assert "retried by ana" in (await ana.open(f"/jobs/{job_id}")).text
    assert (await ana.send(f"/jobs/{job_id}/cancel", reason="no longer wanted")).status_code == 303
    assert await state_of(client, job_id) is State.CANCELLED
    later = (await client.enqueue(every(), run_at=LATER)).id
    await ana.open(f"/jobs/{later}")
    await ana.send(f"/jobs/{later}/run_now")
    assert await state_of(client, later) is State.QUEUED
    audit = await ana.open(f"/audit?target={job_id}")
    assert "given up" in audit.text
    assert "no longer wanted" in audit.text


async def test_what_is_not_possible_is_refused_in_words(ana: Visitor, client: Client) -> None:
    job_id = (await client.enqueue(every())).id
    await ana.open(f"/jobs/{job_id}")
    answer = await ana.send(f"/jobs/{job_id}/retry")
    assert answer.status_code == 409
    assert "cannot be retried" in answer.text


async def test_a_viewer_sees_everything_and_cannot_act(vic: Visitor, client: Client, database: Database) -> None:
    job_id = await dead(client, database, every(text="seen by vic"))
    page = await vic.open(f"/jobs/{job_id}")
    assert "seen by vic" in page.text
    assert f"/jobs/{job_id}/retry" not in page.text
    assert (await vic.send(f"/jobs/{job_id}/retry")).status_code == 403
    assert (await vic.open(f"/jobs/{job_id}/edit")).status_code == 403
    assert 'name="selected"' not in (await vic.open("/jobs?state=dead")).text
    assert await state_of(client, job_id) is State.DEAD


async def test_markup_is_shown_as_text_on_every_page(ana: Visitor, client: Client, database: Database) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    job_id = await dead(
        client, database, Marked(value={evil: [evil]}), error=evil, kind="<i>Evil</i>", fingerprint="<u>print</u>"
    )
    done = (await client.enqueue(Marked(value=evil), unique_key=evil)).id
    await succeed(database, await claim(database, done, "<b>pages.marked</b>"), orjson.dumps({"content": evil}).decode())
    async with database.connection() as connection:
        await connection.execute(
            "insert into carafe.job_logs (failed, job_id, fence, attempt, first, last, times, levels, texts) "
            "values (true, $1, 1, 1, 1, 1, array[now()], array['info'], array[$2])",
            job_id,
            evil,
        )
    await ana.open(f"/jobs/{job_id}")
    await ana.send(f"/jobs/{done}/cancel", reason=evil)
    await client.discard(await dead(client, database, Marked(), error=evil), reason=evil, by=None)
    started = await ana.send("/bulk", action="cancel", kind="<b>pages.marked</b>", reason=evil)
    pages = [
        "/jobs",
        f"/jobs?{'&'.join(('error_class=' + quote('<i>Evil</i>'), 'args.value=' + quote(evil)))}",
        f"/jobs/{job_id}",
        f"/jobs/{done}",
        f"/jobs/{job_id}/edit",
        "/dead",
        f"/dead/group?kind={quote('<b>pages.marked</b>')}&fingerprint={quote('<u>print</u>')}&probe={job_id}",
        "/enqueue",
        f"/enqueue?kind={quote('<b>pages.marked</b>')}",
        "/bulk",
        started.headers["location"],
        f"/bulk/new?action=retry&kind={quote('<b>pages.marked</b>')}",
        "/audit",
        f"/audit?target={quote(evil)}",
    ]
    seen = 0
    for path in pages:
        page = await ana.open(path)
        assert page.status_code == 200, path
        for markup in ("<script>alert", "<img src=x", "<i>Evil", "<u>print", "<b>pages.marked"):
            assert markup not in page.text, f"{markup} on {path}"
        seen += "&lt;script&gt;alert" in page.text
    assert seen >= 8
    logs = (await ana.open(f"/jobs/{job_id}")).text
    assert "&lt;img src=x onerror=alert(2)&gt;" in logs


async def test_a_secret_is_on_no_page(ana: Visitor, client: Client, database: Database) -> None:
    job = Secretive(user="ana", password=SECRET, hints=[{"pet": SECRET}])
    job_id = await dead(client, database, job, error="login failed")
    for path in ("/jobs", f"/jobs/{job_id}", f"/jobs/{job_id}/edit", "/audit", "/dead", f"/jobs?q=args.password:{SECRET}"):
        page = await ana.open(path)
        assert SECRET not in page.text.replace(f"password:{SECRET}", ""), path
    assert REDACTED in (await ana.open(f"/jobs/{job_id}")).text
    found = await ana.open(f"/jobs?args.password={SECRET}")
    assert str(job_id) not in found.text


# -- where a running job is


async def test_where_a_running_job_is_can_be_asked_and_is_shown(
    ana: Visitor, vic: Visitor, client: Client, database: Database
) -> None:
    job_id = (await client.enqueue(every())).id
    await claim(database, job_id, "pages.every")
    asked = (await ana.open(f"/jobs/{job_id}")).text
    assert "Show stack" in asked
    head, now = re.findall(r'<time datetime="[^"]+" title="since [^"]+" data-time="elapsed">[^<]+</time>', asked)
    assert head == now, "the timeline counts as the head of the page does"
    assert f'<span class="moment-at">now</span> <span class="moment-text">running for {now}</span></li>' in asked
    await vic.open(f"/jobs/{job_id}")
    assert (await vic.send(f"/jobs/{job_id}/stack")).status_code == 403
    await ana.open(f"/jobs/{job_id}")
    answer = await ana.send(f"/jobs/{job_id}/stack")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/jobs/{job_id}")
    assert "has not answered yet" in (await ana.open(f"/jobs/{job_id}")).text
    before = (await served_versions(client, job_id))[job_id]
    async with database.connection() as connection:
        await connection.execute(
            "update carafe.stacks set answered_at = now(), lines = $2 where job_id = $1",
            job_id,
            ["/srv/shop/reports.py:41 in export <b>", "/srv/shop/pages.py:7 in fetch"],
        )
    assert (await served_versions(client, job_id))[job_id] != before, "open pages fetch it"
    for visitor, may_ask in ((ana, True), (vic, False)):
        page = (await visitor.open(f"/jobs/{job_id}")).text
        assert "…/shop/reports.py:41 in export &lt;b&gt;\n…/shop/pages.py:7 in fetch" in page
        assert ("Show stack again" in page) is may_ask
    async with database.connection() as connection:
        await connection.execute("update carafe.jobs set started_at = now() + interval '1 second' where id = $1", job_id)
    assert "reports.py" not in (await ana.open(f"/jobs/{job_id}")).text, "of an attempt before"


async def served_versions(client: Client, job_id: UUID) -> Mapping[UUID, str]:
    async with client.database.connection() as connection:
        return await versions(connection, [job_id])


# -- arguments that are not shown


async def test_arguments_are_shown_to_whom_the_setting_says(opened: Open, client: Client, database: Database) -> None:
    job_id = await dead(client, database, every(text="tell-tale"))
    done = (await client.enqueue(every())).id
    await succeed(database, await claim(database, done, "pages.every"), '{"answer": "tell-tale"}')
    for setting, name, sees in (("operate", "ana", True), ("operate", "vic", False), ("never", "ana", False)):
        async with opened(dashboard_args=setting) as served:
            visitor = served.visitor()
            await visitor.sign_in(name, PASSWORDS[name])
            for path in (f"/jobs/{job_id}", f"/jobs/{done}", "/jobs?state=dead&kind=pages.every"):
                page = await visitor.open(path)
                assert page.status_code == 200
                assert ("tell-tale" in page.text) is sees
            search = await visitor.open("/jobs?q=args.text:tell-tale")
            assert search.status_code == (303 if sees else 403)
            assert (await visitor.open("/jobs?args.text=tell-tale")).status_code == (200 if sees else 403)
            assert (await visitor.open(f"/jobs/{job_id}/edit")).status_code == (200 if sees else 403)
            await visitor.open("/jobs")
            bulk = await visitor.send("/bulk", action="retry", rate="1", **{"args.text": "tell-tale"})
            assert bulk.status_code == (303 if sees else 403)


# -- commands


def words_of(command: str, program: str, **environment: str) -> list[str]:
    """The arguments that a shell gives to `program` for the command."""
    script = f'{program}() {{ for word in "$@"; do printf \'%s\\0\' "$word"; done; }}\n{command}\n'
    ran = subprocess.run(
        ["sh", "-c", script], env={"PATH": "/usr/bin:/bin", **environment}, capture_output=True, check=False
    )
    if ran.returncode:
        raise RuntimeError(ran.stderr.decode())
    return ran.stdout.decode().split("\0")[:-1]


HARD = 'it\'s "quoted" $HOME `id` \\n \\ !! %s\nnew line \x1b[31m ü 🍷 \u202e'


async def test_the_curl_command_gives_the_same_job(ana: Visitor, client: Client) -> None:
    job_id = (await client.enqueue(every(text=HARD, anything={HARD: [1, 2.5, None]}), unique_key="it's one")).id
    page = (await ana.open(f"/jobs/{job_id}")).text
    command = copied(page, "curl command")
    assert "\x1b" not in command
    assert "\u202e" not in command
    words = words_of(command, "curl", CARAFE_TOKEN="t o k e n", CARAFE_URL="https://jobs.example.com")
    assert "https://jobs.example.com/api/v1/jobs" in words
    assert "Authorization: Bearer t o k e n" in words
    body = orjson.loads(words[words.index("--data-raw") + 1])
    job = await client.get(job_id)
    assert body == {"kind": "pages.every", "args": job.args, "unique_key": "it's one"}


async def test_the_carafe_command_gives_the_same_job(ana: Visitor, client: Client) -> None:
    job_id = (await client.enqueue(every(text=HARD))).id
    command = copied((await ana.open(f"/jobs/{job_id}")).text, "carafe command")
    words = words_of(command, "carafe")
    assert words[0] == "enqueue"
    assert words[-1] == "pages.every"
    assert orjson.loads(words[words.index("--json-args") + 1]) == (await client.get(job_id)).args


async def test_a_command_without_its_secrets_refuses_to_run(ana: Visitor, client: Client) -> None:
    job = Secretive(user="ana", password=SECRET, hints=[{"pet": SECRET}])
    job_id = (await client.enqueue(job)).id
    page = (await ana.open(f"/jobs/{job_id}")).text
    for label, program in (("curl command", "curl"), ("carafe command", "carafe")):
        command = copied(page, label)
        with pytest.raises(RuntimeError, match="is not set: the secret goes there"):
            words_of(command, program, CARAFE_TOKEN="t")
        words = words_of(command, program, CARAFE_TOKEN="t", PASSWORD="new 'one'", HINTS_0_PET="cat")
        found = orjson.loads(next(word for word in words if word.startswith("{")))
        args = found.get("args", found)
        assert args == {"user": "ana", "password": "new 'one'", "hints": [{"pet": "cat"}]}
