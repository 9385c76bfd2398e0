"""The checks of `carafe doctor`: what is reachable and what is misconfigured, each finding with advice.

Guarantees: the checks end within seconds, even if a server hangs. One failing check never hides the others.
Must never: change anything or show a password.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from carafe import locks
from carafe.jobs.queue_name import QUEUE
from carafe.named_modules import find_named, import_named
from carafe.queue import redis_away
from carafe.settings.application_folder import application_elsewhere
from carafe.settings.local_servers import NoServers, with_servers
from carafe.settings.settings import Settings, SettingsError, load_api_settings, load_settings, redact_url
from carafe.settings.sources import as_ignored
from carafe.settings.src_layout import not_installed

if TYPE_CHECKING:
    import asyncpg

    from carafe.queue.redis_rights import Refused

LOOK_TIMEOUT = 8.0
"""Seconds that all checks of one server may take."""

POSTGRES_OLDEST = 150_000
REDIS_OLDEST = (7, 0)  # BLMPOP
NEARLY_FULL = 0.9
"""Share of Redis's maxmemory above which a finding says that it is nearly full."""


class Level(StrEnum):
    """How serious a finding is. Only `BROKEN` makes the command fail."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    BROKEN = "broken"


SETTING_ADVICE = (
    "set it in the environment or, in development, in env.local; `carafe config --markdown` documents every setting"
)

LIFESPANS = 60.0
"""Seconds that the worker lifespans may take to start in a check; a worker waits longer
(`carafe.engine.lifespans.START`)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check: its subject, what it found, and what to do about it (None if nothing is to be done)."""

    level: Level
    subject: str
    text: str
    advice: str | None = None


def examine(*, worker: bool = False) -> list[Finding]:
    """Runs all checks and returns their findings: the settings, the modules that they name, Postgres, and Redis.

    If `worker` is true, leaves out what a worker does not need.
    """
    try:
        settings = load_settings() if worker else load_api_settings()
    except SettingsError as error:
        return [
            *(Finding(Level.BROKEN, "settings", fault, SETTING_ADVICE) for fault in error.faults),
            *(Finding(Level.WARNING, "settings", text) for text in error.ignored),
        ]
    findings = [Finding(Level.OK, "settings", f"every setting is valid (ENVIRONMENT is {settings.environment})")]
    for name, meant in settings.misspelled:
        findings.append(Finding(Level.WARNING, "settings", as_ignored(name, meant)))
    try:
        settings = with_servers(settings)
    except NoServers as error:
        return [*findings, *_modules(settings, worker), Finding(Level.BROKEN, "servers", error.faults[0])]
    return [*findings, *_modules(settings, worker), *asyncio.run(_servers(settings))]


# The application's modules.


def _modules(settings: Settings, worker: bool) -> Iterator[Finding]:
    from carafe.jobs.definition import kinds
    from carafe.jobs.handlers import handlers
    from carafe.jobs.modules import ModuleNotUsable, load_handlers, load_jobs

    advice = "correct the setting, or run in the folder (or environment) that has the module"
    declared: set[str] | None = None
    try:
        load_jobs(settings.job_modules)
    except ModuleNotUsable as error:
        yield Finding(Level.BROKEN, "jobs", str(error), advice)
    else:
        declared = set(kinds())
        if declared:
            yield Finding(Level.OK, "jobs", f"{_count(len(declared), 'kind')}: {', '.join(sorted(declared))}")
        else:
            named = application_elsewhere() or "name the modules that declare your jobs"
            yield Finding(Level.WARNING, "jobs", "JOB_MODULES declares no kind of job", named)
    try:
        load_handlers(settings.handler_modules)
    except ModuleNotUsable as error:
        if not isinstance(error.__cause__, NoServers):  # that has a finding of its own
            yield Finding(Level.BROKEN, "handlers", str(error), advice)
    else:
        if declared is not None:
            yield from _handled(declared, set(handlers()), set(kinds()))
        if worker and not handlers():
            yield Finding(Level.BROKEN, "handlers", "HANDLER_MODULES register no handler: no job could ever run", advice)
        if worker:
            yield from _lifespans()
    if not worker:
        yield from _target("web", "WEB_APPLICATION", settings.web_application)
    # Imported, it would set up Celery: enough that it is there.
    yield from _package("worker", "WORKER_APPLICATION", settings.worker_application.partition(":")[0])
    for package in settings.migrations:
        yield from _package("schema", "MIGRATIONS", package)


def _handled(declared: set[str], handled: set[str], known: set[str]) -> Iterator[Finding]:
    missing, hidden = sorted(declared - handled), sorted(known - declared)
    if missing:
        yield Finding(
            Level.WARNING,
            "handlers",
            f"no handler for {', '.join(missing)}",
            "their jobs wait until a worker has a handler; name its module in HANDLER_MODULES",
        )
    if hidden:
        yield Finding(
            Level.BROKEN,
            "handlers",
            f"kinds declared only in modules of HANDLER_MODULES: {', '.join(hidden)}",
            "move these job classes to a module of JOB_MODULES: the web process must know them too",
        )
    if not missing and not hidden and declared:
        yield Finding(
            Level.OK, "handlers", "every kind has a handler, and all hooks are in modules that web and worker import"
        )


def _lifespans() -> Iterator[Finding]:
    from carafe.jobs.worker_lifespan import worker_lifespans

    declared = worker_lifespans()
    if not declared:
        return
    from carafe.engine.lifespans import trouble_of

    trouble = trouble_of(declared, LIFESPANS)
    if trouble is not None:
        yield Finding(Level.BROKEN, "lifespans", trouble, "a worker does not start without them: correct what they need")
    else:
        names = ", ".join(lifespan.name for lifespan in declared)
        yield Finding(Level.OK, "lifespans", f"{_count(len(declared), 'worker lifespan')} can start: {names}")


def _target(subject: str, setting: str, target: str) -> Iterator[Finding]:
    from carafe.web.wsgi import ADVICE, is_wsgi

    module, _, attribute = target.partition(":")
    try:
        found = getattr(import_named(module), attribute or "app")
    except Exception as error:
        text = f"{setting}: {target!r} cannot be imported: {type(error).__name__}: {error}{not_installed(module)}"
        yield Finding(Level.BROKEN, subject, text, f"correct {setting}")
    else:
        if not callable(found):
            text = f"{setting}: {target!r} is neither an ASGI application nor a function that makes one"
            yield Finding(Level.BROKEN, subject, text, f"correct {setting}")
        elif is_wsgi(found):
            yield Finding(Level.BROKEN, subject, f"{setting}: {target!r} is a WSGI application", ADVICE)


def _package(subject: str, setting: str, name: str) -> Iterator[Finding]:
    try:
        found = find_named(name) is not None
    except Exception:
        found = False
    if not found:
        text = f"{setting}: {name!r} cannot be found{not_installed(name)}"
        yield Finding(Level.BROKEN, subject, text, f"correct {setting}")


# The servers.


async def _servers(settings: Settings) -> list[Finding]:
    assert settings.database_url is not None
    assert settings.redis_url is not None
    database_url, redis_url = settings.database_url.get_secret_value(), settings.redis_url.get_secret_value()
    seen = await asyncio.gather(
        _bounded("postgres", database_url, lambda found: _postgres(database_url, settings.migrations, found)),
        _bounded("redis", redis_url, lambda found: _redis(redis_url, found)),
    )
    return [finding for findings in seen for finding in findings]


async def _bounded(subject: str, url: str, look: Callable[[list[Finding]], Awaitable[None]]) -> list[Finding]:
    findings: list[Finding] = []
    try:
        async with asyncio.timeout(LOOK_TIMEOUT):
            await look(findings)
    except Exception as error:
        setting = "DATABASE_URL" if subject == "postgres" else "REDIS_URL"
        advice = f"check that the server runs and that {setting} names its host, port, user and password"
        reason = _reason(error)
        if isinstance(error, TimeoutError) and findings:
            reason = f"it answers, but did not complete the checks within {LOOK_TIMEOUT:g} s"
            advice = "check its load, its disk, and what its sessions wait for (pg_stat_activity)"
        elif isinstance(error, TimeoutError):
            reason = f"no answer within {LOOK_TIMEOUT:g} s"
        elif subject == "redis" and (code := redis_away.code(error)) is not None:
            reason, advice = redis_away.details(error), REDIS_ADVICE[code]
        elif subject == "postgres":
            advice = _server_advice(error) or advice
        findings.append(Finding(Level.BROKEN, subject, f"{redact_url(url)}: {reason}", advice))
    return findings


REDIS_ADVICE = {
    **dict.fromkeys(("READONLY", "MASTERDOWN"), "name the primary in REDIS_URL"),
    **dict.fromkeys(("CLUSTERDOWN", "MOVED", "ASK", "CROSSSLOT"), "name a single server in REDIS_URL"),
    "OOM": "raise maxmemory, or find what fills it (INFO memory); workers drain the queue meanwhile",
    "NOPERM": "grant the command with ACL SETUSER",
    "NOAUTH": "write the password into REDIS_URL, as redis://:password@host:6379/0",
    "WRONGPASS": "correct the user and the password in REDIS_URL",
    "MISCONF": "check its log: its disk may be full, or its folder not writable",
    "NOREPLICAS": "check that its replicas run (min-replicas-to-write)",
    "MAXCLIENTS": "raise maxclients, or find out who its clients are (CLIENT LIST)",
    "BUSY": "wait for the script, or end it (SCRIPT KILL)",
    "LOADING": "wait until it has loaded its data",
    "UNBLOCKED": "run the check again: this server has just become a replica or a primary",
    "WRONGTYPE": "find the program that owns the key, then delete it (DEL)",
}
"""Advice for each error code of `redis_away.REFUSALS`."""

_SERVER_ADVICE = {
    "53100": "make room on the disk that holds its data; lower values of RETENTION_SUCCEEDED and RETENTION_DEAD keep less",
    "53200": "give it more memory, or let it use less (work_mem, fewer connections)",
    "53300": "raise max_connections, or open fewer: DATABASE_POOL_SIZE limits the connections of one process",
    "53": "give it the resource that it lacks",
    "55P03": "wait for the session that holds the lock, or end it: select pg_terminate_backend(PID)",
    "57014": "check its load, its disk, and what its sessions wait for (pg_stat_activity)",
    "57P03": "wait until it has started; its log shows the progress",
    "57": "check its log: somebody ends its sessions, or it is shutting down",
    "58": "check its log: its operating system or disk fails",
    "25006": "name the primary in DATABASE_URL",
    "40": "run the check again: another transaction was in the way",
    "XX": "check its log: Postgres has an internal error, or its files are damaged",
}
"""Advice by SQLSTATE, or by its class (https://www.postgresql.org/docs/current/errcodes-appendix.html), for errors that no
migration can repair."""


def _server_advice(error: BaseException) -> str | None:
    """Returns the advice for an error that the state of Postgres has caused; None for an error that a statement or a setting
    has caused."""
    state = getattr(error, "sqlstate", None) or ""
    return _SERVER_ADVICE.get(state) or _SERVER_ADVICE.get(state[:2])


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")


async def _postgres(url: str, migrations: Sequence[str], findings: list[Finding]) -> None:
    from carafe.postgres_url import connect

    # Also one that may not be written is looked at: the findings say so.
    connection = await connect(url, name="carafe doctor", writable=False)
    try:
        asked = time.time()
        row = await connection.fetchrow(
            "select current_setting('server_version') as version, current_setting('server_version_num')::int as number,"
            " current_setting('fsync') as fsync, current_setting('synchronous_commit') as synchronous_commit,"
            " current_setting('full_page_writes') as full_page_writes, pg_is_in_recovery() as standby,"
            " current_setting('transaction_read_only')::bool as read_only,"
            " extract(epoch from clock_timestamp())::float8 as now"
        )
        middle = (asked + time.time()) / 2
        if row["number"] < POSTGRES_OLDEST:
            text = f"{redact_url(url)}: version {row['version']} is older than 15"
            findings.append(Finding(Level.BROKEN, "postgres", text, "use PostgreSQL 15 or newer"))
        else:
            findings.append(Finding(Level.OK, "postgres", f"{redact_url(url)}: version {row['version']}"))
        findings += _durability(row)
        skew = row["now"] - middle
        apart = f"{abs(skew):.3f} s {'ahead of' if skew > 0 else 'behind'}"
        findings.append(Finding(Level.NOTE, "clock", f"Postgres is {apart} this host; only Postgres's clock decides"))
        locked = await _locks(connection, findings)
        await _vacuum(connection, findings)
        statements = [] if locked or row["read_only"] else await _statements(connection)
        if "alembic_version" not in locked:
            await _schema(url, migrations, findings)
        findings += statements
        if "workers" not in locked:
            await _workers(connection, findings)
        if not locked & {"jobs", "leases"}:
            await _upkeep(connection, findings)
    finally:
        await connection.close(timeout=1)


HELD = 1.0
"""Seconds for which a lock must be held to be reported. The steward itself holds one for a moment when it makes
partitions."""

SHOWN_TABLES = 3
"""How many tables are named for one lock. A lock on a partitioned table locks all its partitions."""


async def _locks(connection: "asyncpg.Connection[Any]", findings: list[Finding]) -> frozenset[str]:
    """Finds the sessions whose locks block Carafe's statements; returns the tables of Carafe that they block."""
    before = {way.pid for way in await locks.in_the_way(connection)}
    if not before:
        return frozenset()
    await asyncio.sleep(HELD)
    found = [way for way in await locks.in_the_way(connection, seconds=HELD) if way.pid in before]
    tables = frozenset(table for way in found for table in way.tables)
    for way in found:
        names = ", ".join(f"carafe.{table}" for table in sorted(way.tables)[:SHOWN_TABLES])
        text = (
            f"{way.holder} locks {names}: nothing can be written there" if names else f"{way.holder} holds up {way.waiting}"
        )
        advice = f"let it end its transaction, or end its session: select pg_terminate_backend({way.pid})"
        if way.pid == 0:
            advice = "commit or roll back the prepared transaction (pg_prepared_xacts)"
        findings.append(Finding(Level.BROKEN if tables else Level.WARNING, "locks", text, advice))
    if tables:
        findings.append(Finding(Level.NOTE, "statements", "not checked while the lock is held"))
    return tables


async def _statements(connection: "asyncpg.Connection[Any]") -> list[Finding]:
    """Checks that this user may run every statement of Carafe, and that all statements fit the current schema.

    The statements are tried in a transaction that is rolled back.
    """
    import asyncpg

    from carafe.engine import statements as of_engine
    from carafe.steward import statements as of_steward
    from carafe.store.postgres_rights import grants
    from carafe.store.rehearsal import rehearse

    count, refusals = await rehearse(connection, of_engine, of_steward)
    if not refusals:
        return [
            Finding(Level.OK, "statements", f"all {count} fit the schema; those of a worker were executed and rolled back"),
            *await _partitions(connection),
        ]
    rights = [refusal for refusal in refusals if isinstance(refusal.error, asyncpg.InsufficientPrivilegeError)]
    unseen = [refusal for refusal in refusals if refusal.error is None]
    states = [refusal for refusal in refusals if refusal.error is not None and _server_advice(refusal.error) is not None]
    raised = [refusal for refusal in refusals if isinstance(refusal.error, asyncpg.PLPGSQLError)]
    others = [refusal for refusal in refusals if refusal not in (*rights, *unseen, *states, *raised)]
    findings = []
    for refusal in {refusal.reason: refusal for refusal in reversed(states)}.values():
        assert refusal.error is not None
        text = f"it cannot execute {refusal.statement}.sql now: {type(refusal.error).__name__}: {refusal.reason}"
        findings.append(Finding(Level.BROKEN, "postgres", text, _server_advice(refusal.error)))
    if raised:
        text = f"{raised[0].statement}.sql: {raised[0].reason}"
        findings.append(Finding(Level.BROKEN, "statements", text, "look at the triggers on carafe's tables"))
    for reason in dict.fromkeys(refusal.reason for refusal in rights):
        names = sorted({refusal.statement for refusal in rights if refusal.reason == reason})
        text = f"{reason}: {_count(len(names), 'statement')} would fail, such as {names[0]}.sql"
        advice = f"as the owner of the tables, execute: {'; '.join(grants('USER'))}"
        findings.append(Finding(Level.BROKEN, "rights", text, advice))
    if unseen:
        text = f"{unseen[0].statement}.sql: {unseen[0].reason}"
        findings.append(Finding(Level.BROKEN, "rights", text, "look at row-level security and triggers on carafe's tables"))
    if others:
        text = f"{len(others)} of {count} do not fit the schema, such as {others[0].statement}.sql: {others[0].reason}"
        findings.append(Finding(Level.BROKEN, "statements", text, "run `carafe migrate`"))
    return findings


async def _partitions(connection: "asyncpg.Connection[Any]") -> list[Finding]:
    """Checks that a steward that runs as this user can make the daily partitions, for which the user must own the tables."""
    owns = await connection.fetchval(
        "select pg_has_role(relowner, 'usage') from pg_class where oid = 'carafe.jobs_ended'::regclass"
    )
    if owns:
        return []
    text = "this user does not own carafe's tables: a steward that runs as this user can neither make nor drop partitions"
    return [
        Finding(
            Level.WARNING,
            "rights",
            text,
            "run the steward as the owner, and set STEWARD=false for this user",
        )
    ]


def _durability(row: Any) -> Iterator[Finding]:
    if row["standby"]:
        yield Finding(
            Level.BROKEN, "postgres", "it is a standby: nothing can be written", "name the primary in DATABASE_URL"
        )
    elif row["read_only"]:
        yield Finding(
            Level.BROKEN,
            "postgres",
            "this user's transactions are read-only (default_transaction_read_only is on): nothing can be written",
            "name the primary in DATABASE_URL, or find out why this is set before you remove it from this user, database or "
            "server: after a failover it keeps the former primary from accepting writes",
        )
    for name, cost in (
        ("fsync", "an accepted job is lost when the machine loses power"),
        ("synchronous_commit", "an accepted job may be lost when Postgres crashes"),
        ("full_page_writes", "pages torn by a power loss cannot be repaired"),
    ):
        if row[name] == "off":
            yield Finding(Level.BROKEN, "postgres", f"{name} is off: {cost}", f"set {name} = on")
    if row["fsync"] != "off" and row["synchronous_commit"] != "off":
        yield Finding(Level.OK, "postgres", "commits are durable")


async def _workers(connection: "asyncpg.Connection[Any]", findings: list[Finding]) -> None:
    import asyncpg

    from carafe.store.paused_kinds import older_words, older_workers
    from carafe.store.statements import KNOWN_KINDS

    try:
        known = sorted(str(row["kind"]) for row in await KNOWN_KINDS.fetch(connection))
        older = await older_workers(connection)
    except asyncpg.PostgresError:
        return  # the findings about schema and rights say it
    text = f"live workers handle {', '.join(known)}" if known else "no worker is alive (workers may scale to zero)"
    if not known and any(finding.level is Level.BROKEN for finding in findings):
        text = "no worker is visible: what is broken here may keep live workers from sending heartbeats"
    findings.append(Finding(Level.NOTE, "workers", text))
    if older:
        advice = "replace them; until then, pause the queue in place of a kind"
        findings.append(Finding(Level.WARNING, "workers", older_words(older), advice))


OVERDUE = """
select (
    select min(due_at) from carafe.jobs
    where state in ('scheduled', 'retrying') and due_at < now() - interval '15 seconds'
) as due_at
where not exists (select from carafe.leases where name = 'steward' and expires_at > now())
"""
"""No row if a steward leads; otherwise when the job was due that has waited longest. A new leader needs at most 12 s."""


async def _upkeep(connection: "asyncpg.Connection[Any]", findings: list[Finding]) -> None:
    """Finds jobs that are due, but that no steward queues."""
    import asyncpg

    try:
        due_at = await connection.fetchval(OVERDUE)
    except asyncpg.PostgresError:
        return  # the findings about schema and rights say it
    if due_at is not None:
        text = f"no steward leads, and jobs are overdue (the first since {due_at:%Y-%m-%d %H:%M:%S} UTC): they do not run"
        advice = "start a process with STEWARD=true: a worker, `carafe serve` or `carafe steward`"
        findings.append(Finding(Level.BROKEN, "upkeep", text, advice))


async def _vacuum(connection: "asyncpg.Connection[Any]", findings: list[Finding]) -> None:
    from carafe.store.database import OLDER_SCHEMA
    from carafe.store.held_back import held_back

    try:
        held = await held_back(connection)
    except OLDER_SCHEMA:
        return  # the schema's own finding says it
    dead = f"{_count(held.dead_rows, 'dead row')} of the table of live jobs"
    if held.holder is not None:
        age = "" if held.holder.seconds is None else f" for {held.holder.seconds:.0f} s"
        level = Level.WARNING if held.matters else Level.NOTE
        text = f"{held.holder.words} has held back vacuum{age}; {dead} wait for it"
        findings.append(Finding(level, "vacuum", text, held.holder.advice))
    elif not held.unseen:
        findings.append(Finding(Level.OK, "vacuum", f"nothing holds vacuum back ({dead} wait for it)"))
    if held.unseen:
        text = f"{_count(held.unseen, 'session')} of other users cannot be looked at: one of them may hold back vacuum"
        findings.append(Finding(Level.NOTE, "vacuum", text, "grant pg_read_all_stats to the user of DATABASE_URL"))


async def _schema(url: str, migrations: Sequence[str], findings: list[Finding]) -> None:
    from sqlalchemy import NullPool
    from sqlalchemy.ext.asyncio import create_async_engine

    from carafe.postgres_url import connect
    from carafe.store.revisions import LIBRARY, Revisions

    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: connect(url, name="carafe doctor", writable=False),
        poolclass=NullPool,
    )
    behind: list[str] = []
    ahead: list[str] = []
    try:
        async with engine.connect() as connection:
            for package in (LIBRARY, *migrations):
                try:
                    stands, head, known = await connection.run_sync(lambda sync, of: Revisions(of).state(sync), package)
                except Exception as error:
                    await connection.rollback()
                    if "permission denied" in str(error):
                        text = f"{package}: this user has no right to read the schema's version"
                        findings.append(Finding(Level.WARNING, "schema", text, "grant it select on the version's table"))
                        continue
                    findings.append(_of_revisions(package, error))
                    continue
                if stands and stands not in known:
                    ahead.append(f"{package} is at {stands} (this version knows up to {head})")
                elif stands != head:
                    behind.append(f"{package} is at {stands or 'nothing'} (newest: {head})")
    finally:
        await engine.dispose()
    if ahead:
        text = f"newer than this version of the program: {', '.join(ahead)}"
        findings.append(Finding(Level.BROKEN, "schema", text, "use the version that migrated the schema, or a newer one"))
    if behind:
        text = f"not what this version needs: {', '.join(behind)}"
        findings.append(Finding(Level.BROKEN, "schema", text, "run `carafe migrate`"))
    if not ahead and not behind:
        findings.append(Finding(Level.OK, "schema", "current"))


