"""What became of a job whose worker was lost is said in the same words on the page, in the HTTP API and by the command, and
it is true."""

import html
import re
from pathlib import Path

import httpx
from fastapi import FastAPI

from carafe import Client
from carafe.settings.settings import Settings
from carafe.steward import Steward
from carafe.web import mount_jobs_api
from tests.cli.conftest import process
from tests.dashboard.visiting import Visitor
from tests.jobs.by_hand import ByHand
from tests.steward.conftest import announce
from tests.web.kinds_for_tests import Resize


async def test_a_lost_worker_is_told_in_the_same_words_everywhere(
    client: Client, settings: Settings, ana: Visitor, tmp_path: Path
) -> None:
    lost = ByHand(client.database)
    await announce(lost, concurrency=2)
    jobs = [job.id for job in await client.enqueue_many([Resize(width=1)] * 3)]
    for job in jobs:
        await lost.claim(job)
    async with client.database.connection() as connection:
        await connection.execute("update carafe.workers set state = 'lost', stopped_at = now() where id = $1", lost.id)
    await Steward(client.database, client.queue, name="by hand").rescuer.round()
    await announce(ByHand(client.database), kinds=[Resize.job_options.kind])

    application = FastAPI()
    mount_jobs_api(application, client, settings)
    api = httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://localhost")

    async def told(job: object) -> list[str]:
        """What the three say of a job, each as one text."""
        page = re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", "", (await ana.open(f"/jobs/{job}")).text)))
        command = process(
            "jobs", "show", str(job), folder=tmp_path, DATABASE_URL=client.database.url, REDIS_URL=settings_redis(settings)
        )
        return [page, (await api.get(f"/api/v1/jobs/{job}")).text, command.out]

    suspect = "Its worker was lost, so this job now waits to run in a process of its own"
    interrupted = "its worker was lost, and no attempt is spent"
    for job in jobs[:2]:  # the worker had two slots: these may have been running
        for text in await told(job):
            assert suspect in text
            assert interrupted in text.lower()
            assert "attempt 1 started" not in text.lower()
            assert "worker lost: by hand: its process has ended" in text
    for text in await told(jobs[2]):  # never begun
        assert "lost" not in text
        assert "attempt 1 started" not in text.lower()
        assert "waits to run" not in text

    owner = ByHand(client.database, "owner")
    [claim] = await owner.claim(jobs[0])
    for text in await told(jobs[0]):
        assert interrupted in text.lower()
        assert "attempt 1 started" not in text.lower()  # claimed: whether it has begun, its worker knows
    await owner.fail(claim, final=True)
    for text in await told(jobs[0]):
        assert re.search(r"attempt 1 failed after \S+ s: valueerror", text.lower())
        assert interrupted in text.lower()
    assert "attempt 1 started on owner" in (await told(jobs[0]))[0]
    await api.aclose()


def settings_redis(settings: Settings) -> str:
    assert settings.redis_url is not None
    return settings.redis_url.get_secret_value()
