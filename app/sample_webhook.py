"""A webhook that writes briefings, for development: served by the web process while BRIEFING_WEBHOOK_URL is unset.

The webhook answers after a short delay. It can be told to fail or to stall, to try out retries, timeouts and dead letters.
This behaviour is kept in memory only, and ends with the process.
"""

import asyncio
from hmac import compare_digest
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from briefings.webhook import SECRET_HEADER, WebhookRequest, WebhookResponse
from carafe.web import Operator, ProblemError, Viewer, reads
from carafe.web.openapi import problems, request_body

DELAYS = {"ok": 1.0, "fail": 0.2, "stall": 120.0}
"""Seconds until the webhook answers in each mode, unless `Behaviour.delay` is set."""


class Behaviour(BaseModel):
    """How the sample webhook answers."""

    model_config = ConfigDict(extra="forbid")

    mode: Literal["ok", "fail", "stall"] = Field(
        description="ok: writes a briefing; fail: answers 500; stall: answers 503 only after callers have given up."
    )
    delay: float | None = Field(
        None, ge=0, le=600, strict=True, description="Seconds until it answers. Default: 1 (ok), 0.2 (fail), 120 (stall)."
    )


def create_router(secret: SecretStr | None) -> APIRouter:
    """Returns the router with the webhook, and with the routes that show and change its behaviour. The webhook answers only
    those that know the secret, if there is one."""

    def check_secret(request: Request) -> None:
        expected = secret.get_secret_value() if secret else ""
        if expected and not compare_digest(request.headers.get(SECRET_HEADER, "").encode(), expected.encode()):
            raise ProblemError(401, "unauthorized", f"the header {SECRET_HEADER} does not carry the secret")

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
        """Let the sample webhook work, fail or stall from the next request on."""
        nonlocal behaviour
        behaviour = wanted
        return behaviour

    @router.post(
        "/sample-webhook",
        operation_id="askSampleWebhook",
        responses={
            500: {"description": "The webhook was told to fail."},
            **problems(400, 401, 413, 415, 422, 503),
        },
        openapi_extra=request_body(WebhookRequest),
        dependencies=[Depends(check_secret)],
    )
    async def write(
        request: Request, question: Annotated[WebhookRequest, Depends(reads(WebhookRequest))]
    ) -> WebhookResponse:
        """Write a made-up briefing about the topic."""
        told = behaviour
        await _pause(request, DELAYS[told.mode] if told.delay is None else told.delay)
        if told.mode == "fail":
            raise ProblemError(500, "sample-webhook-fails", "the sample webhook was told to fail")
        if told.mode == "stall":
            raise ProblemError(503, "sample-webhook-stalls", "the sample webhook was told to stall")
        return WebhookResponse(content=_briefing(question.topic))

    return router


async def _pause(request: Request, seconds: float) -> None:
    """Wait for `seconds`, or until the caller disconnects, so that a stalled request does not delay the process's end."""
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
