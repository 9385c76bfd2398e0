"""What the shell offers at Tab: kinds, and the ids of jobs, workers and bulk actions. (States and names of actions are known
without asking.)

Guarantees: after `SECONDS` the shell gets what has been found, which is nothing while Postgres is away or a module of the
application cannot be imported. Nothing but the answer is written.
Must never: read settings or import modules in a folder that another account can write to. A user who presses Tab there has
not decided to run its code.
"""

import asyncio
import os
import re
import stat
import threading
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from carafe.jobs.states import State
from carafe.settings.sources import ENV_FILE, PROJECT_FILE

if TYPE_CHECKING:
    from carafe import Client

SECONDS = 2.0
"""How long the shell waits, in addition to the start of the command itself."""

MANY = 200
"""The newest jobs of which those are offered whose id begins with what is typed."""

Offer = tuple[str, str]
"""A value, and the few words that shells show beside it."""


def kinds(incomplete: str) -> list[str]:
    """The kinds that JOB_MODULES declare."""
    return [kind for kind, _ in _begun(incomplete, _within(_declared_kinds))]


def paused_kinds(incomplete: str) -> list[Offer]:
    """The kinds that are paused."""
    return _begun(incomplete, _within(lambda: asyncio.run(_paused_kinds())))


def jobs_in(states: Iterable[State] = ()) -> Callable[[str], list[Offer]]:
    """Returns a function that offers the newest jobs in any of these states (none given: in any state)."""
    wanted = frozenset(states)

    def offer(incomplete: str) -> list[Offer]:
        return _begun(incomplete, _within(lambda: asyncio.run(_jobs(wanted))))

    return offer


def workers(incomplete: str) -> list[Offer]:
    """The workers that are alive."""
    return _begun(incomplete, _within(lambda: asyncio.run(_workers())))


def bulk_actions(incomplete: str) -> list[Offer]:
    """The newest bulk actions."""
    return _begun(incomplete, _within(lambda: asyncio.run(_bulk_actions())))


def _declared_kinds() -> list[Offer]:
    from carafe.cli.connecting import declared
    from carafe.jobs.definition import kinds

    declared()
    return [(kind, "") for kind in sorted(kinds())]


async def _jobs(states: frozenset[State]) -> list[Offer]:
    async with _client() as client:
        page = await client.find(states=states, limit=MANY, longest=0)
    return [(str(job.id), f"{job.kind} {job.state}") for job in page.jobs]


async def _paused_kinds() -> list[Offer]:
    async with _client() as client:
        found = await client.paused_kinds()
    return [(kind.kind, kind.paused_reason or "") for kind in found]


async def _workers() -> list[Offer]:
    from carafe.readmodel.model import ReadModel

    async with _client() as client:
        found = await ReadModel(client.database, client.queue).workers()
    return [(str(worker.id), f"{worker.name} {worker.state}") for worker in found.live]


async def _bulk_actions() -> list[Offer]:
    async with _client() as client:
        found = await client.bulks(MANY)
    return [(str(bulk.id), f"{bulk.action} {bulk.state}") for bulk in found]


def _client() -> "Client":
    from carafe import Client
    from carafe.settings.local_servers import with_servers
    from carafe.settings.settings import load_settings

    return Client.from_settings(with_servers(load_settings()))


def _within(ask: Callable[[], list[Offer]]) -> list[Offer]:
    """Returns what `ask` has found after `SECONDS`; nothing if it has failed."""
    found: list[Offer] = []

    def work() -> None:
        try:
            if _is_trusted(Path.cwd()):
                found.extend(ask())
        except BaseException:  # whatever it is, the shell is not the place to say it
            pass

    # What a module writes at its import, and our own log, must not stand among the answers. Never closed: a late thread may
    # still write to it.
    nowhere = open(os.devnull, "w")  # noqa: SIM115
    with redirect_stdout(nowhere), redirect_stderr(nowhere):
        thread = threading.Thread(target=work, name="carafe completion", daemon=True)
        thread.start()
        thread.join(SECONDS)
    return list(found)


def _is_trusted(folder: Path) -> bool:
    """Whether nobody but this account and root can have written what is read and imported in this folder. (A folder of a
    group counts as its members' own.)"""
    for place in (folder, folder / PROJECT_FILE, folder / ENV_FILE):
        try:
            found = place.stat()
        except FileNotFoundError:
            continue
        if found.st_uid not in (0, os.geteuid()) or found.st_mode & stat.S_IWOTH:
            return False
    return True


def _begun(incomplete: str, offers: Iterable[Offer]) -> list[Offer]:
    # Shells evaluate parts of what they are given, and rows may hold anything.
    return [(value, re.sub(r"[^\w .@-]", "", words)) for value, words in offers if value.startswith(incomplete)]
