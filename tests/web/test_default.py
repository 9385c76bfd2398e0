"""The web application that is served while WEB_APPLICATION does not name another."""

import httpx

from carafe.serving import load_application
from carafe.settings.settings import Settings
from tests.web.conftest import served


async def test_without_an_application_of_ones_own_the_job_api_is_served(database_url: str, redis_url: str) -> None:
    settings = Settings.model_validate(
        {
            "database_url": database_url,
            "redis_url": redis_url,
            "port": 0,
            "steward": False,
            "job_modules": "tests.jobs.kinds",
        }
    )
    async with served(load_application(settings), settings) as http:
        start = await http.get("/")
        assert (start.status_code, start.headers["Location"]) == (307, "docs")
        assert (await http.get("/health")).json()["status"] == "ok"
        accepted = await http.post("/api/v1/jobs", json={"kind": "tests.greet", "args": {"name": "Ada"}})
        assert accepted.status_code == httpx.codes.ACCEPTED, accepted.text
