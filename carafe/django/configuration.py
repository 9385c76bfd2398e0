"""Carafe's settings in a Django project: from the environment, from ``settings.CARAFE``, and from ``settings.DATABASES``.

``CARAFE`` is a dictionary of Carafe's settings by their names (docs/settings.md); lists and numbers may be Python's own. A
variable of the environment wins over it, except DATABASE_URL: the jobs are in one of ``DATABASES``, and only a DATABASE_URL
in ``CARAFE`` names another database. (Many projects make ``DATABASES`` from such a variable, and in a test run it would name
the wrong database.) `DATABASE_ALIAS` says which of ``DATABASES`` it is, by default ``"default"``.

Guarantees: all faults are reported at once, and none repeats a secret.
"""

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections

from carafe.settings.settings import Settings, SettingsError, load_settings

ALIAS = "DATABASE_ALIAS"
"""The key of ``CARAFE`` that is not a setting of Carafe itself."""

PRELUDE = "carafe.django.setup"
"""The module that every process of Carafe imports before any other of JOB_MODULES."""

DEFAULTS: Mapping[str, Any] = {
    "JOB_MODULES": (),
    "HANDLER_MODULES": (),
    "MIGRATIONS": (),
    "WORKER_APPLICATION": "carafe.engine.application:app",
}
"""Settings that have other defaults in a Django project. Its own tables are migrated by Django."""

_PARAMETERS = (
    "application_name",
    "channel_binding",
    "connect_timeout",
    "options",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslnegotiation",
    "sslpassword",
    "sslrootcert",
    "target_session_attrs",
)
"""The ``OPTIONS`` of a database of Django's that a URL takes too. The others are Django's own or the driver's."""


def database_alias() -> str | None:
    """The name, in ``DATABASES``, of the database that holds the jobs. None if ``CARAFE`` names another database."""
    given = _given()
    return None if "DATABASE_URL" in given else str(given.get(ALIAS, DEFAULT_DB_ALIAS))


def load() -> Settings:
    """The settings for this process. Raises ``ImproperlyConfigured`` with every fault."""
    try:
        return load_settings(**_overrides())
    except SettingsError as error:
        raise ImproperlyConfigured(f"CARAFE: {error}") from error


def faults() -> list[str]:
    """Every fault of the settings, in words."""
    try:
        load_settings(**_overrides())
    except SettingsError as error:
        return list(error.faults)
    except ImproperlyConfigured as error:
        return [str(error)]
    return []


def export() -> None:
    """Put the settings into this process's environment, where the command `carafe` and the processes that it starts read
    them. Raises ``ImproperlyConfigured`` with every fault."""
    modules = [name for name in load().job_modules if name != PRELUDE]
    for name, value in {**_overrides(), "job_modules": [PRELUDE, *modules]}.items():
        os.environ[name.upper()] = _as_text(value)


def database_url() -> str:
    """The URL of the database that holds the jobs. Raises ``ImproperlyConfigured`` if it cannot be told."""
    alias = database_alias()
    return str(_given()["DATABASE_URL"]) if alias is None else url_of(alias)


def url_of(alias: str) -> str:
    """The URL of one of Django's databases, as it is now: during a test run it is the test database's. Raises
    ``ImproperlyConfigured`` for a database that Carafe cannot use."""
    if alias not in connections:
        raise ImproperlyConfigured(f"CARAFE: {ALIAS} names {alias!r}, which is not in DATABASES")
    connection = connections[alias]
    if connection.vendor != "postgresql":
        raise ImproperlyConfigured(
            f"CARAFE: DATABASES[{alias!r}] is {connection.vendor}, and jobs need Postgres: name another database by "
            f"CARAFE[{ALIAS!r}], or set CARAFE['DATABASE_URL']"
        )
    given: dict[str, Any] = connection.settings_dict
    options = given.get("OPTIONS") or {}
    if not given["HOST"] or "service" in options:
        raise ImproperlyConfigured(
            f"CARAFE: DATABASES[{alias!r}] does not say at which HOST it is (for a socket, its folder): set HOST, or "
            "CARAFE['DATABASE_URL']"
        )
    login = quote(str(given["USER"] or ""), safe="")
    if given["PASSWORD"]:
        login += f":{quote(str(given['PASSWORD']), safe='')}"
    where = {"host": given["HOST"], **({"port": given["PORT"]} if given["PORT"] else {})}
    query = urlencode({**where, **{name: options[name] for name in _PARAMETERS if name in options}}, quote_via=quote)
    return f"postgresql://{login}{'@' if login else ''}/{quote(str(given['NAME']), safe='')}?{query}"


def _overrides() -> dict[str, Any]:
    """What Django's settings say and the environment does not, by the names of Carafe's fields."""
    given = {**DEFAULTS, **{name: value for name, value in _given().items() if name != ALIAS}}
    found = {name.lower(): value for name, value in given.items() if not os.environ.get(name, "").strip()}
    return {**found, "database_url": database_url()}


def _given() -> Mapping[str, Any]:
    given = getattr(django_settings, "CARAFE", {})
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise ImproperlyConfigured("CARAFE: must be a dictionary of Carafe's settings by name")
    small = [name for name in given if name != name.upper()]
    if small:
        raise ImproperlyConfigured(f"CARAFE: names are written in capitals ({', '.join(map(repr, small))})")
    return given


def _as_text(value: Any) -> str:
    if isinstance(value, list | tuple | set | frozenset):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
