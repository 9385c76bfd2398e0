"""A fault: writing some ends raises an unexpected error, until Redis has the key ``mended``.

Named in HANDLER_MODULES by the test that wants it. The end of a job of `OnRedis` fails, alone and in every batch.
"""

import os
from collections.abc import Sequence
from typing import Any

from redis import Redis

from carafe.engine.ledger import Ledger

_write = Ledger._write_succeeded


async def stumbles(self: Ledger, ends: Sequence[Any]) -> None:
    """Write, unless one of these ends is poisoned."""
    if any(end.result == '"released"' for end in ends):
        with Redis.from_url(os.environ["REDIS_URL"]) as redis:
            if not redis.exists("mended"):
                raise KeyError("a fault of ours")
    await _write(self, ends)


Ledger._write_succeeded = stumbles  # type: ignore[method-assign]