def _of_revisions(package: str, error: Exception) -> Finding:
    from carafe.jobs.modules import ModuleNotUsable
    from carafe.store.revisions import MigrationFailed

    if isinstance(error, MigrationFailed):
        return Finding(Level.BROKEN, "schema", str(error), "correct the package's revisions")
    text = str(error) if isinstance(error, ModuleNotUsable) else f"{package}: {_reason(error)}"
    return Finding(Level.BROKEN, "schema", text, "correct MIGRATIONS")


async def _redis(url: str, findings: list[Finding]) -> None:
    from carafe.queue import redis_clients
    from carafe.queue.redis_rights import everybody, refused

    client = redis_clients.connect_asynchronously(url, timeout=3, name="carafe-doctor")
    try:
        await client.ping()
        try:
            information = dict(await client.info("everything"))
        except redis_away.errors():
            text = f"{redact_url(url)}: answers; its user may not run INFO, so its version and settings are not known"
            findings.append(Finding(Level.NOTE, "redis", text))
            information = {}
        if information:
            findings += _redis_findings(url, information)
        if not any(finding.level is Level.BROKEN and "replica" in finding.text for finding in findings):
            database = int(client.connection_pool.connection_kwargs.get("db") or 0)
            findings += _redis_rights(await refused(client, everybody(database)), database)
        findings += await _redis_keys(client)
    finally:
        await client.aclose()


