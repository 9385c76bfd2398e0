"""Reads DATABASE_URL, in all the forms that providers use, and makes connections to Postgres. Every driver and every command
uses this module to read it. (`carafe.store.blocking_connection` makes the connections of a `SyncClient`.)

Guarantees: a parameter is either understood, or refused in a message that names it and says what to do instead. All faults
are reported together, before anything connects. A message never repeats a value, since the value may be secret. With several
hosts, the connection goes to the one that accepts writes, whatever their order, and a host that does not answer delays no
other. The form is libpq's (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING), with what Prisma,
Node and SQLAlchemy add to it.
"""

import asyncio
import difflib
import os
import random
import re
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextvars import Context
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

if TYPE_CHECKING:
    import asyncpg

EXAMPLE = "postgresql://user:password@host:5432/database"

CONNECT_TIMEOUT = 3.0
"""Seconds until a connection attempt is given up, if the URL does not set ``connect_timeout``."""

LET_GO = 0.05
"""Seconds to wait before an abandoned connection attempt is cancelled. When an attempt is cancelled right after it began,
asyncpg leaves an unhandled error behind."""

NEXT_HOST = 0.5
"""With several hosts: seconds without an answer after which the next host is tried as well."""

SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg", "postgresql+psycopg", "postgresql+psycopg2")

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

_SSL_WORDS = {
    **dict.fromkeys(("true", "1", "on", "yes", "no-verify"), "require"),
    **dict.fromkeys(("false", "0", "off", "no"), "disable"),
}

_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")

_AS_THEY_ARE = (
    "sslpassword",
    "sslnegotiation",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "krbsrvname",
    "gsslib",
)

_SERVER_SETTINGS = (
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "search_path",
    "timezone",
    "jit",
)

_WITHOUT_EFFECT = (
    # TCP keeps its connections alive as the system says, and each statement has a timeout of its own.
    *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"),
    # What the driver does anyway, or what speaks to another driver.
    *("sslsni", "sslcompression", "uselibpqcompat", "pgbouncer"),
)

_REFUSED = {
    "hostaddr": "write the address as the host",
    "service": "write out what the service file says",
    "servicefile": "write out what the service file says",
    "connection_limit": "remove it; DATABASE_POOL_SIZE bounds the connections of a process",
    "pool_timeout": "remove it; a caller waits for a connection as long as connect_timeout says",
    "max_connections": "remove it; DATABASE_POOL_SIZE bounds the connections of a process",
    "statement_cache_size": "remove it; behind a transaction pooler PgBouncer 1.21 or newer is needed",
    "prepared_statement_cache_size": "remove it; behind a transaction pooler PgBouncer 1.21 or newer is needed",
    "replication": "remove it; this is not a replication client",
    "require_auth": "remove it; pg_hba.conf of the server says which method is used",
    "requirepeer": "remove it; the driver cannot look at the owner of a socket",
    "sslaccept": "write sslmode=verify-full for strict, sslmode=require for accept_invalid_certs",
    "sslidentity": "write sslcert and sslkey",
}

_WRITABLE = ("any", "read-write", "primary")


