"""What commands say about pauses: who paused something, since when and why, and which pause keeps a job from starting.

Must never: change what a command answers. Whatever it did is committed before this is asked.
"""

from collections.abc import Collection

from carafe import CarafeError, Client
from carafe.cli.exits import say
from carafe.cli.output import moment, shortened
from carafe.jobs.records import KindRecord, QueueRecord
from carafe.store.database import CONFLICTS, told
from carafe.store.paused_kinds import paused_kinds, queue_pause

SECONDS = 2.0
"""How long a command that is otherwise done asks about pauses."""


def since(paused: KindRecord | QueueRecord) -> str:
    """Returns since when something has been paused, by whom and why; empty if it is not paused."""
    if paused.paused_at is None:
        return ""
    by = f" by {paused.paused_by}" if paused.paused_by else ""
    return f"since {moment(paused.paused_at)}{by}" + (f": {paused.paused_reason}" if paused.paused_reason else "")


async def say_pauses(client: Client, kinds: Collection[str] | None) -> None:
    """Says on standard error which pauses hold back jobs of these kinds (None: of any kind). Says nothing if it cannot be
    found out."""
    try:
        async with client.database.within(SECONDS), client.database.connection() as connection:
            with told():
                queue = await queue_pause(connection)
                found = await paused_kinds(connection)
    except (CarafeError, TimeoutError, *CONFLICTS):
        return
    if queue is not None:
        say(f"the queue is paused {queue}: nothing starts before `carafe queues resume`")
    held = [kind for kind in found if kinds is None or kind.kind in kinds]
    if len(held) == 1:
        [one] = held
        say(f"the kind {one.kind!r} is paused {since(one)}: its jobs start after `carafe kinds resume {one.kind}`")
    elif held:
        names = ", ".join(shortened(kind.kind) for kind in held)
        say(f"{len(held)} kinds are paused, and their jobs do not start: {names}; `carafe kinds paused` says why")
