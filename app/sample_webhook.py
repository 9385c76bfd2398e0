"""A webhook that writes briefings, for development: served by the web process while BRIEFING_WEBHOOK_URL is unset.

It answers after a short delay, and can be told to fail or to stall, for trying out retries, timeouts and the dead
letter queue. What it was told is kept in memory, and lost with the process.
"""

import asyncio
from hmac import compare_digest
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from briefings.webhook import SECRET_HEADER, WebhookRequest, WebhookResponse
from carafe.settings import Settings
from carafe.web.authentication import Operator, Viewer
from carafe.web.bodies import reads
from carafe.web.installation import SettingsOf
from carafe.web.openapi import problems, request_body
from carafe.web.problems import ProblemError

DELAYS = {"ok": 1.0, "fail": 0.2, "stall": 120.0}
"""Seconds until each mode answers, unless told otherwise."""


class Behaviour(BaseModel):
    """How the sample webhook answers."""

    model_config = ConfigDict(extra="forbid")

    mode: Literal["ok", "fail", "stall"] = Field(
        description="ok: writes a briefing; fail: answers 500; stall: answers 503 after longer than anybody waits."
    )
    delay: float | None = Field(
        None, ge=0, le=600, strict=True, description="Seconds until it answers; by itself 1 (ok), 0.2 (fail), 120 (stall)."
    )


def create_router() -> APIRouter:
    """The webhook and the switch of its behaviour."""
    router = APIRouter(tags=["sample webhook"])
    behaviour = Behaviour(mode="ok")

    @router.get("/sample-webhook/behaviour", operation_id="getSampleWebhookBehaviour", responses=problems(401, 403))
    async def get_behaviour(caller: Viewer) -> Behaviour:
        """How the sample webhook answers now."""
        return behaviour

    @router.put(
        "/sample-webhook/behaviour",
        operation_id="setSampleWebhookBehaviour",
        responses=problems(400, 401, 403, 413, 415, 422),
        openapi_extra=request_body(Behaviour, fails={"mode": "fail"}, stalls={"mode": "stall"}, works={"mode": "ok"}),
    )
    async def set_behaviour(caller: Operator, wanted: Annotated[Behaviour, Depends(reads(Behaviour))]) -> Behaviour:
        """Let it work, fail or stall from the next request on."""
        nonlocal behaviour
        behaviour = wanted
        return behaviour

    @router.post(
        "/sample-webhook",
        operation_id="askSampleWebhook",
        responses={
            500: {"description": "Told to fail."},
            **problems(400, 401, 413, 415, 422, 503),
        },
        openapi_extra=request_body(WebhookRequest),
        dependencies=[Depends(_check_secret)],
    )
    async def write(
        request: Request, question: Annotated[WebhookRequest, Depends(reads(WebhookRequest))]
    ) -> WebhookResponse:
        """Writes a briefing of sorts about the topic."""
        told = behaviour
        await _pause(request, DELAYS[told.mode] if told.delay is None else told.delay)
        if told.mode == "fail":
            raise ProblemError(500, "sample-webhook-fails", "the sample webhook was told to fail")
        if told.mode == "stall":
            raise ProblemError(503, "sample-webhook-stalls", "the sample webhook was told to stall")
        return WebhookResponse(content=_briefing(question.topic))

    return router


def _check_secret(request: Request, settings: SettingsOf) -> None:
    secret = _secret(settings)
    if secret and not compare_digest(request.headers.get(SECRET_HEADER, "").encode(), secret.encode()):
        raise ProblemError(401, "unauthorized", f"the header {SECRET_HEADER} does not carry the secret")


def _secret(settings: Settings) -> str | None:
    secret = settings.briefing_webhook_secret
    return None if secret is None else secret.get_secret_value()


async def _pause(request: Request, seconds: float) -> None:
    """Wait, but not longer than the caller does: a stalled request must not hold up the end of the process."""
    try:
        async with asyncio.timeout(seconds):
            while (await request.receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        pass


def _briefing(topic: str) -> str:
    return (
        f"Briefing: {topic}\n\n"
        f"This is the sample webhook speaking. A real one would now tell you what is new about {topic}, "
        "what it means, and what to watch next.\n\n"
        "Set BRIEFING_WEBHOOK_URL to use yours."
    )
