"""An application's own migrations: `carafe migrate` on a package without an env.py, new revisions, faults in words."""

import ast
import itertools
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import NullPool, create_engine

from briefings.migrations import target_metadata
from tests.cli.conftest import ROOT, Answer, Command

pytestmark = pytest.mark.process

_names = (f"corner_shop_{number}" for number in itertools.count())

MODEL = """
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "{shop}_orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str]
"""

REVISION = """
from alembic import op

revision = {revision!r}
down_revision = {after!r}
branch_labels = None
depends_on = None


def upgrade() -> None:
    {does}


def downgrade() -> None:
    pass
"""


class Shop:
    """An application with a package of migrations."""

    def __init__(self, command: Command, database_url: str, folder: Path) -> None:
        self.name = next(_names)
        self._command, self.database_url = command, database_url
        self.folder = folder / self.name / "migrations"
        self.folder.mkdir(parents=True)
        (self.folder.parent / "__init__.py").touch()
        (self.folder.parent / "model.py").write_text(MODEL.format(shop=self.name))
        (self.folder / "__init__.py").touch()

    def migrate(self, *arguments: str, **environment: str) -> Answer:
        own = {"DATABASE_URL": self.database_url, "MIGRATIONS": f"{self.name}.migrations"}
        return self._command("migrate", *arguments, **(own | environment))

    def has(self, does: str = "pass", revision: str = "0001", after: str | None = None) -> Path:
        """A revision; `does` is the body of its upgrade."""
        (self.folder / "versions").mkdir(exist_ok=True)
        file = self.folder / "versions" / f"{revision}.py"
        file.write_text(REVISION.format(revision=revision, after=after, does=does))
        return file

    def sql(self, statement: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            return connection.execute(statement).fetchall()


@pytest.fixture
def shop(bare: Command, database_url: str, here: Path) -> Shop:
    return Shop(bare, database_url, here)


def test_a_package_needs_nothing_but_its_revisions(shop: Shop) -> None:
    shop.has(f'op.execute("create table {shop.name} (id int)")')
    shop.has(f'op.execute("insert into {shop.name} values (7)")', "0002", "0001")
    done = shop.migrate()
    assert done.code == 0, done.err
    assert done.out == f"applied {shop.name}.migrations: 0001\napplied {shop.name}.migrations: 0002\n"
    assert shop.sql(f"select * from {shop.name}") == [(7,)]
    assert shop.sql(f"select * from {shop.name}_version") == [("0002",)]
    assert shop.migrate().out == "nothing to apply: the schema is current\n"
    assert shop.migrate("--json").json == {"applied": []}


def test_an_env_py_of_its_own_takes_the_place_of_ours_and_need_not_say_what_it_applied(shop: Shop) -> None:
    shop.has()
    (shop.folder / "env.py").write_text(
        "from alembic import context\n"
        f"context.configure(connection=context.config.attributes['connection'], version_table='{shop.name}_mine')\n"
        "with context.begin_transaction():\n"
        "    context.run_migrations()\n"
    )
    assert shop.migrate().out == f"applied {shop.name}.migrations: 0001\n"
    assert shop.sql(f"select * from {shop.name}_mine") == [("0001",)]


def test_a_new_revision_has_what_the_database_lacks_of_the_metadata(shop: Shop) -> None:
    (shop.folder / "__init__.py").write_text(f"from {shop.name}.model import Base\n\ntarget_metadata = Base.metadata\n")
    made = shop.migrate("--new", "add orders")
    assert made.code == 0, made.err
    file = Path(made.out.strip())
    assert file.parent == Path(shop.name, "migrations", "versions")
    text = file.read_text()
    assert text.startswith('"""add orders.\n')
    assert f"op.create_table('{shop.name}_orders'" in text
    assert "drop_table" not in text.partition("def downgrade")[0]  # the tables of others in this database stay
    assert shop.migrate().out.startswith(f"applied {shop.name}.migrations: ")
    assert shop.sql(f"select * from {shop.name}_orders") == []
    again = shop.migrate("--new", "nothing is new", "--json").json
    assert again["derived"]
    assert "op." not in Path(again["file"]).read_text()
    refused = shop.migrate("--new", "too soon")
    assert (refused.code, refused.out) == (1, "")
    assert "run `carafe migrate` first" in refused.err


def test_without_metadata_a_new_revision_is_empty_and_asks_no_database(shop: Shop) -> None:
    made = shop.migrate("--new", "by hand", DATABASE_URL="")
    assert made.code == 0, made.err
    assert "The revision is empty" in made.err
    assert "pass" in Path(made.out.strip()).read_text()
    assert shop.migrate().code == 0


MESSAGES = [
    '"""; open("ran", "w").close(); """',
    "'''; open('ran', 'w').close(); '''",
    r"move C:\users to D:\new",
    'it is called "shop"',
    "ends with \\",
    "${open('ran', 'w').close()} don't %s {x}",
]


@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize("quotes", ['"""', "'''"])
@pytest.mark.parametrize("heads", [1, 2])
def test_a_message_stays_a_text_in_the_file(shop: Shop, here: Path, message: str, quotes: str, heads: int) -> None:
    for revision, after in (("0001", None), ("0002a", "0001"), ("0002b", "0001"))[: 2 * heads - 1]:
        shop.has("pass", revision, after)
    ours = (ROOT / "carafe" / "migrations" / "script.py.mako").read_text()
    (shop.folder / "env.py").write_text((ROOT / "carafe" / "migrations" / "env.py").read_text())
    (shop.folder / "script.py.mako").write_text(ours.replace('"""${', quotes + "${", 1).replace('n}\n"""', "n}\n" + quotes))
    made = shop.migrate("--new", message)
    assert made.code == 0, made.err
    module = ast.parse(Path(made.out.strip()).read_text())
    assert (ast.get_docstring(module) or "").splitlines()[0] == f"{message}."
    assert shop.migrate().code == 0
    assert not (here / "ran").exists()


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (" ", "must say what the revision changes"),
        ("a" * 201, "must have at most 200 characters (got 201)"),
        ("two\nlines", r"must be one line without control characters (got 'two\nlines')"),
        ("\x1b[2J", "must be one line without control characters"),
        ("two\u2028lines", "must be one line without control characters"),
    ],
)
def test_a_message_that_cannot_be_written_is_refused(shop: Shop, message: str, says: str) -> None:
    refused = shop.migrate("--new", message)
    assert (refused.code, refused.out) == (2, "")
    assert f"error: --new: {says}" in refused.err
    assert not (shop.folder / "versions").exists()


