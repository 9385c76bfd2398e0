"""What the worker and the webhook that writes briefings say to each other: a POST, its answer, a secret in a header."""

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, StringConstraints

SECRET_HEADER = "X-Webhook-Secret"
"""Carries BRIEFING_WEBHOOK_SECRET, so that the webhook knows who asks."""

MAX_CONTENT = 50_000
"""Characters of a briefing's content at most. At four bytes each it fits a job's result (JOB_RESULT_LIMIT)."""

# What Postgres can keep as text: anything but NUL. Line breaks are welcome in content.
Content = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_CONTENT, pattern=r"^[^\x00]*$")
]


class WebhookRequest(BaseModel):
    """What the webhook is asked."""

    model_config = ConfigDict(extra="forbid")

    briefing_id: UUID
    topic: str


class WebhookResponse(BaseModel):
    """What it answers; fields that it adds are ignored. This is the job's result as well."""

    content: Content
