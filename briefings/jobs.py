"""The jobs of the domain, and their hooks. JOB_MODULES names this module, so web, worker and steward all import it."""

from uuid import UUID

from briefings import status
from briefings.webhook import WebhookResponse
from carafe import Job, hook


class GenerateBriefing(Job[WebhookResponse], kind="briefing.generate", timeout=300, max_retries=3):
    """Have the webhook write a briefing."""

    briefing_id: UUID


hook(GenerateBriefing, *status.STATUS)(status.follow)