async def _redis_keys(client: Any) -> list[Finding]:
    """Checks that each of Carafe's keys in Redis has the right type. Raises the Redis client's other errors."""
    from carafe.queue.redis_rights import BUSY, RUNNING

    findings = []
    for key, look, what in ((QUEUE, "LLEN", "list"), (RUNNING, "ZCARD", "sorted set"), (BUSY, "ZCARD", "sorted set")):
        try:
            await client.execute_command(look, key)
        except redis_away.errors() as error:
            code = redis_away.code(error)
            if code == "WRONGTYPE":
                text = f"the key {key} is not a {what}: another program uses it, and workers take no jobs until it is gone"
                if key != QUEUE:
                    text = f"the key {key} is not a {what}: another program uses it, and the autoscaler miscounts"
                advice = f"check that REDIS_URL names a database that only Carafe uses, then delete the key: DEL {key}"
                findings.append(Finding(Level.BROKEN, "redis", text, advice))
            elif code != "NOPERM":  # the finding about rights says that
                raise
    return findings


def _redis_rights(found: "Sequence[Refused]", database: int) -> Iterator[Finding]:
    """Yields findings about the commands of Carafe that Redis would refuse, with the reason that Redis gives."""
    from carafe.queue.redis_away import REFUSALS
    from carafe.queue.redis_rights import acl

    if not found:
        yield Finding(Level.OK, "redis", "this user may run every command that Carafe uses")
        return
    missing = [refusal for refusal in found if refusal.code == "NOPERM"]
    for why in dict.fromkeys(refusal.use.why for refusal in missing):
        uses = [refusal.use for refusal in missing if refusal.use.why == why]
        commands = ", ".join(dict.fromkeys(" ".join(use.command[:3]) for use in uses))
        text = f"its user cannot {why}: Redis refuses {commands}"
        yield Finding(Level.BROKEN, "redis", text, f"grant these commands: ACL SETUSER USER {acl(database)}")
    for code in dict.fromkeys(refusal.code for refusal in found if refusal.code != "NOPERM"):
        error = next(refusal.error for refusal in found if refusal.code == code)
        text = REFUSALS[code] if code is not None else f"it refuses commands that Carafe needs: {error}"
        advice = "check that REDIS_URL names a single server that accepts writes, not a replica"
        yield Finding(Level.BROKEN, "redis", text, advice if code is None else REDIS_ADVICE[code])


