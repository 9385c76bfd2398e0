"""The page at /docs in a browser: Swagger UI works under the policy that lets it load nothing from elsewhere."""

from playwright.async_api import Browser

from app.main import create_app
from briefings.settings import BriefingSettings
from tests.web.conftest import served


async def test_the_document_can_be_read_and_tried_out(database_url: str, redis_url: str, browser: Browser) -> None:
    values = {"database_url": database_url, "redis_url": redis_url, "port": 0, "dashboard_port": 0, "steward": False}
    settings = BriefingSettings.model_validate(values)
    async with served(create_app(settings), settings) as http:
        page = await browser.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        await page.goto(f"{http.base_url}/docs")
        operation = page.locator("#operations-jobs-listQueues")
        await operation.click()
        await operation.get_by_role("button", name="Try it out").click()
        await operation.get_by_role("button", name="Execute").click()
        await operation.locator(".live-responses-table").get_by_text("200").first.wait_for()
        assert said == []
        await page.close()
