"""The handler that writes briefings: it asks the webhook, and returns the answer as the job's result.

The status hook (`briefings.status`) stores the result in the briefing. A failure that may pass (no connection, a timeout, a
status other than success) is an error, so the job is retried. After a 429 it is retried at the time that the header
Retry-After gives.
Must never: put the webhook's secret or the URL's credentials into an error, which is kept in the job's history.
"""

import asyncio
import weakref
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from briefings.jobs import GenerateBriefing
from briefings.settings import BriefingSettings
from briefings.webhook import SECRET_HEADER, WebhookRequest, WebhookResponse
from carafe import Context, Discard, Retry, faults_of, handler, load_settings
from carafe.tracing import calling

if TYPE_CHECKING:
    import httpx

TIMEOUT = 30.0
"""Seconds in which the webhook must answer completely."""

MAX_RESPONSE = 1_000_000
"""The maximum number of bytes of an answer. A longer answer is not read to its end, and is an error."""

MAX_WAIT = 3_600.0
"""The maximum number of seconds that a Retry-After header can make a job wait."""


class WebhookFailed(Exception):
    """The webhook did not answer with a briefing. The text says what happened instead."""


@handler(GenerateBriefing)
async def generate(job: GenerateBriefing, ctx: Context) -> WebhookResponse:
    """Ask the webhook for the briefing's content."""
    topic = await _topic(job, ctx)
    return await _ask(WebhookRequest(briefing_id=job.briefing_id, topic=topic))


async def _topic(job: GenerateBriefing, ctx: Context) -> str:
    # Imported late: SQLAlchemy's mapper takes over half a second that a starting worker does not have.
    from briefings.model import Briefing

    async with ctx.database.sessions()() as session:
        briefing = await session.get(Briefing, job.briefing_id)
    if briefing is None:
        raise Discard(f"briefing {job.briefing_id} was deleted")
    return briefing.topic


async def _ask(question: WebhookRequest) -> WebhookResponse:
    import httpx

    settings = _settings()
    secret = settings.briefing_webhook_secret
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if secret is not None:
        headers[SECRET_HEADER] = secret.get_secret_value()
    body = question.model_dump_json().encode()
    try:
        # httpx bounds each read by itself; a webhook that drips must not outlast the whole.
        async with asyncio.timeout(TIMEOUT):
            with calling("POST", webhook_url(settings)) as call:
                headers.update(call.headers)
                async with _client().stream("POST", webhook_url(settings), content=body, headers=headers) as response:
                    call.answered(response.status_code)
                    answer = await _read(response)
    except (TimeoutError, httpx.TimeoutException):
        raise WebhookFailed(f"webhook did not answer within {TIMEOUT:g} s") from None
    except httpx.HTTPError as error:
        raise WebhookFailed(f"webhook cannot be reached: {type(error).__name__}: {error}") from None
    if response.status_code == 429:
        raise Retry("webhook answered 429: too many requests", after=retry_after(response.headers.get("Retry-After")))
    if not response.is_success:
        raise WebhookFailed(f"webhook answered {response.status_code}: {_excerpt(answer, secret_of(settings))}")
    try:
        return WebhookResponse.model_validate_json(answer)
    except ValidationError as error:
        faults = "; ".join(f"{fault.path}: {fault.message}".lstrip(": ") for fault in faults_of(error))
        raise WebhookFailed(
            f"webhook answered {response.status_code} with something other than a briefing: {faults}"
        ) from None


async def _read(response: "httpx.Response") -> bytes:
    answer = bytearray()
    async for chunk in response.aiter_bytes():
        answer += chunk
        if len(answer) > MAX_RESPONSE:
            raise WebhookFailed(f"webhook answered {response.status_code} with more than {MAX_RESPONSE:,} bytes")
    return bytes(answer)


def webhook_url(settings: BriefingSettings) -> str:
    """Returns the webhook's URL: BRIEFING_WEBHOOK_URL, or, if it is not set, the sample webhook of the local web process."""
    if settings.briefing_webhook_url is not None:
        return settings.briefing_webhook_url.get_secret_value()
    return f"http://127.0.0.1:{settings.port}/sample-webhook"


def secret_of(settings: BriefingSettings) -> str | None:
    """Returns the webhook's secret as plain text, so that it can be removed from error texts; None if there is none."""
    secret = settings.briefing_webhook_secret
    return None if secret is None else secret.get_secret_value()


def retry_after(header: str | None) -> float | None:
    """Returns the seconds that a Retry-After header asks to wait, up to `MAX_WAIT`.

    The header has seconds or an HTTP date (RFC 9110, section 10.2.3). Returns None if it is missing or cannot be read.
    """
    if header is None:
        return None
    if header.strip().isdecimal():
        return min(float(header), MAX_WAIT)
    try:
        moment = parsedate_to_datetime(header)
        return min(max(0.0, moment.timestamp() - _now()), MAX_WAIT)
    except (ValueError, OverflowError):
        return None


def _now() -> float:
    import time

    return time.time()


def _excerpt(answer: bytes, secret: str | None) -> str:
    """Returns one line of an answer for an error message: its `detail` if it is a problem (RFC 9457), else its start."""
    text = answer[:4_000].decode("utf-8", "replace")
    try:
        text = _ProblemDetail.model_validate_json(answer).detail or text
    except ValidationError:
        pass
    if secret:
        text = text.replace(secret, "***")  # an echoing webhook must not put it into the job's history
    text = "".join(character if character.isprintable() else "?" for character in " ".join(text.split()))
    return text[:300] + ("…" if len(text) > 300 else "") or "an empty body"


class _ProblemDetail(BaseModel):
    detail: str


@cache
def _settings() -> BriefingSettings:
    return load_settings(BriefingSettings)


# One connection pool a loop: a worker has one, and tests have several.
_clients: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient]" = weakref.WeakKeyDictionary()


def _client() -> "httpx.AsyncClient":
    loop = asyncio.get_running_loop()
    client = _clients.get(loop)
    if client is None:
        import httpx

        # As many connections as there can be jobs; waiting for one would eat the timeout.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        client = _clients[loop] = httpx.AsyncClient(timeout=TIMEOUT, limits=limits, follow_redirects=False)
    return client
