"""What an operator can set, read from the environment, `env.local` (in development) and `[tool.carafe]` of pyproject.toml.

An application adds settings of its own: a subclass of `Settings`, which SETTINGS_CLASS names.
Guarantees: a value that does not fit prevents the start. All faults are then listed together, those of an application's
settings too, and each says what the setting accepts. Passwords, tokens and secrets never show in a repr, a log line or an
error.
Must never: connect to anything, or import a module that a setting names, except the one with the class of the settings.
`carafe doctor` finds out what can be reached, and the start of a process finds out what can be imported.

`load_settings()` reads all of these. `Settings(...)` itself only holds the values that it is given, so that a test does not
depend on the shell in which it runs.
"""

import difflib
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, overload

from pydantic import BeforeValidator, Field, PrivateAttr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from carafe.named_modules import import_named
from carafe.settings import job_defaults
from carafe.settings.describing import default_shown, is_json, is_list, is_secret, shown, wants
from carafe.settings.job_defaults import DAY
from carafe.settings.sources import Faults, Source, as_ignored, misspelled, of_env_file, of_the_environment, of_the_project
from carafe.settings.src_layout import not_installed
from carafe.settings.types import (
    ApiToken,
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
    is_target,
    listed,
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

Served = Literal["api", "dashboard"]
"""What a process may serve. Only a process that serves the API or the dashboard must have the settings for it: other
processes do not have its secrets."""


class SettingsError(ValueError):
    """Settings that cannot be used. The error's text has one line for each fault; `faults` has the same lines as a tuple.

    `ignored` has a line for each variable that looks like a misspelt setting and that no fault names; the text ends with
    them."""

    def __init__(self, faults: Iterable[str], ignored: Iterable[str] = ()) -> None:
        self.faults = tuple(faults)
        self.ignored = tuple(ignored)
        super().__init__("\n".join([*self.faults, *self.ignored]))


def _by_environment(development: str, production: str) -> Callable[[dict[str, Any]], Any]:
    return lambda earlier: production if earlier.get("environment") == "production" else development


_listing_faults: ContextVar[bool] = ContextVar("listing faults", default=False)
"""Whether `_load` is making settings: it lists all faults itself, so `Settings` must not stop at the first."""


class Settings(BaseSettings):
    """Every setting, checked and frozen. A field's name in upper case is its name in the environment.

    An application's own settings are the fields of a subclass, which SETTINGS_CLASS names, such as
    ``shop.settings:ShopSettings``:

        class ShopSettings(Settings):
            stripe_key: SecretStr = Field(description="Key of the payment service.")

    They are read, checked, shown and documented as Carafe's own. A field without a default is required. In the environment,
    a list is entries separated by commas or a JSON list, an object is JSON. Raises pydantic's `ValidationError` on bad
    values; `load_settings` turns that into one readable `SettingsError`.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, enable_decoding=False, validate_by_name=True
    )

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

    # The application. `[tool.carafe]` of pyproject.toml may have these (carafe.settings.sources.OF_THE_PROJECT).
    settings_class: Target | None = Field(
        None,
        description="The application's settings, as module:name: a subclass of carafe.Settings with fields of its own. "
        "Unset: Carafe's settings alone.",
    )
    job_modules: ModuleNames = Field((), description="Modules that declare jobs and hooks, separated by commas.")
    handler_modules: ModuleNames = Field(
        (), description="Modules that hold the jobs' handlers, separated by commas; workers import them."
    )
    web_application: Target = Field(
        "carafe.web.default:create_app",
        description="The web application, as module:name: an ASGI application, or a function that returns one (it may take "
        "the settings). Default: the job API and health checks alone.",
    )
    worker_application: Target = Field(
        "carafe.engine.application:app", description="The Celery application, as module:name."
    )
    migrations: ModuleNames = Field(
        (),
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

    _sources: dict[str, Source] = PrivateAttr(default_factory=dict)
    _misspelled: list[tuple[str, str]] = PrivateAttr(default_factory=list)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not _listing_faults.get() and (faults := _faults_between(self, SERVERS)):
            raise ValueError("\n".join(f"{name.upper()}: {text}" for name, text in faults))
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
        """Variables of the environment and of `env.local` that are not settings but look like a misspelt setting, as
        (variable's name, setting's name)."""
        return list(self._misspelled)

    def effective(self) -> list[tuple[str, str, Source]]:
        """Every setting as (NAME, value with secrets hidden, where the value came from), in the order of the docs."""
        lines = []
        for name in type(self).model_fields:
            source = self._sources.get(name, "argument" if name in self.model_fields_set else "default")
            lines.append((name.upper(), shown(getattr(self, name)), source))
        return lines


SERVERS = ("database_url", "redis_url")
"""The settings that production requires of every process."""

OwnSettings = TypeVar("OwnSettings", bound=Settings)


@overload
def load_settings(settings_class: type[OwnSettings], /, **overrides: object) -> OwnSettings: ...
@overload
def load_settings(**overrides: object) -> Settings: ...
def load_settings(settings_class: type[Settings] | None = None, /, **overrides: object) -> Settings:
    """Settings from `overrides`, then the environment, then (in development) `env.local` in the current folder, then
    `[tool.carafe]` of pyproject.toml in the current folder.

    Returns an instance of `settings_class`, by default of the class that the setting SETTINGS_CLASS names. An empty variable
    counts as unset, but for a setting that is a list it means the empty list. A variable that is not a setting is ignored
    (`Settings.misspelled` lists those that look like one).
    Raises SettingsError with one line for every fault.
    """
    return _load(overrides, settings_class)


def load_settings_class() -> type[Settings]:
    """The class that SETTINGS_CLASS names, by default `Settings`. The values of the other settings need not be valid. Raises
    SettingsError if SETTINGS_CLASS cannot be used, or a file with settings cannot be read."""
    values, _, faults, _ = _read({})
    made, unusable = _class_named(values.get("settings_class"))
    if faults or unusable:
        raise SettingsError(text for _, text in faults + unusable)
    return made


def load_schema_settings() -> Settings:
    """Like `load_settings`, for a command that only changes the database schema: it needs Postgres but not Redis, and none
    of the application's own settings."""
    return _load({}, Settings, required=("database_url",))


def load_api_settings(**overrides: object) -> Settings:
    """Like `load_settings`, for a process that serves the HTTP API and, if DASHBOARD is on, also the dashboard. Requires the
    secrets of both.

    No other process needs these secrets, or should have them. Raises SettingsError with one line for every fault.
    """
    return _load(overrides, serves="api")


def load_dashboard_settings(**overrides: object) -> Settings:
    """Like `load_settings`, for a process that serves the dashboard and not the API. Raises SettingsError with one line for
    every fault."""
    return _load(overrides, serves="dashboard")


def _load(
    overrides: Mapping[str, object],
    made: type[Settings] | None = None,
    *,
    serves: Served | None = None,
    required: Collection[str] = SERVERS,
) -> Settings:
    values, sources, faults, variables = _read(overrides)
    if made is None:
        made, unusable = _class_named(values.get("settings_class"))
        faults += unusable
    values, sources = _of_fields(made, values, sources)
    faults += [(name, _unknown(name, made.model_fields)) for name in overrides if name not in made.model_fields]
    similar = misspelled(variables, made.model_fields)
    settings, invalid = _made(made, values)
    faults += invalid
    faulty = {name for name, _ in faults}
    rest = settings or _without(faulty, values)
    faults += [
        (name, f"{name.upper()}: {text}")
        for name, text in _faults_between(rest, required) + (_faults_of(rest, serves) if serves else [])
        if not faulty & {name, *_RESTS_ON.get(name, ())}  # else a fault of the other setting may be its only cause
    ]
    if faults or settings is None:
        order = {name: place for place, name in enumerate(made.model_fields)}
        faults.sort(key=lambda fault: order.get(fault[0], len(order)))
        raise _with_misspelled(faults, values, similar)
    settings._sources.update(sources)
    settings._misspelled += similar
    return settings


def _without(faulty: Collection[str], values: Mapping[str, object]) -> Settings:
    """Carafe's own settings that are valid; the others have their defaults."""
    rest, _ = _made(Settings, {name: values[name] for name in Settings.model_fields if name in values.keys() - faulty})
    assert rest is not None
    return rest


def _read(overrides: Mapping[str, object]) -> tuple[dict[str, object], dict[str, Source], Faults, list[str]]:
    """Every value that is found, by name; where each comes from; the faults of the files; and the names of the variables."""
    environment = of_the_environment()
    table, faults = of_the_project()
    found: list[tuple[Source, Mapping[str, object]]] = [("pyproject.toml", table)]
    where = overrides.get("environment", environment.get("environment", "")) or "development"
    variables = [*os.environ]
    if str(where).strip().lower() == "development":
        in_file, more = of_env_file()
        found.append(("env.local", in_file))
        faults += more
        variables += [name.upper() for name in in_file]
    found += [("environment", environment), ("argument", overrides)]
    values: dict[str, object] = {}
    sources: dict[str, Source] = {}
    for source, several in found:
        values |= several
        sources |= dict.fromkeys(several, source)
    return values, sources, faults, variables


def _class_named(target: object) -> tuple[type[Settings], Faults]:
    """The class that SETTINGS_CLASS names, and why it cannot be used. Then, and if there is none, it is `Settings`."""
    if not isinstance(target, str) or not is_target(target):
        return Settings, []  # unset, or a fault that the field finds
    module, _, name = target.partition(":")
    try:
        found: Any = import_named(module)
        for part in (name or "Settings").split("."):
            found = getattr(found, part)
    except Exception as error:
        text = f"SETTINGS_CLASS: {target!r} cannot be imported: {type(error).__name__}: {error}{not_installed(module)}"
        return Settings, [("settings_class", text)]
    if not (isinstance(found, type) and issubclass(found, Settings)):
        return Settings, [("settings_class", f"SETTINGS_CLASS: {target!r} is not a subclass of carafe.Settings")]
    return found, []


def _of_fields(
    made: type[Settings], values: Mapping[str, object], sources: Mapping[str, Source]
) -> tuple[dict[str, object], dict[str, Source]]:
    """Those values that are settings, without those that are empty and so unset."""
    kept = {}
    for name, info in made.model_fields.items():
        value = values.get(name, "")
        if isinstance(value, str) and not value.strip() and not (name in values and is_list(info)):
            continue
        kept[name] = value if name in Settings.model_fields else _decoded(info, value)
    return kept, {name: sources[name] for name in kept}


def _decoded(info: FieldInfo, value: object) -> object:
    """The value of an application's setting that is a list or an object and has come as text. Text that cannot be decoded is
    returned as it is, and then refused by the field."""
    if not isinstance(value, str) or not (is_list(info) or is_json(info)):
        return value
    try:
        return listed(value) if is_list(info) else json.loads(value)
    except ValueError:
        return value


def _made(made: type[Settings], values: Mapping[str, object]) -> tuple[Settings | None, Faults]:
    """The settings, or None and the faults of single values, or else those that the application's class finds itself."""
    token = _listing_faults.set(True)
    try:
        return made(**values), []  # type: ignore[arg-type]
    except ValidationError as invalid:
        return None, [
            (str(error["loc"][0]) if error["loc"] else "", _fault(error, values, made.model_fields))
            for error in invalid.errors()
            if error["type"] != "default_factory_not_called"  # another value was missing, and its own fault is listed
        ]
    finally:
        _listing_faults.reset(token)


def settings_markdown(made: type[Settings] = Settings) -> str:
    """The text of docs/settings.md: a table of every setting, with its default, the values that it accepts and its purpose.
    The settings that an application's class adds have a table of their own."""
    own = {name: info for name, info in made.model_fields.items() if name not in Settings.model_fields}
    lines = [
        "# Settings",
        "",
        "<!-- Made from the fields of the settings: do not edit it. -->",
        "",
        "A value is looked for in the environment; then, in development, in `env.local` in the current folder; then, if it",
        "names a part of the application, in `[tool.carafe]` of `pyproject.toml` in the current folder. The first one found",
        "counts.",
        "Start-up refuses bad values with every fault listed; `carafe config` prints what is in effect, redacted.",
        "An empty variable counts as unset, except that it empties a list. Durations are seconds.",
        "A variable that is not a setting is ignored; one that looks like a misspelt setting is named in a warning.",
        "",
        *_table(Settings.model_fields),
    ]
    if own:
        lines += ["", f"## Settings of the application (`{made.__module__}:{made.__qualname__}`)", "", *_table(own)]
    return "\n".join(lines) + "\n"


def _table(fields: Mapping[str, FieldInfo]) -> Iterator[str]:
    yield "| Name | Default | Takes | What for |"
    yield "|---|---|---|---|"
    for name, info in fields.items():
        default = "required" if info.is_required() else default_shown(info)
        yield f"| `{name.upper()}` | {f'`{default}`' if default else ''} | {wants(info)} | {info.description or ''} |"


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


def _faults_between(settings: Settings, required: Collection[str]) -> list[tuple[str, str]]:
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


def _faults_of(settings: Settings, serves: Served) -> list[tuple[str, str]]:
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


def _api_faults(settings: Settings) -> list[tuple[str, str]]:
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


def _dashboard_faults(settings: Settings) -> list[tuple[str, str]]:
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


# Faults in words.


def _with_misspelled(faults: Faults, values: Mapping[str, object], similar: Sequence[tuple[str, str]]) -> SettingsError:
    """The error of these faults. That of a setting without a value names the variable which may be the same, misspelt."""
    unset = {name.upper() for name, _ in faults} - {name.upper() for name in values}
    texts = [
        "; ".join(
            [
                text,
                *(f"{other} is set: did you mean {meant}?" for other, meant in similar if meant in unset & {name.upper()}),
            ]
        )
        for name, text in faults
    ]
    return SettingsError(dict.fromkeys(texts), [as_ignored(*pair) for pair in similar if pair[1] not in unset])


def _unknown(name: str, fields: Iterable[str]) -> str:
    near = difflib.get_close_matches(name.upper(), [field.upper() for field in fields], n=1)
    return f"unknown setting {name.upper()}" + (f": did you mean {near[0]}?" if near else "")


def _fault(error: ErrorDetails, values: Mapping[str, object], fields: Mapping[str, FieldInfo]) -> str:
    name = str(error["loc"][0]) if error["loc"] else ""
    told = f"{name.upper()}: " if name else ""
    if error["type"] == "value_error":
        return f"{told}{error['ctx']['error']}"
    info = fields.get(name)
    if info is None:
        return f"{told}{error['msg']}"
    if error["type"] == "missing":
        return f"{told}is required: {wants(info)}" + (f" ({info.description})" if info.description else "")
    got = "" if is_secret(info) or name not in values else f" (got {values[name]!r})"
    if name in Settings.model_fields:
        return f"{told}must be {wants(info)}{got}"
    return f"{told}{error['msg'].replace('Input should be', 'must be', 1)}{got}"  # a rule of the application's own


if __name__ == "__main__":
    print(settings_markdown(), end="")  # noqa: T201
