"""A steward as a process of its own (`carafe steward`): it does the upkeep and serves /metrics until SIGTERM or Ctrl-C."""

import asyncio
import os
import socket

from carafe import Client, forks
from carafe.jobs.modules import load_jobs
from carafe.process import signals, stacks
from carafe.process.metrics import vitals
from carafe.settings.settings import Settings
from carafe.steward.pruner import Retention
from carafe.steward.steward import Steward
from carafe.telemetry.loggers import get_logger
from carafe.telemetry.probes import metrics_served

log = get_logger("carafe.steward")


def run_steward(settings: Settings) -> int:
    """Run a steward until a signal ends it. Returns the exit code. Before it starts, imports the modules that the setting
    JOB_MODULES names, because they declare hooks. Raises `ModuleNotUsable` if one of them cannot be imported, and
    `SettingsError` if METRICS_PORT is already in use."""
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