def _redis_findings(url: str, information: dict[str, Any]) -> Iterator[Finding]:
    version = str(information.get("redis_version", "0"))
    name = f"Valkey {information['valkey_version']}" if "valkey_version" in information else f"version {version}"
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < REDIS_OLDEST:
        text = f"{redact_url(url)}: {name} is older than 7.0"
        yield Finding(Level.BROKEN, "redis", text, "use Redis 7 or newer, or Valkey")
    else:
        yield Finding(Level.OK, "redis", f"{redact_url(url)}: {name}")
    if str(information.get("role", "master")) != "master":
        yield Finding(Level.BROKEN, "redis", "it is a replica: nothing can be written", "name the primary in REDIS_URL")
    if information.get("cluster_enabled"):
        yield Finding(Level.BROKEN, "redis", "it is a cluster", "name a single server in REDIS_URL")
    policy = str(information.get("maxmemory_policy", ""))
    if policy and policy != "noeviction":
        text = f"maxmemory-policy is {policy}: a full Redis drops the queue"
        yield Finding(Level.BROKEN, "redis", text, "set maxmemory-policy noeviction (an evicted hint only delays its job)")
    limit, used = int(information.get("maxmemory", 0)), int(information.get("used_memory", 0))
    if limit and limit > used > NEARLY_FULL * limit:
        text = f"{used / limit:.0%} of maxmemory is used: a full Redis accepts no hints, and jobs start late"
        yield Finding(Level.WARNING, "redis", text, "raise maxmemory, or let more workers empty the queue")
    if not information.get("aof_enabled"):
        yield Finding(
            Level.WARNING,
            "redis",
            "append-only file is off: a restart empties the queue",
            "set appendonly yes; without it every waiting job is pushed again after a restart",
        )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
