"""Handlers that only some workers have: a rollout mixes releases."""

from carafe import Context, handler
from tests.engine.handlers import runs_async
from tests.engine.jobs import Elsewhere


@handler(Elsewhere)
async def elsewhere(job: Elsewhere, ctx: Context) -> str:
    await runs_async(ctx, "elsewhere")
    return "here"
