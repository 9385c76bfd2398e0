"""The alembic revisions of one package, Carafe's own or an application's: reading, applying and writing them.

A package needs nothing but a folder `versions`: Carafe's `env.py` serves it, with a table of its own for its version. An
`env.py` in the package takes its place.
Guarantees: whatever is wrong with a package is raised as `ModuleNotUsable` or `MigrationFailed`, whose text says where.
"""

import traceback
from argparse import Namespace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carafe.errors import CarafeError
from carafe.jobs.modules import ModuleNotUsable
from carafe.named_modules import find_named, import_named

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

LIBRARY = "carafe.migrations"
"""The package with Carafe's own revisions."""


class MigrationFailed(CarafeError):
    """A migration failed. What it had changed was rolled back."""

    code = "migration-failed"


class Revisions:
    """The revisions of a package. Raises `ModuleNotUsable` if the package cannot be found."""

    def __init__(self, package: str) -> None:
        self.package = package
        try:
            spec = find_named(package)
            if spec is None:
                raise ModuleNotFoundError(f"No module named {package!r}", name=package)
            if not spec.submodule_search_locations:
                raise ImportError(f"{package!r} is a module, not a package")
        except Exception as error:
            raise ModuleNotUsable("MIGRATIONS", package, error) from error
        self.folder = Path(next(iter(spec.submodule_search_locations))).absolute()
        self.versions = self.folder / "versions"

    def script(self) -> "ScriptDirectory":
        """The revisions as alembic reads them, with exactly one newest. Raises `MigrationFailed`."""
        if not self.versions.is_dir():
            raise MigrationFailed(
                f'{self.package} has no folder `versions`; `carafe migrate --new "first tables"` makes it, with a revision'
            )
        script, heads = self._loaded()
        if len(heads) > 1:
            raise MigrationFailed(
                f"{self.package} has {len(heads)} newest revisions ({', '.join(heads)}), each of which may be the one that "
                'the database is to have; `carafe migrate --new "merge"` writes a revision that joins them'
            )
        return script

    def upgrade(self, connection: Any) -> list[str]:
        """Apply the revisions that the database lacks, and commit. Returns their ids. Raises `MigrationFailed`, and what a
        revision or the database raises."""
        from alembic.runtime.environment import EnvironmentContext
        from sqlalchemy import text

        script = self.script()
        applied: list[str] = []

        def missing(revision: Any, context: Any) -> list[Any]:
            steps = script._upgrade_revs("head", revision)
            applied.extend(str(step.revision.revision) for step in steps)
            return list(steps)

        connection.execute(text("create schema if not exists carafe"))
        with EnvironmentContext(self._config(connection), script, fn=missing, destination_rev="head"):
            script.run_env()
        connection.commit()
        return applied

    def state(self, connection: Any) -> tuple[str, str, frozenset[str]]:
        """Returns the database's current revision, the newest one, and all revisions of the package. Changes nothing. Raises
        like `upgrade`."""
        from alembic.runtime.environment import EnvironmentContext

        script = self.script()
        stands: list[str] = []

        def look(revisions: Any, context: Any) -> list[Any]:
            stands.extend(revisions)
            return []

        with EnvironmentContext(self._config(connection), script, fn=look, dont_mutate=True):
            script.run_env()
        connection.rollback()
        known = frozenset(revision.revision for revision in script.walk_revisions())
        return ", ".join(sorted(stands)), ", ".join(sorted(script.get_heads())), known

    def heads(self) -> list[str]:
        """The ids of the newest revisions: one, if nobody has added another beside it. Raises `MigrationFailed`."""
        return self._loaded()[1]

    def metadata(self) -> Any:
        """The SQLAlchemy metadata that the package names (`target_metadata`), from which revisions can be derived; None if
        it does not name any. Raises `ModuleNotUsable` if the package cannot be imported."""
        try:
            return getattr(import_named(self.package), "target_metadata", None)
        except Exception as error:
            raise ModuleNotUsable("MIGRATIONS", self.package, error) from error

    def write(self, message: str, connection: Any = None) -> Path:
        """Write a new revision, and return its file. With a connection, it contains what the database lacks of `metadata`;
        without one, it is empty. If there are several newest revisions, it joins them. Leaves no file behind that is not
        Python. Raises `MigrationFailed`."""
        from alembic import command
        from alembic.util import rev_id

        template = self.folder / "script.py.mako"
        if self._has_env() and not template.is_file():
            raise MigrationFailed(
                f"{self.package} has an env.py of its own, but not script.py.mako, the template of new revisions: copy "
                f"{_library() / template.name} beside it"
            )
        self.versions.mkdir(exist_ok=True)
        heads = self.heads()
        config = self._config(connection)
        revision, text = rev_id(), _within_quotes(message)
        try:
            made = (
                command.merge(config, list(heads), text, rev_id=revision)
                if len(heads) > 1
                else command.revision(config, text, autogenerate=connection is not None, rev_id=revision)
            )
            assert made is not None
            assert not isinstance(made, list)
            file = Path(made.path)
            compile(file.read_bytes(), file, "exec")
            return file
        except BaseException:
            for written in self.versions.glob(f"*_{revision}_*.py"):
                written.unlink()
            raise

    def fault(self, error: BaseException) -> str | None:
        """What is wrong with this package, if an error came out of its files or is alembic's own; else None."""
        from alembic.util import CommandError

        if isinstance(error, CommandError):
            hint = "; the database may be of a newer release than this one" if "locate revision" in str(error) else ""
            if "not up to date" in str(error):
                hint = ": run `carafe migrate` first, so that the new revision has only what is new"
            return f"{self.package}: {error}{hint}"
        file, line = self._place(error)
        if file is None:
            return None
        hint = ""
        if file == "env.py":
            hint = "; delete it, since Carafe's own serves, or let it use context.config.attributes['connection']"
        reason = f"{type(error).__name__}: {getattr(error, 'orig', None) or error}"
        return f"{self.package}: {file}, line {line}: {reason}{hint}"

    def failed(self, error: BaseException) -> MigrationFailed:
        """The error that a revision could not be written, and why."""
        return MigrationFailed(
            self.fault(error) or f"{self.package}: the revision cannot be written: {type(error).__name__}: {error}"
        )

    def _has_env(self) -> bool:
        return (self.folder / "env.py").is_file()

    def _loaded(self) -> "tuple[ScriptDirectory, list[str]]":
        from alembic.script import ScriptDirectory

        try:
            script = ScriptDirectory.from_config(self._config(None))
            return script, sorted(script.get_heads())
        except Exception as error:
            reason = self.fault(error) or f"{self.package}: its revisions cannot be read: {type(error).__name__}: {error}"
            raise MigrationFailed(reason) from error

    def _config(self, connection: Any) -> "Config":
        from alembic.config import Config

        config = Config(cmd_opts=Namespace(quiet=True))
        for name, value in (
            ("script_location", str(self.folder if self._has_env() else _library())),
            ("version_locations", str(self.versions)),
            ("path_separator", "newline"),
            ("file_template", "%(year)d_%(month).2d_%(day).2d_%(rev)s_%(slug)s"),
        ):
            config.set_main_option(name, value.replace("%", "%%"))
        library = self.package == LIBRARY
        config.attributes.update(
            {
                "connection": connection,
                "version_table": "alembic_version" if library else self.version_table,
                "version_table_schema": "carafe" if library else None,
                # Read by an env.py that was written for 0.2.0.
                "on_version_apply": lambda **_: None,
            }
        )
        if connection is not None and not library:
            config.attributes["target_metadata"] = self.metadata()
        return config

    @property
    def version_table(self) -> str:
        """The table with the version of this package: of ``shop.migrations`` it is ``shop_version``, so that applications
        which share a database do not share it."""
        *parents, last = self.package.split(".")
        names = parents if parents and last == "migrations" else [*parents, last]
        return "_".join([*names, "version"])

    def _place(self, error: BaseException) -> tuple[str | None, int | None]:
        """The file of this package, relative to it, and the line from which an error comes; (None, None) if from none."""
        if isinstance(error, SyntaxError) and error.filename:
            frames = [(error.filename, error.lineno)]
        else:
            frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
        for name, line in reversed(frames):
            path = Path(name).absolute()
            if path.is_relative_to(self.folder):
                return path.relative_to(self.folder).as_posix(), line
        return None, None


def _within_quotes(message: str) -> str:
    """The message as the source of a Python text: templates, an application's own too, put it between quotes."""
    return message.replace("\\", "\\\\").replace('"', '\\"').replace("'''", "\\'\\'\\'")


def _library() -> Path:
    spec = find_spec(LIBRARY)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(next(iter(spec.submodule_search_locations)))