def test_no_revision_is_left_behind_that_is_not_python(shop: Shop) -> None:
    shop.has()
    (shop.folder / "env.py").touch()
    (shop.folder / "script.py.mako").write_text("revision = ${repr(up_revision)}\nnot Python at all\n")
    failed = shop.migrate("--new", "more")
    assert (failed.code, failed.out) == (1, "")
    assert "line 2: SyntaxError" in failed.err
    assert [file.name for file in (shop.folder / "versions").glob("*.py")] == ["0001.py"]


def test_two_newest_revisions_are_told_and_joined(shop: Shop) -> None:
    for revision, after in (("0001", None), ("0002a", "0001"), ("0002b", "0001")):
        shop.has("pass", revision, after)
    told = shop.migrate()
    assert (told.code, told.out) == (1, "")
    assert f"error: {shop.name}.migrations has 2 newest revisions (0002a, 0002b)" in told.err
    assert '`carafe migrate --new "merge"`' in told.err
    assert shop.migrate("--new", "merge").code == 0
    assert shop.migrate().out.count("applied ") == 4


def broken_env(shop: Shop) -> None:
    shop.has()
    (shop.folder / "env.py").write_text("from alembic import context\n\nurl = context.config.attributes['url']\n")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda shop: None, 'has no folder `versions`; `carafe migrate --new "first tables"` makes it'),
        (lambda shop: shop.has("not Python at all"), "versions/0001.py, line 11: SyntaxError: "),
        (lambda shop: shop.has("op.explode()"), "versions/0001.py, line 11: AttributeError: "),
        (lambda shop: shop.has("open('no such file')"), "versions/0001.py, line 11: FileNotFoundError: "),
        (lambda shop: shop.has("op.execute('drop table nowhere')"), "versions/0001.py, line 11: "),
        (lambda shop: shop.has("pass", "0002", "0001"), "its revisions cannot be read: KeyError: '0001'"),
        (lambda shop: shop.has().write_text("import no_such_module"), "versions/0001.py, line 1: ModuleNotFoundError: "),
        (lambda shop: shop.has().write_text("x = 1"), "module '0001_py' has no attribute"),
        (broken_env, "env.py, line 3: KeyError: 'url'; delete it, since Carafe's own serves"),
    ],
    ids=["no versions", "syntax", "python", "file", "sql", "parent", "import", "no revision", "env.py"],
)
def test_a_faulty_package_is_one_sentence(shop: Shop, spoil: object, says: str) -> None:
    assert callable(spoil)
    spoil(shop)
    told = shop.migrate()
    assert (told.code, told.out) == (1, ""), told.err
    assert told.err.startswith(f"error: {shop.name}.migrations"), told.err
    assert says in told.err
    assert "Traceback" not in told.err
    doctor = shop._command("doctor", DATABASE_URL=shop.database_url, MIGRATIONS=f"{shop.name}.migrations")
    assert "Traceback" not in doctor.out + doctor.err