class UrlFault(ValueError):
    """A database URL that cannot be used. `faults` has each reason, without any value from the URL."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(faults))


class NotWritable(ConnectionError):
    """Postgres answers but does not accept writes: it is a standby, or a primary that was demoted or set read-only."""

    def __init__(self, message: str = "Postgres answers but does not accept writes: it is a standby, or read-only") -> None:
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class PostgresUrl:
    """The parts of a database URL.

    `hosts` are names, addresses or socket folders, each with its port. `settings` are settings of Postgres for each
    connection; `driver` has the parameters that asyncpg itself understands. `connect_timeout` is in seconds. `shuffled`:
    whether the hosts are tried in random order.
    """

    hosts: tuple[tuple[str, int], ...]
    user: str | None
    password: str | None = field(repr=False)
    database: str | None
    driver: Mapping[str, str] = field(repr=False)
    settings: Mapping[str, str]
    application_name: str | None
    connect_timeout: float
    shuffled: bool = False

    def dsn(self, host: tuple[str, int]) -> str:
        """The URL of one host, for asyncpg, without the settings."""
        name, port = host
        login = quote(self.user or "", safe="")
        if self.password is not None:
            login += f":{quote(self.password, safe='')}"
        # asyncpg takes the port of a socket's folder from the parameters alone.
        socket = {"host": name, "port": str(port)} if name.startswith("/") else {}
        shown = "" if socket else f"[{name}]:{port}" if ":" in name else f"{quote(name, safe='')}:{port}"
        query = urlencode({**socket, **self.driver})
        return f"postgresql://{login}@{shown}/{quote(self.database or '', safe='')}{'?' if query else ''}{query}"

    @property
    def dsns(self) -> list[str]:
        """The URL of each host (see `dsn`), in the order in which the hosts are tried."""
        hosts = list(self.hosts)
        if self.shuffled:
            random.shuffle(hosts)
        return [self.dsn(host) for host in hosts]


@lru_cache(32)
def read(url: str) -> PostgresUrl:
    """The parts of `url`. Raises `UrlFault` with everything that is wrong with the URL."""
    return _Reader(url.strip()).read()


class _Reader:
    def __init__(self, url: str) -> None:
        self._url = url
        self._faults: list[str] = []
        self._driver: dict[str, str] = {}
        self._settings: dict[str, str] = {}

    def read(self) -> PostgresUrl:
        wants = f"must be a URL such as {EXAMPLE}"
        scheme, separator, rest = self._url.partition("://")
        if not separator:
            raise UrlFault([f"{wants} (it cannot be read as a URL)"])
        if scheme.lower() not in SCHEMES:
            raise UrlFault([f"{wants} (its scheme is none of {', '.join(f'{known}://' for known in SCHEMES)})"])
        # Python reads no list of hosts, and puts an @, / or # that is not written as %40, %2F, %23 anywhere.
        location = re.match(r"[^/?#]*", rest)
        assert location is not None
        netloc, after = location.group(), rest[location.end() :]
        if "@" in after:
            raise UrlFault([f"{wants} (write / ? # in a password as %2F %3F %23)"])
        parts = urlsplit(f"x://h{after}")
        if parts.fragment or after.endswith("#"):
            raise UrlFault([f"{wants} (write # as %23)"])
        login, _, hosts_text = netloc.rpartition("@")
        user, colon, password = login.partition(":")
        query = self._query(parts.query)
        hosts = self._hosts(query.pop("host", ""), query.pop("port", ""), hosts_text)
        database = unquote(parts.path.removeprefix("/")) or None
        for name in ("dbname", "database"):
            database = query.pop(name, None) or database
        found = PostgresUrl(
            hosts=hosts,
            user=query.pop("user", None) or unquote(user) or None,
            password=query.pop("password", None) or (unquote(password) if colon else None),
            database=database,
            driver=self._driver,
            settings=self._settings,
            application_name=self._application_name(query),
            connect_timeout=self._connect_timeout(query.pop("connect_timeout", None)),
            shuffled=self._choice(query, "load_balance_hosts", ("disable", "random")) == "random",
        )
        self._attributes(query)
        self._ssl(query)
        self._server(query)
        for name in query:
            self._faults.append(self._unknown(name))
        if self._faults:
            raise UrlFault(self._faults)
        return found

    def _query(self, text: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, value in parse_qsl(text, keep_blank_values=True):
            if name in found and found[name] != value and name != "options":
                self._faults.append(f"{_shown(name)}: is given twice; write it once")
            found[name] = f"{found[name]} {value}" if name == "options" and name in found else value
        return {name: value for name, value in found.items() if value != "" or name not in ("host", "port")}

    # Where it is.

    def _hosts(self, named: str, ports: str, location: str) -> tuple[tuple[str, int], ...]:
        if named and location:
            self._faults.append("host: is given twice; write it before the path or as a parameter, not both")
        if not named and not location:
            raise UrlFault([f"must be a URL such as {EXAMPLE} (it names no host)"])
        hosts = [self._host(text) for text in (location or named).split(",")]
        default = [self._port(text) for text in ports.split(",")] if ports else [5432]
        if len(default) not in (1, len(hosts)):
            self._faults.append(f"port: there are {len(default)} for {len(hosts)} hosts; write one, or one for each host")
            default = [5432]
        if len(default) == 1:
            default *= len(hosts)
        return tuple((name, port or other) for (name, port), other in zip(hosts, default, strict=True))

    def _host(self, text: str) -> tuple[str, int | None]:
        found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%A-Za-z0-9]+)\]|([^:\[\]]*))(?::([^:]*))?", text.strip())
        if found is None:
            wants = (
                "a host of it cannot be read; write host:port, an IPv6 address in brackets, and hosts separated by commas"
            )
            raise UrlFault([f"must be a URL such as {EXAMPLE} ({wants})"])
        name = found[1] or unquote(found[2] or "")
        if not name:
            raise UrlFault([f"must be a URL such as {EXAMPLE} (one of its hosts has no name)"])
        return name, self._port(found[3]) if found[3] else None

    def _port(self, text: str) -> int:
        text = text.strip()
        if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) < 65_536:
            self._faults.append(f"must be a URL such as {EXAMPLE} (its port is not a number from 1 to 65535)")
            return 5432
        return int(text)

    # What the parameters say.

    def _choice(self, query: dict[str, str], name: str, known: tuple[str, ...], advice: str = "") -> str | None:
        value = query.pop(name, None)
        if value is not None and value not in known:
            self._faults.append(f"{name}: must be {' or '.join(known)}{advice}")
        return value

    def _application_name(self, query: dict[str, str]) -> str | None:
        fallback = query.pop("fallback_application_name", None)
        return query.pop("application_name", None) or fallback

    def _connect_timeout(self, text: str | None) -> float:
        if text is None:
            return CONNECT_TIMEOUT
        if not re.fullmatch(r"[0-9]+", text) or not 1 <= int(text) <= 60:
            self._faults.append("connect_timeout: must be whole seconds from 1 to 60")
            return CONNECT_TIMEOUT
        return float(text)

    def _attributes(self, query: dict[str, str]) -> None:
        # All of these mean the same here: whatever is written goes to the server that takes it.
        advice = ": Carafe needs a server that accepts writes; name the primary, or all hosts with read-write"
        self._choice(query, "target_session_attrs", _WRITABLE, advice)
        advice = ": the driver cannot bind to the TLS channel; sslmode=verify-full with sslrootcert checks who the server is"
        self._choice(query, "channel_binding", ("prefer", "disable"), advice)
        self._choice(query, "gssencmode", ("prefer", "disable"), ": the driver only encrypts with TLS (sslmode)")
        encoding = query.pop("client_encoding", "utf8").lower().replace("-", "")
        if encoding not in ("utf8", "unicode", "auto"):
            self._faults.append("client_encoding: must be UTF8")

    def _ssl(self, query: dict[str, str]) -> None:
        short, mode = query.pop("ssl", None), query.pop("sslmode", None)
        if short is not None:
            meant = _SSL_WORDS.get(short.lower(), short)
            if meant not in SSL_MODES:
                self._faults.append("ssl: must be true or false; sslmode says how certificates are checked")
            elif mode is not None and (meant == "disable") != (mode == "disable"):
                self._faults.append("ssl: contradicts sslmode; write only sslmode")
            mode = mode or meant
        if mode is not None:
            if mode in _SSL_WORDS:
                mode = _SSL_WORDS[mode]
            if mode not in SSL_MODES:
                self._faults.append(f"sslmode: must be one of {', '.join(SSL_MODES)}")
            self._driver["sslmode"] = mode
        for name in _FILES:
            if name in query:
                value = query.pop(name)
                if name == "sslrootcert" and value == "system":
                    self._system_certificates(mode)
                    continue
                path = os.path.expanduser(value)
                if not os.access(path, os.R_OK) or not os.path.isfile(path):
                    self._faults.append(f"{name}: names a file that is not there or cannot be read")
                self._driver[name] = path
        for name in _AS_THEY_ARE:
            if name in query:
                self._driver[name] = query.pop(name)
        for name in ("ssl_min_protocol_version", "ssl_max_protocol_version"):
            if self._driver.get(name, "TLSv1.2") not in ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"):
                self._faults.append(f"{name}: must be TLSv1.2 or TLSv1.3")
        if self._driver.get("sslnegotiation", "postgres") not in ("postgres", "direct"):
            self._faults.append("sslnegotiation: must be postgres or direct")
        elif self._driver.get("sslnegotiation") == "direct" and mode not in ("require", "verify-ca", "verify-full"):
            self._faults.append("sslnegotiation: direct needs sslmode=require, verify-ca or verify-full")
        if mode in ("verify-ca", "verify-full") and "sslrootcert" not in self._driver and not self._faults:
            root = os.environ.get("PGSSLROOTCERT") or os.path.expanduser("~/.postgresql/root.crt")
            if not os.access(root, os.R_OK):
                self._faults.append(
                    f"sslmode: {mode} needs the certificates to check against; add sslrootcert=FILE, or sslrootcert=system "
                    "for those of this machine"
                )

    def _system_certificates(self, mode: str | None) -> None:
        import ssl

        if mode not in (None, "verify-full"):
            self._faults.append("sslrootcert: system needs sslmode=verify-full")
        paths = ssl.get_default_verify_paths()
        if not paths.cafile:
            self._faults.append("sslrootcert: this machine has no file of certificates; name one")
            return
        self._driver |= {"sslmode": "verify-full", "sslrootcert": paths.cafile}

    def _server(self, query: dict[str, str]) -> None:
        for name in ("schema", "currentSchema"):  # Prisma's word, and JDBC's
            if name in query:
                schemas = [part.strip().strip('"') for part in query.pop(name).split(",")]
                if not all(schemas) or any('"' in part or "\0" in part for part in schemas):
                    self._faults.append(f"{name}: must be names of schemas")
                self._settings["search_path"] = ", ".join(f'"{part}"' for part in schemas)
        for name in _SERVER_SETTINGS:
            if name in query:
                self._settings[name] = query.pop(name)
        if (options := query.pop("options", "")).strip():
            for name, value in _options(options):
                if name in ("default_transaction_read_only", "transaction_read_only") and value.lower() not in _OFF:
                    self._faults.append(f"options: {name} forbids writes, which every job needs; remove it")
            self._settings["options"] = options.strip()
        for name in _WITHOUT_EFFECT:
            query.pop(name, None)

    def _unknown(self, name: str) -> str:
        if name in _REFUSED:
            return f"{name}: is not understood here; {_REFUSED[name]}"
        near = difflib.get_close_matches(name, _KNOWN, n=1, cutoff=0.8)
        if near:
            return f"{_shown(name)}: is not a parameter of a Postgres URL: did you mean {near[0]}?"
        return (
            f"{_shown(name)}: is not a parameter of a Postgres URL; remove it, or if it is a server setting write it as "
            "options=-c%20NAME%3DVALUE"
        )


_OFF = ("off", "false", "no", "0", "f", "n")

_KNOWN = (
    *("host", "port", "user", "password", "dbname", "connect_timeout", "target_session_attrs", "load_balance_hosts"),
    *("application_name", "channel_binding", "gssencmode", "client_encoding", "ssl", "sslmode", "schema", "options"),
    *(*_FILES, *_AS_THEY_ARE, *_SERVER_SETTINGS, *_WITHOUT_EFFECT),
)


def _options(text: str) -> Iterator[tuple[str, str]]:
    """Yields name and value of each setting in the URL's parameter ``options``: ``-c name=value`` or ``--name=value``."""
    for found in re.finditer(r"(?:-c\s*|--)([A-Za-z_][\w.-]*)=((?:\\.|[^\s\\])*)", text):
        yield found[1].replace("-", "_").lower(), found[2]


