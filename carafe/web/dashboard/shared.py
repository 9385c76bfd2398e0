"""What many viewers see the same way is made once for all of them, and kept for a second or two.

Guarantees: as many open overviews as there may be cost little more than one; a failure is not kept.
Must never: keep what belongs to one viewer (their name, their session's token); see `rendering.render_shared`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable


class Shared:
    """Texts by what they depend on. For one event loop."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, tuple[float, asyncio.Task[str]]] = {}

    async def get(self, key: Hashable, seconds: float, make: Callable[[], Awaitable[str]]) -> str:
        """The text of `key`, at most `seconds` old; several who ask at once wait for the same. Raises what `make` raises."""
        now = time.monotonic()
        for old in [other for other, (until, _) in self._kept.items() if until <= now]:
            del self._kept[old]
        if key not in self._kept:
            self._kept[key] = (now + seconds, asyncio.ensure_future(_made(make)))
        _, making = self._kept[key]
        try:
            return await asyncio.shield(making)
        except BaseException:
            if making.done() and self._kept.get(key, (0.0, None))[1] is making:
                del self._kept[key]
            raise


async def _made(make: Callable[[], Awaitable[str]]) -> str:
    return await make()
