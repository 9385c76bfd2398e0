"""The command `prune`: lists or deletes what has outlived its retention."""

import asyncio

from carafe.cli.exits import Exit, say
from carafe.cli.output import show_json, show_table
from carafe.settings.local_servers import with_servers
from carafe.settings.settings import load_settings
from carafe.steward.pruner import Prunable, Pruner, Retention
from carafe.store.database import Database


def prune(*, dry_run: bool, as_json: bool) -> Exit:
    """Prints what has outlived its retention, and deletes it unless this is a dry run.

    Returns FAILED (exit code 1) when a partition was in use and could not be dropped.
    """
    settings = with_servers(load_settings())
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()

    async def go() -> tuple[list[Prunable], set[str]]:
        database = Database(url, pool_size=2, name="carafe prune")
        try:
            pruner = Pruner(database, Retention.of(settings))
            found = await pruner.prunable()
            if not dry_run:
                await pruner.prune()
            return found, pruner.in_use
        finally:
            await database.close()

    found, in_use = asyncio.run(go())
    if as_json:
        show_json(
            [
                {
                    "name": one.name,
                    "partition": one.partition,
                    "rows": one.rows,
                    "bytes": one.bytes,
                    "pruned": not dry_run and one.name not in in_use,
                }
                for one in found
            ]
        )
    elif not found:
        say("nothing to prune")
    else:
        show_table(
            ("NAME", "ROWS", "SIZE", "WHAT"),
            [(one.name, f"{'~' * one.partition}{one.rows:,}", _size(one), _what(one, dry_run, in_use)) for one in found],
        )
    if in_use:
        say(f"not dropped, because in use (run the command again later): {', '.join(sorted(in_use))}")
    return Exit.FAILED if in_use else Exit.OK


def _size(one: Prunable) -> str:
    return "" if one.bytes is None else f"{one.bytes / 1_048_576:,.1f} MiB"


def _what(one: Prunable, dry_run: bool, in_use: set[str]) -> str:
    if one.name in in_use:
        return "in use, stays"
    if dry_run:
        return "would be dropped" if one.partition else "would be deleted"
    return "dropped" if one.partition else "deleted"
