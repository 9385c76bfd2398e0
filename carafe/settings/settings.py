"""What an operator can set, read from the environment and, in development, from `env.local`.

Guarantees: a value that does not fit prevents the start. All faults are then listed together, and each says what the setting
accepts. Passwords, tokens and secrets never show in a repr, a log line or an error.
Must never: connect to anything or import a module that a setting names. `carafe doctor` finds out what can be reached, and
the start of a process finds out what can be imported.

`load_settings()` reads the environment. `Settings(...)` itself only holds the values that it is given, so that a test does
not depend on the shell in which it runs.
"""

import difflib
import os
from collections.abc import Callable, Container, Iterable, Mapping
from ipaddress import IPv4Network, ip_address
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, Self, Union, get_args, get_origin

from dotenv import dotenv_values
from pydantic import (
    BeforeValidator,
    Field,
    PrivateAttr,
    Secret,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from carafe.settings import job_defaults
from carafe.settings.job_defaults import DAY
from carafe.settings.types import (
    ApiToken,
    DashboardUser,
    DashboardUsers,
    DatabaseUrl,
    HeaderName,
    HttpUrl,
    ModuleNames,
    Names,
    Networks,
    OtlpHeaders,
    PathPrefix,
    Port,
    Ratio,
    RedisUrl,
    Seconds,
    SecretKeys,
    SecretUrl,
    Target,
    Tokens,
    TraceUrl,
    hash_token,
    lower_case,
    open_to,
    redact_url,
    upper_case,
)

__all__ = [
    "ApiToken",
    "SecretUrl",
    "Settings",
    "SettingsError",
    "hash_token",
    "load_api_settings",
    "load_dashboard_settings",
    "load_settings",
    "redact_url",
    "require_api_settings",
    "require_dashboard_settings",
    "settings_markdown",
]

ENV_FILE = "env.local"

Source = Literal["default", "environment", "env.local", "argument"]

Served = Literal["api", "dashboard"]
"""What a process may serve. Only a process that serves the API or the dashboard must have the settings for it: other
processes do not have its secrets."""


class SettingsError(ValueError):
    """Settings that cannot be used. The error's text has one line for each fault; `faults` has the same lines as a tuple."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


def _by_environment(development: str, production: str) -> Callable[[dict[str, Any]], Any]:
    return lambda earlier: production if earlier.get("environment") == "production" else development


class _Values(BaseSettings):
    """Every setting, with a check of each single value. `Settings` also checks that the values fit together."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, enable_decoding=False)

    environment: Annotated[Literal["development", "production"], BeforeValidator(lower_case)] = Field(
        "development",
        description="Where this runs. Production requires DATABASE_URL, REDIS_URL and, where the API is served, API_TOKENS; "
        "development starts embedded servers where a URL is missing, upgrades the schema at start and reads env.local.",
    )

    # What it stands on.
    database_url: DatabaseUrl | None = Field(
        None,
        description="Postgres, as postgresql://user:password@host:5432/database. Unset in development: an embedded server.",
    )
    redis_url: RedisUrl | None = Field(
        None,
        description="Redis or Valkey, as redis://:password@host:6379/0 (rediss:// for TLS). "
        "Unset in development: an embedded server.",
    )
    data_dir: Path = Field(Path(".carafe"), description="Folder in which the embedded servers keep their data.")
    database_pool_size: int = Field(
        10, ge=1, le=1_000, description="Connections to Postgres that one process may open for its pool."
    )
    redis_timeout: Seconds = Field(
        0.25, gt=0, le=60, description="Seconds to wait for Redis before a job is accepted without its hint."
    )

    # Logs.
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(upper_case)] = Field(
        "INFO", description="The least severe log lines to write. WARNING leaves out a job's start and completion."
    )
    log_format: Annotated[Literal["json", "text"], BeforeValidator(lower_case)] = Field(
        default_factory=_by_environment("text", "json"),
        description="How a log line looks. Default: text in development, json in production.",
    )

    # Traces. The names that begin with OTEL_ are OpenTelemetry's own; its other ones are read by its SDK.
    tracing_sample_ratio: Ratio = Field(
        0,
        description="Share of the requests and jobs traced with OpenTelemetry. Requests that come with a trace follow "
        "their caller's choice. 0: tracing is off, and costs nothing.",
    )
    tracing_max_rate: int = Field(
        100,
        ge=1,
        le=1_000_000,
        description="Maximum number of traces that one worker begins in a second, for jobs that were enqueued without one. "
        "Further such jobs are not traced, so that tracing does not slow a flood of jobs down. Traces that came with their "
        "jobs always continue.",
    )
    otel_exporter_otlp_endpoint: HttpUrl | None = Field(
        None,
        description="Where spans are sent, by OTLP, such as http://collector:4317. Unset: port 4317 of this machine, or "
        "4318 for http/protobuf.",
    )
    otel_exporter_otlp_protocol: Annotated[Literal["grpc", "http/protobuf"], BeforeValidator(lower_case)] = Field(
        "grpc", description="How spans are sent."
    )
    otel_exporter_otlp_headers: OtlpHeaders | None = Field(
        None, description="Headers that go with the spans, a token for instance: name=value, separated by commas."
    )
    otel_service_name: str | None = Field(
        None,
        min_length=1,
        description="This process's service name in traces. Unset: carafe-web, carafe-worker; carafe for `carafe dev`.",
    )
    trace_url_template: TraceUrl | None = Field(
        None,
        description="Where the dashboard finds a trace, with {trace_id} for its id, such as "
        "https://tempo.example.org/trace/{trace_id}. Unset: no link.",
    )

    # The application.
    job_modules: ModuleNames = Field(
        ("briefings.jobs",), description="Modules that declare jobs and hooks, separated by commas."
    )
    handler_modules: ModuleNames = Field(
        ("worker.handlers",),
        description="Modules that hold the jobs' handlers, separated by commas; workers import them.",
    )
    web_application: Target = Field(
        "app.main:create_app",
        description="The web application, as module:name: an ASGI application, or a function that returns one.",
    )
    worker_application: Target = Field("worker:app", description="The Celery application, as module:name.")
    migrations: ModuleNames = Field(
        ("briefings.migrations",),
        description="Packages with the application's alembic migrations, run after the library's own; separated by commas.",
    )

    # How jobs run, unless a job says otherwise.
    worker_concurrency: int = Field(5, ge=1, le=10_000, description="Jobs that one worker process runs at a time.")
    worker_database_pool_size: int | None = Field(
        None,
        ge=1,
        le=20_000,
        description="Connections to Postgres that one worker may open for the sessions of its handlers, and as many again "
        "for their statements. The worker's own work uses other connections. Unset: WORKER_CONCURRENCY and two more.",
    )
    worker_max_replicas: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="Maximum number of workers that the autoscaler starts. If a job waits because of this limit, Carafe "
        "says so. Unset: the limit is not known.",
    )
    job_timeout: Seconds = Field(
        job_defaults.TIMEOUT, gt=0, le=job_defaults.MAX_TIMEOUT, description="Seconds that one attempt may take."
    )
    job_max_retries: int = Field(
        job_defaults.RETRIES, ge=0, le=job_defaults.MAX_RETRIES, description="Retries after a job's first attempt."
    )
    job_retry_base: Seconds = Field(
        2,
        gt=0,
        le=DAY,
        description="Minimum wait in seconds before the first retry; the maximum is twice that. Both double with each "
        "further retry.",
    )
    job_retry_cap: Seconds = Field(3_600, gt=0, le=30 * DAY, description="Maximum wait in seconds before any retry.")
    job_args_limit: int = Field(
        job_defaults.ARGS_BYTES, ge=1_024, le=67_108_864, description="Bytes that a job's arguments may have as JSON."
    )
    job_result_limit: int = Field(
        job_defaults.RESULT_BYTES, ge=1_024, le=67_108_864, description="Bytes that a job's result may have as JSON."
    )
    bulk_limit: int = Field(job_defaults.BULK, ge=1, le=1_000_000, description="Jobs that one bulk request may enqueue.")
    drain_timeout: Seconds = Field(
        25,
        gt=0,
        le=DAY,
        description="Seconds that running jobs get to finish after SIGTERM before they are handed back. "
        "Keep it below the pod's grace period.",
    )
    steward: bool = Field(True, description="Whether this process may lead the upkeep (promote, repair, rescue, prune).")

    # How long ended jobs are kept.
    retention_succeeded: Seconds = Field(
        7 * DAY, ge=3_600, description="Seconds that succeeded and cancelled jobs are kept (they share a table)."
    )
    retention_dead: Seconds = Field(30 * DAY, ge=3_600, description="Seconds that dead jobs are kept.")
    retention_idempotency: Seconds = Field(
        job_defaults.IDEMPOTENCY_TTL,
        ge=60,
        description="Seconds for which a repeated Idempotency-Key returns the job of the first request.",
    )

    # Where it listens, and who may call.
    host: str = Field(
        default_factory=_by_environment("127.0.0.1", "0.0.0.0"),
        min_length=1,
        description="Address that the web process and the dashboard listen on. "
        "Default: 127.0.0.1 in development, 0.0.0.0 in production.",
    )
    port: Port = Field(8080, description="Port of the web process.")
    dashboard_port: Port = Field(8081, description="Port of the dashboard.")
    probe_host: str = Field(
        default_factory=_by_environment("127.0.0.1", "0.0.0.0"),
        min_length=1,
        description="Address that a worker's health server, and /metrics of any process, listen on. "
        "Default: 127.0.0.1 in development, 0.0.0.0 in production.",
    )
    probe_port: Port = Field(8082, description="Port of a worker's health server; 0 picks a free one.")
    metrics_port: Port = Field(
        default_factory=lambda earlier: 8083 if earlier.get("environment") == "production" else 0,
        description="Port of /metrics of the web process and of `carafe steward` (a worker has it on PROBE_PORT); 0 picks a "
        "free one, and the log says which. Default: 0 in development, 8083 in production.",
    )
    web_connections: int = Field(
        1_000,
        ge=10,
        le=100_000,
        description="Maximum number of connections that each port of the web process has at once. When another one comes, "
        "the connection that has been silent for the longest is closed.",
    )
    api_tokens: Tokens = Field(
        (),
        description="Who may use the HTTP API: name:role:digest, separated by commas, role view or operate. "
        "`carafe token NAME ROLE` makes one.",
    )
    allow_open_api: Annotated[Literal["never", "localhost", "everybody"], BeforeValidator(open_to)] = Field(
        "never",
        description="In development, lets an API without tokens listen beyond this machine. localhost: the API answers only "
        "requests to localhost, and no page of another site (choose it only where no other machine reaches the port). "
        "everybody (or true): everybody who reaches the API may do everything. never (or false): the API listens on this "
        "machine alone, and answers the same requests as with localhost.",
    )

    # The dashboard.
    dashboard: bool = Field(
        True,
        description="Whether the web process serves the dashboard on DASHBOARD_PORT too. Set it to false where the "
        "dashboard runs alone (`carafe serve --dashboard`) or is mounted in the application.",
    )
    dashboard_root_path: PathPrefix = Field(
        "",
        description="Path under which a proxy serves the dashboard's own port, such as /ops/jobs. The proxy removes the "
        "path from each request; the dashboard's links, forms, redirects and cookies begin with it.",
    )
    dashboard_users: DashboardUsers = Field(
        (),
        description="Who may sign in to the dashboard: name:role:hash, separated by commas, role view or operate. "
        "`carafe dashboard hash-password NAME ROLE` makes an entry.",
    )
    dashboard_secret_keys: SecretKeys = Field(
        (),
        description="Keys that sign the dashboard's cookies, the same for all replicas, separated by commas. The first "
        "key signs, and every key verifies. So put a new key in front, and remove the old key 12 hours later. `carafe "
        "dashboard secret-key` makes a key. Empty in development: a new key at each start.",
    )
    dashboard_user_header: HeaderName | None = Field(
        None,
        description="Header with the viewer's name, set by a proxy that signs people in, such as X-Forwarded-User. "
        "It counts only from DASHBOARD_PROXY_NETWORKS.",
    )
    dashboard_proxy_networks: Networks = Field(
        (),
        description="Addresses of the proxies in front of the dashboard, such as 10.1.2.3, separated by commas; a network "
        "such as 10.1.2.0/28 where nothing but proxies is in it. DASHBOARD_USER_HEADER, "
        "X-Forwarded-Proto, X-Forwarded-Host and X-Forwarded-For are believed from these addresses alone, so any machine "
        "that has one of them can claim to be anyone.",
    )
    dashboard_operators: Names = Field(
        (),
        description="Names of DASHBOARD_USER_HEADER with the role operate, separated by commas; * is everybody. "
        "The others may view.",
    )
    dashboard_open: Annotated[Literal["never", "localhost", "everybody"], BeforeValidator(lower_case)] | None = Field(
        None,
        description="Who may do everything without signing in, while neither DASHBOARD_USERS nor DASHBOARD_USER_HEADER is "
        "set. localhost: requests to localhost (choose it only where no other machine reaches the port). everybody: "
        "everybody who reaches the dashboard by an address, or by a name that no stranger can have (see DASHBOARD_HOSTS). "
        "Unset: localhost in development while HOST is this machine's own, else never.",
    )
    dashboard_hosts: Names = Field(
        (),
        description="Names under which the dashboard is reached, such as carafe.example.org, separated by commas. Needed "
        "with DASHBOARD_OPEN=everybody for names that anybody could register: a stranger could let such a name point at "
        "this dashboard, and a web page there could then use the dashboard through its visitors' browsers.",
    )
    dashboard_args: Annotated[Literal["view", "operate", "never"], BeforeValidator(lower_case)] = Field(
        "view",
        description="Who sees the arguments and results of jobs on the dashboard: everybody who may view, only those who "
        "may operate, or (never) nobody. Secret fields are never shown.",
    )
    dashboard_streams: int = Field(
        100,
        ge=1,
        le=10_000,
        description="How many open pages of one process get live updates at the same time. Pages from one IP address get "
        "at most a quarter of these, or 6 if that is more. All other pages poll.",
    )
    dashboard_pool_size: int = Field(
        4, ge=1, le=100, description="Read-only connections to Postgres that one process opens for the dashboard."
    )

    # The briefing service.
    briefing_webhook_url: HttpUrl | None = Field(
        None, description="Webhook that writes briefings. Unset in development: the sample one of the web process."
    )
    briefing_webhook_secret: SecretStr | None = Field(None, description="Secret sent to the webhook in a header.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)  # load_settings reads the others, so that it can tell where a value came from


class Settings(_Values):
    """Every setting, checked and frozen. A field's name in upper case is its name in the environment.

    Raises pydantic's `ValidationError` on bad values; `load_settings` turns that into one readable `SettingsError`.
    """

    _sources: dict[str, Source] = PrivateAttr(default_factory=dict)
    _misspelled: list[tuple[str, str]] = PrivateAttr(default_factory=list)
    required: ClassVar[frozenset[str]] = frozenset({"database_url", "redis_url"})
    """The fields that must be set in production."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        faults = [f"{name.upper()}: {text}" for name, text in _faults_between(self, self.required)]
        if faults:
            raise ValueError("\n".join(faults))
        return self

    @property
    def dashboard_closed(self) -> bool:
        """Whether the settings let nobody use the dashboard on its own port."""
        return not self.dashboard_users and self.dashboard_user_header is None and self.dashboard_opens_to == "never"

    @property
    def dashboard_opens_to(self) -> Literal["never", "localhost", "everybody"]:
        """The value of DASHBOARD_OPEN or, while that setting is unset, the value that is used instead."""
        if self.dashboard_open is not None:
            return self.dashboard_open
        return "localhost" if self.environment == "development" and _is_loopback(self.host) else "never"

    @property
    def misspelled(self) -> list[tuple[str, str]]:
        """Environment variables that are not settings but look like a misspelt setting, as (variable's name, setting's
        name)."""
        return list(self._misspelled)

    def effective(self) -> list[tuple[str, str, Source]]:
        """Every setting as (NAME, value with secrets hidden, where the value came from), in the order of the docs."""
        shown = []
        for name in type(self).model_fields:
            source = self._sources.get(name, "argument" if name in self.model_fields_set else "default")
            shown.append((name.upper(), _shown(getattr(self, name)), source))
        return shown


class SchemaSettings(Settings):
    """The settings of a command that only changes the database schema: it needs Postgres but not Redis."""

    required: ClassVar[frozenset[str]] = frozenset({"database_url"})


def load_schema_settings() -> Settings:
    """Like `load_settings`, for a command that needs Postgres but not Redis."""
    return _load(SchemaSettings, {})


def load_settings(**overrides: object) -> Settings:
    """Settings from `overrides`, then the environment, then (in development) `env.local` in the current folder.

    An empty variable counts as unset, but for a setting that is a list it means the empty list. A variable that is not a
    setting is ignored in the environment (`Settings.misspelled` lists those that look like one), but is a fault in
    `env.local`.
    Raises SettingsError with one line for every fault.
    """
    return _load(Settings, overrides)


def load_api_settings(**overrides: object) -> Settings:
    """Like `load_settings`, for a process that serves the HTTP API and, if DASHBOARD is on, also the dashboard. Requires the
    secrets of both.

    No other process needs these secrets, or should have them. Raises SettingsError with one line for every fault.
    """
    return _load(Settings, overrides, serves="api")


def load_dashboard_settings(**overrides: object) -> Settings:
    """Like `load_settings`, for a process that serves the dashboard and not the API. Raises SettingsError with one line for
    every fault."""
    return _load(Settings, overrides, serves="dashboard")


def _load(made: type[Settings], overrides: Mapping[str, object], *, serves: Served | None = None) -> Settings:
    fields = Settings.model_fields
    faults: list[tuple[str, str]] = []
    values: dict[str, object] = {}
    sources: dict[str, Source] = {}

    def take(found: Mapping[str, object], source: Source) -> None:
        for name, value in found.items():
            if isinstance(value, str) and not value.strip() and not _is_list(fields[name]):
                values.pop(name, None)
                sources.pop(name, None)
                continue
            values[name] = value
            sources[name] = source

    environment = EnvSettingsSource(Settings)()
    where = overrides.get("environment", environment.get("environment", "")) or "development"
    if str(where).strip().lower() == "development":
        in_file = _EnvFile(Settings, env_file=ENV_FILE)
        faults = in_file.faults()
        unset = {name for name, _ in faults}
        take({name: value for name, value in in_file().items() if name not in unset}, "env.local")
    take(environment, "environment")
    take({name: value for name, value in overrides.items() if name in fields}, "argument")
    faults += [(name, _unknown(name, fields)) for name in overrides if name not in fields]

    try:
        _Values(**values)  # type: ignore[arg-type]
    except ValidationError as invalid:
        faults += [
            (str(error["loc"][0]), _fault(error, values))
            for error in invalid.errors()
            if error["type"] != "default_factory_not_called"  # another value was missing, and its own fault is listed
        ]
    faulty = {name for name, _ in faults}
    rest = _Values(**{name: value for name, value in values.items() if name not in faulty})  # type: ignore[arg-type]
    faults += [
        (name, f"{name.upper()}: {text}")
        for name, text in _faults_between(rest, made.required) + (_faults_of(rest, serves) if serves else [])
        if not faulty & {name, *_RESTS_ON.get(name, ())}  # else a fault of the other setting may be its only cause
    ]
    if faults:
        order = {name: place for place, name in enumerate(fields)}
        faults.sort(key=lambda fault: order.get(fault[0], len(order)))
        raise SettingsError(dict.fromkeys(text for _, text in faults))
    settings = made(**values)  # type: ignore[arg-type]
    settings._sources.update(sources)
    settings._misspelled += _nearly(os.environ, fields)
    return settings


def settings_markdown() -> str:
    """The text of docs/settings.md: a table of every setting, with its default, the values that it accepts and its
    purpose."""
    lines = [
        "# Settings",
        "",
        "<!-- Made by `python -m carafe.settings.settings` from its fields; a test compares the two. -->",
        "",
        "Read from the environment and, in development, from `env.local` in the current folder (the environment wins).",
        "Start-up refuses bad values with every fault listed; `carafe config` prints what is in effect, redacted.",
        "An empty variable counts as unset, except that it empties a list. Durations are seconds.",
        "A variable that is not a setting is ignored; one that looks like a misspelt setting is named in a warning.",
        "",
        "| Name | Default | Takes | What for |",
        "|---|---|---|---|",
    ]
    for name, info in Settings.model_fields.items():
        default = _default(info)
        lines.append(f"| `{name.upper()}` | {f'`{default}`' if default else ''} | {_wants(info)} | {info.description} |")
    return "\n".join(lines) + "\n"


# How settings depend on each other.


_CLOSE_OR_OPEN = (
    "set API_TOKENS (`carafe token NAME ROLE` makes one), ALLOW_OPEN_API=localhost where no other machine reaches the port, "
    "or ALLOW_OPEN_API=everybody to let everybody who reaches it do everything"
)

# A fault of a setting on the left may only be the consequence of a fault of one on the right.
_RESTS_ON = {
    "database_url": ("environment",),
    "redis_url": ("environment",),
    "api_tokens": ("environment",),
    "host": ("environment", "api_tokens", "allow_open_api"),
    "job_retry_cap": ("job_retry_base",),
    "dashboard_port": ("port",),
    "dashboard_secret_keys": ("environment", "dashboard_users", "dashboard_user_header", "dashboard_open"),
    "dashboard_proxy_networks": ("dashboard_user_header",),
    "dashboard_operators": ("dashboard_user_header",),
    "metrics_port": ("environment", "port", "dashboard_port"),
}


def _faults_between(settings: _Values, required: Container[str]) -> list[tuple[str, str]]:
    """The faults of values that are valid by themselves but do not fit together, whatever the process does. Each fault is a
    pair (field, what is wrong)."""
    faults: list[tuple[str, str]] = []
    if settings.environment == "production":
        if settings.database_url is None and "database_url" in required:
            faults.append(
                ("database_url", "is required in production, such as postgresql://user:password@host:5432/database")
            )
        if settings.redis_url is None and "redis_url" in required:
            faults.append(("redis_url", "is required in production, such as redis://:password@host:6379/0"))
    if settings.job_retry_cap < settings.job_retry_base:
        faults.append(("job_retry_cap", f"must be JOB_RETRY_BASE ({settings.job_retry_base:g} s) or more"))
    return faults


def _faults_of(settings: _Values, serves: Served) -> list[tuple[str, str]]:
    """The faults that only matter in a process that serves the API or the dashboard. Each fault is a pair (field, what is
    wrong)."""
    shows = serves == "dashboard" or settings.dashboard
    faults = _api_faults(settings) if serves == "api" else []
    faults += _dashboard_faults(settings) if shows else []
    listens = [*(["port"] if serves == "api" else []), *(["dashboard_port"] if shows else []), "metrics_port"]
    taken: dict[int, str] = {}
    for name in listens:
        number: int = getattr(settings, name)
        if number and number in taken:
            faults.append((name, f"must differ from {taken[number]} (both {number})"))
        taken.setdefault(number, name.upper())
    return faults


def _api_faults(settings: _Values) -> list[tuple[str, str]]:
    if settings.api_tokens:
        return []
    if settings.environment == "production":
        return [("api_tokens", "is required in production; `carafe token NAME ROLE` makes a token and its entry")]
    if settings.allow_open_api == "never" and not _is_loopback(settings.host):
        said = f"{settings.host!r} is reachable from other machines while API_TOKENS is empty; {_CLOSE_OR_OPEN}"
        return [("host", said)]
    return []


def require_api_settings(settings: Settings) -> None:
    """Raises SettingsError if API_TOKENS is empty although the API must not be open: in production always; elsewhere when
    HOST is not a loopback address and ALLOW_OPEN_API is "never"."""
    _require(_api_faults(settings))


def require_dashboard_settings(settings: Settings) -> None:
    """Raises SettingsError if the dashboard's settings require another setting that is missing, such as
    DASHBOARD_SECRET_KEYS in production."""
    _require(_dashboard_faults(settings))


def _require(faults: list[tuple[str, str]]) -> None:
    if faults:
        raise SettingsError(f"{name.upper()}: {text}" for name, text in faults)


def _dashboard_faults(settings: _Values) -> list[tuple[str, str]]:
    faults: list[tuple[str, str]] = []
    header, networks = settings.dashboard_user_header, settings.dashboard_proxy_networks
    if header is not None and not networks:
        faults.append(
            (
                "dashboard_proxy_networks",
                f"is required with DASHBOARD_USER_HEADER: the networks whose {header} is believed; anybody can write one",
            )
        )
    if settings.dashboard_operators and header is None:
        faults.append(("dashboard_operators", "needs DASHBOARD_USER_HEADER, which is not set"))
    if settings.environment == "production" and not settings.dashboard_secret_keys:
        opened = next(
            (
                name
                for name, given in (
                    ("DASHBOARD_USERS", settings.dashboard_users),
                    ("DASHBOARD_USER_HEADER", header),
                    ("DASHBOARD_OPEN", settings.dashboard_open not in (None, "never")),
                )
                if given
            ),
            None,
        )
        if opened:
            faults.append(
                (
                    "dashboard_secret_keys",
                    f"is required in production with {opened}; `carafe dashboard secret-key` makes one for all replicas",
                )
            )
    return faults


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


# Reading and showing.


class _EnvFile(DotEnvSettingsSource):
    """Reads `env.local`. Values are taken as they are written, without interpolation: a password may have ``${`` in it."""

    def _read_env_file(self, file_path: Path) -> Mapping[str, str | None]:
        return {name.lower(): value or "" for name, value in dotenv_values(file_path, interpolate=False).items()}

    def faults(self) -> list[tuple[str, str]]:
        """The faults of the file, as pairs (name, what is wrong): names that are not settings, or settings that may not be
        set there."""
        fields = self.settings_cls.model_fields
        told = f"ENVIRONMENT: must be set in the environment, not in {ENV_FILE}, which only development reads"
        return [
            (name, told if name == "environment" else _unknown(name, fields))
            for name in self.env_vars
            if name == "environment" or name not in fields
        ]


SHORTEST = 6
"""How many characters a setting's name must have so that misspelt variants of it are looked for. HOST and PORT are shorter:
too many other names are similar to them."""


def _nearly(names: Iterable[str], fields: Container[str]) -> list[tuple[str, str]]:
    """The names of variables that are one typing error away from a setting, as (variable's name, setting's name)."""
    settings = [field.upper() for field in Settings.model_fields if len(field) >= SHORTEST]
    unknown = [name for name in names if name.lower() not in fields]
    return [(name, near) for name in sorted(unknown) for near in settings if _one_typo(name.upper(), near)][:10]


def _one_typo(one: str, other: str) -> bool:
    """Whether the two names differ by a single extra, missing or wrong character, or by two neighbouring characters that are
    swapped."""
    if abs(len(one) - len(other)) > 1 or one == other:
        return False
    at = next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    if len(one) == len(other):
        swapped = one[at : at + 2] == other[at : at + 2][::-1] and one[at + 2 :] == other[at + 2 :]
        return swapped or one[at + 1 :] == other[at + 1 :]
    shorter, longer = sorted((one, other), key=len)
    return shorter[at:] == longer[at + 1 :]


def _unknown(name: str, fields: Iterable[str]) -> str:
    near = difflib.get_close_matches(name.upper(), [field.upper() for field in fields], n=1)
    return f"unknown setting {name.upper()}" + (f": did you mean {near[0]}?" if near else "")


def _fault(error: ErrorDetails, values: Mapping[str, object]) -> str:
    name = str(error["loc"][0])
    info = Settings.model_fields[name]
    if error["type"] == "value_error":
        return f"{name.upper()}: {error['ctx']['error']}"
    got = "" if _is_secret(info) or name not in values else f" (got {values[name]!r})"
    return f"{name.upper()}: must be {_wants(info)}{got}"


def _kinds(annotation: Any) -> list[Any]:
    """The types that a field's annotation names, without Annotated and None."""
    if get_origin(annotation) is Annotated:
        return _kinds(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [kind for part in get_args(annotation) for kind in _kinds(part) if part is not type(None)]
    return [annotation]


def _is_list(info: FieldInfo) -> bool:
    return any(get_origin(kind) is tuple for kind in _kinds(info.annotation))


def _is_secret(info: FieldInfo) -> bool:
    kinds = _kinds(info.annotation)
    inner = [part for kind in kinds if get_origin(kind) is tuple for part in _kinds(get_args(kind)[0])]
    return any(
        isinstance(kind, type) and issubclass(kind, (Secret, SecretStr, ApiToken, DashboardUser))
        for kind in [*kinds, *inner]
    )


def _bound(info: FieldInfo, name: str) -> Any:
    return next((getattr(rule, name) for rule in info.metadata if getattr(rule, name, None) is not None), None)


_OF_A_LIST: dict[Any, str] = {
    ApiToken: "name:role:digest, separated by commas",
    DashboardUser: "name:role:hash, separated by commas",
    SecretStr: "keys of 32 characters or more, separated by commas",
    IPv4Network: "networks separated by commas",
}
"""For settings that are lists, by the (first) type of their entries: the text that says which form the setting has."""


def _wants(info: FieldInfo) -> str:
    """A text that says which values a setting accepts. It is made from the setting's type and bounds."""
    kind = _kinds(info.annotation)[0]
    low, above, high = (_bound(info, name) for name in ("ge", "gt", "le"))
    reach = ""
    if low is not None:
        reach = f" from {low:.15g} to {high:.15g}" if high is not None else f" of {low:.15g} or more"
    elif above is not None:
        reach = f" above {above:.15g}" + (f" and up to {high:.15g}" if high is not None else "")
    if kind is bool:
        return "true or false"
    if kind is int:
        return "a whole number" + reach
    if kind is float:
        return ("a number" if high == 1 else "a number of seconds") + reach
    if get_origin(kind) is Literal:
        return " or ".join(get_args(kind)) if len(get_args(kind)) == 2 else f"one of {', '.join(get_args(kind))}"
    if _is_list(info):
        entry = get_args(kind)[0]
        names = "names separated by commas" if entry is str else "module names separated by commas"
        return _OF_A_LIST.get(_kinds(entry)[0], names)
    if isinstance(kind, type) and issubclass(kind, SecretUrl):
        return "a URL"
    return {Path: "a folder"}.get(kind, "text")


def _default(info: FieldInfo) -> str:
    if info.default_factory is not None or info.default is PydanticUndefined:
        return ""
    return "" if info.default is None or info.default == () else _shown(info.default)


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, tuple):
        return ",".join(
            f"{item.name}:{item.role}:***" if isinstance(item, (ApiToken, DashboardUser)) else str(item) for item in value
        )
    return str(value)  # a secret shows its stars


if __name__ == "__main__":
    print(settings_markdown(), end="")  # noqa: T201
