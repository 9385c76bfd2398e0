"""The command `migrate`: upgrades the schema, or writes a new revision of the application's."""

from pathlib import Path

from carafe.cli.exits import Exit, say
from carafe.cli.output import show_json
from carafe.settings.local_servers import with_servers
from carafe.settings.settings import load_schema_settings
from carafe.store import migrating


def migrate(*, as_json: bool) -> Exit:
    """Upgrades the schema, and prints the revisions that were applied."""
    settings = with_servers(load_schema_settings(), needed=("database_url",))
    applied = migrating.migrate(settings, tell=say)
    if as_json:
        show_json({"applied": applied})
    else:
        print("\n".join(f"applied {revision}" for revision in applied) or "nothing to apply: the schema is current")
    return Exit.OK


def write(message: str, package: str | None, *, as_json: bool) -> Exit:
    """Writes a revision, and prints its file."""
    settings = load_schema_settings()

    def url() -> str:
        found = with_servers(settings, needed=("database_url",)).database_url
        assert found is not None
        return found.get_secret_value()

    new = migrating.write_revision(message, settings.migrations, url, package=package)
    file = new.file.relative_to(Path.cwd()) if new.file.is_relative_to(Path.cwd()) else new.file
    if as_json:
        show_json({"file": str(file), "derived": new.derived})
        return Exit.OK
    print(file)
    if new.derived:
        say("Read the revision before you apply it with `carafe migrate`: what was renamed looks like dropped and added.")
    else:
        say("The revision is empty: write what it changes, then apply it with `carafe migrate`.")
    return Exit.OK
