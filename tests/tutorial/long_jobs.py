"""A job that takes long, and its handler: the module that the worker of `test_7_with_a_real_worker` imports.

In an application the two belong to modules of their own: `JOB_MODULES` names those with jobs, which every process imports,
`HANDLER_MODULES` those with handlers, which only workers import.
"""

import asyncio

from carafe import Context, Job, handler


class Render(Job, kind="tutorial.render", timeout=600):
    pages: int


@handler(Render)
async def render(job: Render, ctx: Context) -> None:
    # The dashboard, the API and the command line show the last report for as long as the job runs.
    await ctx.progress(1 / job.pages, f"page 1 of {job.pages}")
    await asyncio.Event().wait()  # the second page takes for ever
