"""Two hundred kinds and their handlers (JOB_MODULES and HANDLER_MODULES of test_cardinality)."""

import types

from carafe import Context, Job, handler

COUNT = 200


async def nothing(job: Job, ctx: Context) -> None:
    """Does nothing."""


for _number in range(COUNT):
    _kind: type[Job] = types.new_class(f"Kind{_number}", (Job,), {"kind": f"many.kind{_number}"})
    handler(_kind)(nothing)
