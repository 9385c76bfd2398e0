"""The commands that run for long: `serve`, `serve --worker`, `steward`; and `migrate`, which goes before them."""

from collections.abc import Callable

from carafe import tracing
from carafe.development import with_servers
from carafe.settings import Settings, load_api_settings, load_dashboard_settings, load_settings


def serve_worker() -> int:
    """The worker process, until SIGTERM or Ctrl-C. Imports no web framework."""
    settings = with_servers(load_settings())
    from carafe.logging import configure_logging

    configure_logging(settings)
    from carafe.engine.worker import run_worker

    return run_worker(settings)


def check_worker() -> int:
    """What a canary runs: whether a worker of this image would run here, the Celery application included. Takes no job.

    Returns 1 when something is broken, told in words.
    """
    from carafe.cli.configuring import show_findings
    from carafe.cli.exits import Exit, say

    code = int(show_findings(as_json=False, worker=True))
    if code == 0:
        from carafe.engine.application import application_of
        from carafe.probes import ProbeServer

        settings = with_servers(load_settings())
        # Each raises what `serve --worker` would end with.
        tracing.require(settings)
        application = application_of(settings)
        probes = ProbeServer(settings.probe_host, settings.probe_port)
        probes.start()
        probes.stop()
        try:
            with application.connection_for_read() as connection:
                connection.connect()
        except Exception as error:
            say(f"Celery's consumer cannot connect with REDIS_URL: {type(error).__name__}: {error}")
            return int(Exit.FAILED)
        say("a worker would run")
    return code


def serve_web() -> int:
    """The web process, until SIGTERM or Ctrl-C. Imports no Celery. In development the schema is upgraded first."""
    settings = with_servers(load_api_settings())
    from carafe.logging import configure_logging

    configure_logging(settings)
    if settings.environment == "development":
        migrate(settings)
    from carafe.web.server import run_web

    return run_web(settings)


def serve_dashboard() -> int:
    """The dashboard alone, until SIGTERM or Ctrl-C: DASHBOARD does not matter, it is what was asked for."""
    settings = with_servers(load_dashboard_settings())
    from carafe.logging import configure_logging

    configure_logging(settings)
    if settings.environment == "development":
        migrate(settings)
    from carafe.web.server import run_dashboard

    return run_dashboard(settings)


def serve_steward() -> int:
    """A steward alone, until SIGTERM or Ctrl-C. STEWARD does not matter: it is what was asked for."""
    settings = with_servers(load_settings())
    from carafe.logging import configure_logging

    configure_logging(settings)
    from carafe.steward.process import run_steward

    return run_steward(settings)


def migrate(settings: Settings, *, tell: Callable[[str], None] | None = None) -> list[str]:
    """Upgrade the library's schema and the application's; returns what was done. `tell` hears what is waited for.

    Raises `ModuleNotUsable` for a package of MIGRATIONS that is not there, `Unavailable`, `MigrationBlocked`,
    `MigrationFailed`.
    """
    import asyncio
    from importlib.util import find_spec

    from carafe.database import migrate as upgrade
    from carafe.jobs.modules import ModuleNotUsable

    for package in settings.migrations:
        try:
            if find_spec(package) is None:
                raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        except Exception as error:
            raise ModuleNotUsable("MIGRATIONS", package, error) from error
    assert settings.database_url is not None
    return asyncio.run(upgrade(settings.database_url.get_secret_value(), settings.migrations, tell=tell))