def without_template(shop: Shop) -> None:
    (shop.folder / "env.py").touch()


def without_folder(shop: Shop) -> None:
    (shop.folder / "versions").touch()


def with_a_broken_model(shop: Shop) -> None:
    (shop.folder / "__init__.py").write_text("target_metadata = 1 / 0\n")


@pytest.mark.parametrize(
    ("spoil", "code", "says"),
    [
        (without_template, 1, "has an env.py of its own, but not script.py.mako, the template of new revisions: copy /"),
        (without_folder, 1, "the revision cannot be written: FileExistsError: "),
        (with_a_broken_model, 2, "cannot be imported: ZeroDivisionError: division by zero"),
        (lambda shop: shop.has("not Python at all"), 1, "versions/0001.py, line 11: SyntaxError: "),
    ],
    ids=["no template", "no folder", "no model", "syntax"],
)
def test_a_revision_that_cannot_be_written_is_one_sentence(shop: Shop, spoil: object, code: int, says: str) -> None:
    assert callable(spoil)
    spoil(shop)
    told = shop.migrate("--new", "more")
    assert (told.code, told.out) == (code, ""), told.err
    assert says in told.err
    assert told.err.count("\n") == 1


def test_a_database_that_is_away_is_told_by_a_new_revision_too(shop: Shop) -> None:
    (shop.folder / "__init__.py").write_text(f"from {shop.name}.model import Base\n\ntarget_metadata = Base.metadata\n")
    for url, says in (
        ("postgresql://a:b@127.0.0.1:1/x", "the database cannot be reached"),
        (shop.database_url.rsplit("/", 1)[0] + "/nowhere", "DATABASE_URL: Postgres refuses"),
    ):
        told = shop.migrate("--new", "more", DATABASE_URL=url)
        assert (told.code, told.out) == (5, ""), told.err
        assert says in told.err


@pytest.mark.parametrize(
    ("arguments", "migrations", "says"),
    [
        ([], "nowhere.migrations", "MIGRATIONS: 'nowhere.migrations' cannot be imported: ModuleNotFoundError"),
        ([], "json.decoder", "MIGRATIONS: 'json.decoder' cannot be imported: ImportError: 'json.decoder' is a module, not"),
        (["--new", "x"], "", 'MIGRATIONS: is empty: name your package with migrations, such as migrations = ["shop.'),
        (["--new", "x"], "a.migrations,b.migrations", "--package: must say which one of MIGRATIONS gets the revision: a.m"),
        (["--new", "x", "--package", "c"], "a.migrations", "--package: 'c' is not one of MIGRATIONS (a.migrations)"),
    ],
)
def test_a_setting_that_does_not_fit_is_one_sentence(
    bare: Command, database_url: str, arguments: list[str], migrations: str, says: str
) -> None:
    told = bare("migrate", *arguments, MIGRATIONS=migrations, DATABASE_URL=database_url)
    assert (told.code, told.out) == (2, "")
    assert told.err.startswith(f"error: {says}")


def test_the_table_of_the_version_is_that_of_before(bare: Command, database_url: str) -> None:
    """The briefing service's migrations had an env.py that named this table."""
    assert bare("migrate", MIGRATIONS="briefings.migrations", DATABASE_URL=database_url).code == 0
    with psycopg.connect(database_url) as connection:
        assert connection.execute("select version_num from briefings_version").fetchall() == [("0001",)]


def test_the_briefing_service_s_tables_are_what_its_model_says(carafe_database_url: str) -> None:
    engine = create_engine(carafe_database_url.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)
    with engine.connect() as connection:
        stands = MigrationContext.configure(connection, opts={"version_table": "briefings_version"})
        assert compare_metadata(stands, target_metadata) == []
