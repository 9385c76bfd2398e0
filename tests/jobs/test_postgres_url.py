"""DATABASE_URL in the forms that providers use: it is understood, or refused with the parameter's name and what to do."""

from pathlib import Path

import pytest

from carafe import Unavailable
from carafe.postgres_url import UrlFault, connect, read
from carafe.settings.settings import Settings, SettingsError, load_settings
from carafe.store.database import Database


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("postgresql://u:p@h/db", [("h", 5432)]),
        ("postgres://u:p@h:6000/db", [("h", 6000)]),
        ("postgresql+psycopg://u:p@h/db", [("h", 5432)]),
        ("postgresql://u:p@h1:5432,h2:5433/db?target_session_attrs=read-write", [("h1", 5432), ("h2", 5433)]),
        ("postgresql://u@/db?host=h1,h2&port=6000", [("h1", 6000), ("h2", 6000)]),
        ("postgresql://u@/db?host=h1,h2&port=6000,6001", [("h1", 6000), ("h2", 6001)]),
        ("postgresql://u@[::1]:6000,[2001:db8::1]/db", [("::1", 6000), ("2001:db8::1", 5432)]),
        ("postgresql://u@/db?host=/var/run/postgresql&port=5433", [("/var/run/postgresql", 5433)]),
        ("postgresql://u@%2Fvar%2Frun%2Fpostgresql/db", [("/var/run/postgresql", 5432)]),
    ],
)
def test_where_it_is(url: str, hosts: list[tuple[str, int]]) -> None:
    assert list(read(url).hosts) == hosts
    assert len(read(url).dsns) == len(hosts)


def test_a_password_may_hold_anything_that_is_written_as_it_must_be() -> None:
    found = read("postgresql://us%40er:p%40%2F%3F%23%3A%25@h/d%20b")
    assert (found.user, found.password, found.database) == ("us@er", "p@/?#:%", "d b")
    assert read("postgresql://u:p@ss@h/db").password == "p@ss"
    assert "p@/?" not in repr(found)


@pytest.mark.parametrize(
    ("query", "driver"),
    [
        ("ssl=true", {"sslmode": "require"}),
        ("ssl=false", {"sslmode": "disable"}),
        ("sslmode=require&channel_binding=prefer", {"sslmode": "require"}),
        ("sslmode=no-verify", {"sslmode": "require"}),
        ("sslmode=require&sslnegotiation=direct", {"sslmode": "require", "sslnegotiation": "direct"}),
        ("pgbouncer=true&connect_timeout=10&keepalives=1&gssencmode=disable", {}),
    ],
)
def test_what_the_driver_is_told(query: str, driver: dict[str, str]) -> None:
    assert dict(read(f"postgresql://u@h/db?{query}").driver) == driver


def test_what_the_server_is_told() -> None:
    found = read("postgresql://u@h/db?schema=shop&options=-c%20work_mem%3D8MB&application_name=orders&connect_timeout=7")
    assert dict(found.settings) == {"search_path": '"shop"', "options": "-c work_mem=8MB"}
    assert (found.application_name, found.connect_timeout) == ("orders", 7.0)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("channel_binding=require", "channel_binding: must be prefer or disable"),
        ("target_session_attrs=standby", "target_session_attrs: must be any or read-write or primary"),
        ("ssl=perhaps", "ssl: must be true or false"),
        ("sslmode=maybe", "sslmode: must be one of disable, allow"),
        ("ssl=true&sslmode=disable", "ssl: contradicts sslmode"),
        ("sslrootcert=/not/there", "sslrootcert: names a file that is not there"),
        ("sslmode=require&sslcert=/not/there", "sslcert: names a file that is not there"),
        ("connect_timeout=soon", "connect_timeout: must be whole seconds"),
        ("connection_limit=5", "connection_limit: is not understood here; remove it; DATABASE_POOL_SIZE"),
        ("service=x", "service: is not understood here"),
        ("sslmod=require", "sslmod: is not a parameter of a Postgres URL: did you mean sslmode?"),
        ("work_mem=8MB", "work_mem: is not a parameter of a Postgres URL; remove it, or if it is a server setting"),
        ("options=-c%20default_transaction_read_only%3Don", "options: default_transaction_read_only forbids"),
        ("options=--default-transaction-read-only=on", "options: default_transaction_read_only forbids"),
        ("sslmode=require&sslmode=disable", "sslmode: is given twice"),
        ("host=other", "host: is given twice"),
    ],
)
def test_what_is_refused_by_its_name(query: str, words: str) -> None:
    with pytest.raises(UrlFault) as raised:
        read(f"postgresql://u:hidden@h/db?{query}")
    assert any(fault.startswith(words) for fault in raised.value.faults), raised.value.faults
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "h:5432/db",
        "mysql://u@h/db",
        "postgresql://",
        "postgresql:///db",
        "postgresql://u@h:port/db",
        "postgresql://u@h:70000/db",
        "postgresql://u@h1,,h2/db",
        "postgresql://u@[::1/db",
        "postgresql://u:sec/ret@h/db",
        "postgresql://u:sec#ret@h/db",
        "postgresql://u@h1,h2,h3/db?port=1,2",
    ],
)
def test_what_is_no_url(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UrlFault):
        read(url)
    with pytest.raises(SettingsError, match="DATABASE_URL: ") as raised:
        load_settings(database_url=url)
    assert "sec" not in str(raised.value).replace("secrets", "")


def test_all_faults_of_a_url_are_told_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError) as raised:
        load_settings(database_url="postgresql://u@h/db?channel_binding=require&ssl=perhaps&nonsense=1", port=-1)
    assert [part in str(raised.value) for part in ("channel_binding:", "ssl:", "nonsense:", "PORT:")] == [True] * 4


async def test_a_server_that_refuses_a_parameter_is_not_called_unreachable(carafe_database_url: str) -> None:
    database = Database(f"{carafe_database_url}?options=-c%20nonsense%3D1")
    try:
        with pytest.raises(Unavailable, match="the database refuses the connection") as raised:
            async with database.connection():
                pass
        assert "nonsense" in str(raised.value.__cause__)
    finally:
        await database.close()


async def test_what_providers_write_connects(carafe_database_url: str) -> None:
    url = f"{carafe_database_url}?schema=carafe&pgbouncer=true&connect_timeout=10&application_name=orders&ssl=false"
    connection = await connect(url, name="carafe test")
    try:
        assert await connection.fetchval("select current_setting('search_path')") == '"carafe"'
        assert await connection.fetchval("select current_setting('application_name')") == "orders: carafe test"
    finally:
        await connection.close()


def test_a_setting_keeps_its_url(tmp_path: Path) -> None:
    url = Settings(database_url="postgresql+asyncpg://u:p@h1,h2/db?ssl=true").database_url
    assert url is not None
    assert url.get_secret_value() == "postgresql://u:p@h1,h2/db?ssl=true"
    assert "p@" not in str(url).replace("***@", "")
