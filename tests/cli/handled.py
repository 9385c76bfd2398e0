"""The handlers of `tests.cli.declared`."""

import asyncio

from carafe import Context, handler
from tests.cli.declared import Fail, Greet, Hold


@handler(Greet)
async def greet(job: Greet, ctx: Context) -> dict[str, str]:
    return {"said": f"hello {job.name}"}


@handler(Fail)
async def fail(job: Fail, ctx: Context) -> None:
    raise ValueError(job.message)


@handler(Hold)
async def hold(job: Hold, ctx: Context) -> None:
    await asyncio.Event().wait()
