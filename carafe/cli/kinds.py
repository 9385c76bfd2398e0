"""The commands that pause and resume one kind, and that list the kinds which are paused."""

import asyncio

from carafe.cli.connecting import actor, connected, declared
from carafe.cli.exits import Exit, say
from carafe.cli.output import clean, show_json, show_table
from carafe.cli.pauses import since
from carafe.jobs.records import MAX_HELD, KindRecord


def pause(kind: str, *, reason: str | None, as_json: bool) -> Exit:
    """Pauses a kind, and prints since when it has been paused, by whom and why."""
    declared()  # a kind that only this process declares can be paused too

    async def go() -> Exit:
        async with connected() as client:
            record = await client.pause_kind(kind, reason=reason, by=actor())
        if as_json:
            show_json(record)
        else:
            print(clean(f"{record.kind}  {'was paused already, ' if record.unchanged else 'paused '}{since(record)}"))
            if record.unchanged and reason:
                say("nothing changed: a pause keeps its first reason; resume the kind, then pause it for another")
        _warn(record)
        return Exit.OK

    return asyncio.run(go())


def resume(kind: str, *, reason: str | None, as_json: bool) -> Exit:
    """Resumes a kind, and prints whether it was paused."""
    declared()  # as for `pause`: only this process may know the kind

    async def go() -> Exit:
        async with connected() as client:
            record = await client.resume_kind(kind, reason=reason, by=actor())
        if as_json:
            show_json(record)
        else:
            print(clean(f"{record.kind}  {'was not paused' if record.unchanged else 'resumed'}"))
        _warn(record)
        return Exit.OK

    return asyncio.run(go())


def show_paused(*, as_json: bool) -> Exit:
    """Prints the kinds that are paused, with how many jobs wait for each, since when it is paused, by whom and why."""

    async def go() -> Exit:
        async with connected() as client:
            found = await client.paused_kinds()
        if as_json:
            show_json(found)
        elif found:
            rows = [(one.kind, f"{one.held}{' or more' if one.held == MAX_HELD else ''}", since(one)) for one in found]
            show_table(("KIND", "HELD BACK", "PAUSED"), rows)
        else:
            say("no kind is paused")
        for one in found:
            _warn(one)
        return Exit.OK

    return asyncio.run(go())


def _warn(record: KindRecord) -> None:
    if record.note:
        say(f"warning: {record.note}")
