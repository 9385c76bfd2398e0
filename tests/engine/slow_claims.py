"""A fault: the reply of the first claim that takes something reaches the worker only when the gate `LATE` is open.

A test that wants it names it in HANDLER_MODULES. (A proxy could not delay this reply alone.)
"""

from collections.abc import Sequence
from typing import Any

from carafe.engine.ledger import Hinted, Ledger
from tests.engine.handlers import pass_gate_async
from tests.engine.jobs import LATE

_claim = Ledger.claim
_delayed: list[Any] = []


async def late(self: Ledger, hints: Sequence[Hinted]) -> Any:
    """Claim, and let the reply wait."""
    claimed = await _claim(self, hints)
    if claimed[0] and not _delayed:
        _delayed.append(claimed)
        await pass_gate_async(LATE)
    return claimed


Ledger.claim = late  # type: ignore[method-assign]