def _shown(name: str) -> str:
    """A parameter's name for a message. A name that is not a word is left out: it may be a piece of a password."""
    return name if re.fullmatch(r"[A-Za-z_][\w.]{0,60}", name) else "a parameter whose name is not a word"


# Connecting.


def plain_dsn(url: str) -> str:
    """The URL of the first host, for a driver that only reads libpq's form of a URL."""
    return read(url).dsns[0]


def settings_of(found: PostgresUrl, name: str) -> dict[str, str]:
    """Postgres's settings for a connection that is called `name`: those that Carafe sets, and those in the URL. If both give
    a value for the same setting, the URL's value counts."""
    shown = f"{found.application_name}: {name}" if found.application_name else name
    # Postgres cuts a longer name by itself, with a notice for each connection.
    return {"application_name": shown.encode()[:63].decode(errors="ignore"), "jit": "off", **found.settings}


def _place(dsn: str) -> str:
    """The host and port in a URL that `PostgresUrl.dsn` made, for messages."""
    parts = urlsplit(dsn)
    return parts.netloc.rpartition("@")[2] or str(dict(parse_qsl(parts.query)).get("host"))


async def connect(
    url: str,
    *,
    name: str = "carafe",
    server_settings: Mapping[str, str] | None = None,
    writable: bool = True,
    **options: Any,
) -> "asyncpg.Connection[asyncpg.Record]":
    """A connection to that host in `url` which accepts writes. Every connection for an event loop is made here.

    ``pg_stat_activity`` shows `name`. With ``writable=False`` the connection is for reading: a host that accepts writes is
    preferred, but any host that answers will do. Raises `NotWritable` when a host answers but none accepts writes,
    `UrlFault` for a bad URL, TimeoutError after the URL's ``connect_timeout`` (seconds), and otherwise asyncpg's errors.
    """
    import asyncpg

    found = read(url)
    given = {**settings_of(found, name), **(server_settings or {})}
    options.setdefault("timeout", found.connect_timeout)

    def attempt(dsn: str) -> Callable[[], Coroutine[Any, Any, Any]]:
        async def run() -> "tuple[asyncpg.Connection[asyncpg.Record], bool]":
            try:
                connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(dsn, server_settings=given, **options)
            except Exception as error:
                error.add_note(f"(DATABASE_URL, host {_place(dsn)})")
                raise
            try:
                if not writable and len(found.hosts) == 1:
                    return connection, True
                async with asyncio.timeout(options["timeout"]):
                    return connection, await _may_write(connection, own=not writable)
            except BaseException:
                connection.terminate()
                raise

        return run

    return await _first([attempt(dsn) for dsn in found.dsns], need=writable)


