"""What commands that act share: a client as the settings say, the kinds that JOB_MODULES declare, and who acts."""

import getpass
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from carafe.development import with_servers
from carafe.jobs import Client
from carafe.jobs.audit import Actor
from carafe.jobs.modules import load_jobs
from carafe.settings import Settings, load_settings


@asynccontextmanager
async def connected() -> AsyncIterator[Client]:
    """A client; what it logs goes to standard error."""
    settings = with_servers(load_settings())
    _log_to_stderr(settings)
    async with Client.from_settings(settings) as client:
        yield client


def _log_to_stderr(settings: Settings) -> None:
    from carafe.logging import configure_logging

    quiet = settings.log_level if settings.log_level == "DEBUG" else "WARNING"
    configure_logging(settings.model_copy(update={"log_level": quiet}))


def declared(settings: Settings | None = None) -> Settings:
    """Kinds and hooks are known from here on: whoever moves a job runs its hooks."""
    settings = settings or load_settings()
    load_jobs(settings.job_modules)
    return settings


def actor() -> Actor:
    """Who types the command, as the system calls them (USER, or the account's name), for the audit."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError, ImportError):
        name = ""  # a container's account without a name
    return Actor(name.strip() or "an operator", "cli")
