"""The handler of briefings against a webhook that answers in every way: what it returns, raises, and never says."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest
from fastapi import FastAPI, Request, Response

from briefings.jobs import GenerateBriefing
from briefings.model import Briefing
from briefings.settings import BriefingSettings
from briefings.webhook import WebhookResponse
from carafe import Context, Discard, Retry
from carafe.store.database import Database
from tests.web.conftest import served
from tests.web.test_problems import closed_port
from worker.handlers import briefings as handler

SECRET = "hunter2"


class Webhook:
    """A webhook that answers as the test says, and keeps what it was asked."""

    def __init__(self) -> None:
        self.status, self.body, self.headers = 200, b'{"content": "Coffee is up."}', dict[str, str]()
        self.asked: list[dict[str, Any]] = []
        self.secrets: list[str | None] = []
        self.application = FastAPI()

        @self.application.post("/write")
        async def write(request: Request) -> Response:
            self.asked.append(await request.json())
            self.secrets.append(request.headers.get("X-Webhook-Secret"))
            return Response(self.body, self.status, self.headers, "application/json")


@pytest.fixture
async def webhook(settings: BriefingSettings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Webhook]:
    """A webhook that the handler's settings name."""
    webhook = Webhook()
    async with served(webhook.application, settings) as http:
        monkeypatch.setenv("BRIEFING_WEBHOOK_URL", f"{http.base_url}/write".replace("//write", "/write"))
        monkeypatch.setenv("BRIEFING_WEBHOOK_SECRET", SECRET)
        handler._settings.cache_clear()
        yield webhook
    handler._settings.cache_clear()


@pytest.fixture(scope="module")
async def briefing(database: Database) -> Briefing:
    """A briefing to write."""
    async with database.sessions()() as session, session.begin():
        session.add(briefing := Briefing(topic="Coffee prices"))
    return briefing


async def write(database: Database, briefing: Briefing) -> WebhookResponse:
    ctx = cast(Context, SimpleNamespace(database=database))
    return await handler.generate(GenerateBriefing(briefing_id=briefing.id), ctx)


async def test_the_webhook_s_answer_is_the_result(webhook: Webhook, database: Database, briefing: Briefing) -> None:
    assert await write(database, briefing) == WebhookResponse(content="Coffee is up.")
    assert webhook.asked == [{"briefing_id": str(briefing.id), "topic": "Coffee prices"}]
    assert webhook.secrets == [SECRET]


@pytest.mark.parametrize("status", [400, 401, 404, 500, 503, 301])
async def test_another_status_is_an_error_that_says_so(
    webhook: Webhook, database: Database, briefing: Briefing, status: int
) -> None:
    webhook.status, webhook.body = status, f"the secret is {SECRET},\n and I am sorry".encode()
    with pytest.raises(handler.WebhookFailed) as failed:
        await write(database, briefing)
    assert str(failed.value) == f"webhook answered {status}: the secret is ***, and I am sorry"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"title": "Sorry", "detail": "no paper\\nleft"}', "no paper left"),
        (b'{"error": "no"}', '{"error": "no"}'),
        (b"", "an empty body"),
        (b"\xff" * 400, "\ufffd" * 300 + "…"),
    ],
)
async def test_the_error_says_what_the_webhook_said(
    webhook: Webhook, database: Database, briefing: Briefing, body: bytes, words: str
) -> None:
    webhook.status, webhook.body = 500, body
    with pytest.raises(handler.WebhookFailed) as failed:
        await write(database, briefing)
    assert str(failed.value) == f"webhook answered 500: {words}"


async def test_too_many_requests_says_when(webhook: Webhook, database: Database, briefing: Briefing) -> None:
    webhook.status, webhook.headers = 429, {"Retry-After": "17"}
    with pytest.raises(Retry) as again:
        await write(database, briefing)
    assert again.value.after == 17


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"{}", b'{"content": ""}', b'{"content": "  "}', b'{"content": 7}', b'{"content": "a\\u0000"}'],
)
async def test_an_answer_that_is_no_briefing_is_an_error(
    webhook: Webhook, database: Database, briefing: Briefing, body: bytes
) -> None:
    webhook.body = body
    with pytest.raises(handler.WebhookFailed, match="webhook answered 200 with something other than a briefing"):
        await write(database, briefing)


async def test_an_endless_answer_is_cut_off(webhook: Webhook, database: Database, briefing: Briefing) -> None:
    webhook.body = b" " * (handler.MAX_RESPONSE + 1)
    with pytest.raises(handler.WebhookFailed, match="more than 1,000,000 bytes"):
        await write(database, briefing)


async def test_a_webhook_that_is_not_there_is_an_error(
    webhook: Webhook, database: Database, briefing: Briefing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRIEFING_WEBHOOK_URL", f"http://user:{SECRET}@127.0.0.1:{closed_port()}/")
    with pytest.raises(handler.WebhookFailed, match="webhook cannot be reached: ConnectError") as failed:
        await write(database, briefing)
    assert SECRET not in str(failed.value)


async def test_a_briefing_deleted_meanwhile_is_discarded(webhook: Webhook, database: Database) -> None:
    with pytest.raises(Discard, match="was deleted"):
        await write(database, Briefing(id=uuid4()))
    assert webhook.asked == []


@pytest.mark.parametrize(
    ("header", "wait"),
    [(None, None), ("", None), ("soon", None), ("0", 0), ("90", 90), ("999999", handler.MAX_WAIT), ("-5", None)],
)
def test_retry_after_in_seconds(header: str | None, wait: float | None) -> None:
    assert handler.retry_after(header) == wait


def test_retry_after_as_a_date() -> None:
    now = datetime.now(UTC)
    wait = handler.retry_after(format_datetime(now + timedelta(minutes=5), usegmt=True))
    assert wait is not None
    assert 200 < wait <= 300
    assert handler.retry_after(format_datetime(now - timedelta(minutes=5), usegmt=True)) == 0


def test_without_a_url_the_sample_webhook_is_asked() -> None:
    assert handler.webhook_url(BriefingSettings(port=8123)) == "http://127.0.0.1:8123/sample-webhook"
