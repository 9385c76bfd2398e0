"""The messages between the worker and the webhook that writes briefings: a POST with a secret header, and the answer."""

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, StringConstraints

SECRET_HEADER = "X-Webhook-Secret"
"""The header that carries BRIEFING_WEBHOOK_SECRET, by which the webhook recognises the worker."""

MAX_CONTENT = 50_000
"""The maximum number of characters of a briefing's content. At four bytes each, they fit into a job's result
(JOB_RESULT_LIMIT)."""

# What Postgres can keep as text: anything but NUL. Line breaks are welcome in content.
Content = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_CONTENT, pattern=r"^[^\x00]*$")
]


class WebhookRequest(BaseModel):
    """The body of the POST to the webhook: the topic of the briefing to write, and its id."""

    model_config = ConfigDict(extra="forbid")

    briefing_id: UUID
    topic: str


class WebhookResponse(BaseModel):
    """The webhook's answer; other fields in it are ignored. The job's result is this answer."""

    content: Content
