"""The domain's jobs. JOB_MODULES names this module, so web, worker and steward all import it, and with it the hooks."""

from uuid import UUID

from briefings import status
from carafe.jobs import Job, hook


class GenerateBriefing(Job, kind="briefing.generate", timeout=300, max_retries=3):
    """Have the webhook write a briefing."""

    briefing_id: UUID


hook(GenerateBriefing, *status.STATUS)(status.follow)