WRITABLE = "select not pg_is_in_recovery() and ($1 or not current_setting('transaction_read_only')::bool)"
"""The query that asks whether the server accepts writes. The parameter $1 is true for a connection that was made read-only
on purpose: then only a standby counts as read-only, not the connection's own setting."""


async def _may_write(connection: "asyncpg.Connection[asyncpg.Record]", *, own: bool) -> bool:
    # Postgres reports both settings when a connection begins. A pooler may not pass them on: then a query asks for them.
    told = connection.get_settings()
    standby, read_only = (getattr(told, name, None) for name in ("in_hot_standby", "default_transaction_read_only"))
    if standby is not None and read_only is not None:
        return bool(standby == "off" and (own or read_only == "off"))
    return bool(await connection.fetchval(WRITABLE, own))


async def _first(attempts: list[Callable[[], Coroutine[Any, Any, Any]]], *, need: bool) -> Any:
    """The first connection to a host that accepts writes. An attempt begins when the one before it has failed or found a
    host that does not accept writes, or after `NEXT_HOST` seconds. If `need` is false and no host accepts writes, returns a
    connection that can only read."""
    waiting = list(attempts)
    running: set[asyncio.Task[Any]] = set()
    lesser: Any = None
    read_only, fault = False, None
    try:
        while waiting or running:
            if waiting:
                # Not in the context of a handler: an attempt may go on after the handler's wait, and would then be taken for
                # a task that the handler has left running.
                running.add(asyncio.create_task(waiting.pop(0)(), context=Context()))
            done, running = await asyncio.wait(
                running, timeout=NEXT_HOST if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                error = task.exception()
                if error is not None:
                    fault = fault or error
                    continue
                connection, good = task.result()
                if good:
                    running |= done - {task}
                    return connection
                read_only = True
                if need or lesser is not None:
                    connection.terminate()
                else:
                    lesser = connection
        if lesser is not None:
            lesser, kept = None, lesser
            return kept
    finally:
        if lesser is not None:
            lesser.terminate()
        for task in running:
            asyncio.get_running_loop().call_later(LET_GO, task.cancel, context=Context())
            task.add_done_callback(_drop)
    if read_only:
        raise NotWritable
    assert fault is not None
    raise fault


def _drop(task: "asyncio.Task[Any]") -> None:
    """If this attempt has made a connection although another one was chosen meanwhile, close that connection."""
    if not task.cancelled() and task.exception() is None:
        task.result()[0].terminate()
