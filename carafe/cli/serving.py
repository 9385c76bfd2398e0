"""The commands that run until they are stopped: `serve`, `serve --worker`, `serve --dashboard` and `steward`; and the check
``serve --worker --check``."""

from carafe import tracing
from carafe.settings.local_servers import with_servers
from carafe.settings.settings import load_api_settings, load_dashboard_settings, load_settings
from carafe.store.migrating import migrate


def serve_worker() -> int:
    """Run the worker process until SIGTERM or Ctrl-C. Returns the exit code. Imports no web framework."""
    settings = with_servers(load_settings())
    from carafe.telemetry.logging import configure_logging

    configure_logging(settings)
    from carafe.engine.worker import run_worker

    return run_worker(settings)


def check_worker() -> int:
    """Check whether a worker, with its Celery application, could run here. Takes no job. A canary deployment runs this
    check.

    Returns 0 if it could. Otherwise prints what is broken and returns 1.
    """
    from carafe.cli.configuring import show_findings
    from carafe.cli.exits import Exit, say

    code = int(show_findings(as_json=False, worker=True))
    if code == 0:
        from carafe.engine.application import application_of
        from carafe.telemetry.probes import ProbeServer

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
    """Run the web process until SIGTERM or Ctrl-C. Returns the exit code.

    In development, upgrades the schema first. Does not import Celery.
    """
    settings = with_servers(load_api_settings())
    from carafe.telemetry.logging import configure_logging

    configure_logging(settings)
    if settings.environment == "development":
        migrate(settings)
    from carafe.serving import run_web

    return run_web(settings)


def serve_dashboard() -> int:
    """Run the dashboard alone until SIGTERM or Ctrl-C, whatever the setting DASHBOARD is. Returns the exit code."""
    settings = with_servers(load_dashboard_settings())
    from carafe.telemetry.logging import configure_logging

    configure_logging(settings)
    if settings.environment == "development":
        migrate(settings)
    from carafe.serving import run_dashboard

    return run_dashboard(settings)


def serve_steward() -> int:
    """Run a steward alone until SIGTERM or Ctrl-C, whatever the setting STEWARD is. Returns the exit code."""
    settings = with_servers(load_settings())
    from carafe.telemetry.logging import configure_logging

    configure_logging(settings)
    from carafe.steward.process import run_steward

    return run_steward(settings)
