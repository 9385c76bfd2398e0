"""A steward as a process of its own (`carafe steward`): the upkeep, and /metrics, until SIGTERM or Ctrl-C."""

import asyncio
import os
import socket

import structlog

from carafe import forks, signals, stacks
from carafe.jobs import Client
from carafe.jobs.modules import load_jobs
from carafe.probes import metrics_served
from carafe.settings import Settings
from carafe.steward.pruner import Retention
from carafe.steward.steward import Steward
from carafe.vitals import vitals

log = structlog.stdlib.get_logger("carafe.steward")


def run_steward(settings: Settings) -> int:
    """Run until a signal; returns the exit code. JOB_MODULES are imported for their hooks. Raises `ModuleNotUsable`,
    `SettingsError` (METRICS_PORT is taken)."""
    load_jobs(settings.job_modules)
    with metrics_served(settings) as port:
        asyncio.run(_run(settings, port))
    return 0


async def _run(settings: Settings, port: int) -> None:
    stopping = asyncio.Event()
    stacks.show_on_signal()
    for number in signals.ending():
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    forks.leave_signals_behind()
    async with Client.from_settings(settings) as client:
        name = f"steward {socket.gethostname()}:{os.getpid()}"
        retention = Retention.of(settings)
        steward = Steward(client.database, client.queue, name=name, retention=retention, retries=settings.job_max_retries)
        async with vitals(client.database, client.queue, client.acceptance):
            steward.start()
            log.info("steward started", name=name, metrics=port)
            await stopping.wait()
            await steward.stop()
    log.info("stopped")
