"""What commands need to act on jobs: a client made from the settings, the kinds of JOB_MODULES, and the user's name."""

import getpass
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from carafe import Client
from carafe.jobs.modules import load_jobs
from carafe.settings.local_servers import with_servers
from carafe.settings.settings import Settings, load_settings
from carafe.store.audit import Actor


@asynccontextmanager
async def connected() -> AsyncIterator[Client]:
    """Yields a client made from the settings, and closes it at the end of the block. Logs go to standard error."""
    settings = with_servers(load_settings())
    _log_to_stderr(settings)
    async with Client.from_settings(settings) as client:
        yield client


def _log_to_stderr(settings: Settings) -> None:
    from carafe.telemetry.logging import configure_logging

    quiet = settings.log_level if settings.log_level == "DEBUG" else "WARNING"
    configure_logging(settings.model_copy(update={"log_level": quiet}))


def declared(settings: Settings | None = None) -> Settings:
    """Import the modules of JOB_MODULES, and with them all kinds and hooks. Returns the settings.

    A process that changes the state of a job must run the job's hooks, so it must know them.
    """
    settings = settings or load_settings()
    load_jobs(settings.job_modules)
    return settings


def actor() -> Actor:
    """Returns the user who runs the command, for the audit. The name is that of the environment (LOGNAME, USER) or, if there
    is none, the account's name."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError, ImportError):
        name = ""  # a container's account without a name
    return Actor(name.strip() or "an operator", "cli")
