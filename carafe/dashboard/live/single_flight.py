"""Renders a part of a page once for all viewers for whom it looks the same, and reuses it for a second or two.

Guarantees: many open overview pages cost little more than one. A failed rendering is not kept.
Must never: keep anything of a single viewer, such as their name or their session's token (see `rendering.render_shared`).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable


class Shared:
    """Keeps rendered texts by key. Used on one event loop only."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, tuple[float, asyncio.Task[str]]] = {}

    async def get(self, key: Hashable, seconds: float, make: Callable[[], Awaitable[str]]) -> str:
        """Returns the text stored under `key` if it is at most `seconds` old. Otherwise calls `make` for the text, and
        stores it.

        Concurrent callers share one rendering. Raises what `make` raises.
        """
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
