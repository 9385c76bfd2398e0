"""An incident day on one machine: a real Prometheus with the shipped rules watches the briefing service go through it.

Normal load, a failing webhook, Redis away, a flood, workers killed, no worker left. Each phase says which alerts must begin
to fire in it; any other alert that fires is an error. Rules, thresholds and durations are those that are shipped (nothing is
sped up), so the day takes about 40 minutes, most of it waiting for budgets. KEDA is not on this machine: its alerts are
tested on series recorded on a cluster (tests/metrics/test_recorded.py).

Run it: ``python -m chaos.day [--folder F]``. Prints the table of docs/incident-day.md; exit code 1 when an alert was missing
or one too many.
"""

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from carafe.dev.embedded import free_port
from chaos.processes import now
from chaos.prometheus import Server, configuration, found, prometheus
from chaos.run import say
from chaos.world import World

RATE = 2.0
"""Briefings asked for a second."""

FLOOD = 5_500
"""Briefings of the flood: at ten a second (two workers of five slots, a webhook that takes a second) nine minutes' work."""

SETTINGS = {
    "SETTINGS_CLASS": "briefings.settings:BriefingSettings",
    "MIGRATIONS": "briefings.migrations",
    "JOB_MODULES": "briefings.jobs",
    "HANDLER_MODULES": "worker.handlers",
    "WEB_APPLICATION": "app.main:create_app",
    "WORKER_APPLICATION": "worker:app",
    "WORKER_CONCURRENCY": "5",
    "JOB_TIMEOUT": "300",
    "JOB_RETRY_BASE": "2",
    "JOB_RETRY_CAP": "3600",
}

NUMBERS = {
    "attempts a second": "sum(rate(carafe_jobs_started_total[5m]))",
    "seconds that an attempt runs, on average": "sum(rate(carafe_job_run_seconds_sum[5m]))"
    " / sum(rate(carafe_job_run_seconds_count[5m]))",
    "slots in use, on average": "sum(avg_over_time(carafe_slots_used[5m]))",
    "jobs that wait": "max(carafe_jobs_queued)",
    "processor seconds of a worker, a second": "max(rate(process_cpu_seconds_total{job='carafe-worker'}[5m]))",
}
"""What is read at the height of the flood, for the worked example of docs/deploy.md."""

LATE = {"CarafeSuccessBudgetBurnsSlowly": "webhook", "CarafeWaitBudgetBurnsSlowly": "flood"}
"""Alerts on hours, and the phase from which on they may fire; by the end of the day they must have."""


@dataclass(frozen=True)
class Phase:
    """A part of the day: what happens, which alerts must begin in it, and which others may."""

    key: str
    about: str
    must: frozenset[str] = frozenset()
    may: frozenset[str] = frozenset()


@dataclass
class Fired:
    """One firing of an alert: in which phase it began, seconds after that phase's beginning, and how long it fired."""

    alert: str
    phase: Phase
    after: float
    began: float
    ended: float | None = None
    expected: bool = True


@dataclass
class Day:
    """What has been seen so far."""

    server: Server
    phases: list[Phase] = field(default_factory=list)
    fired: list[Fired] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _began: float = 0.0
    _looked: asyncio.Event = field(default_factory=asyncio.Event)

    def begins(self, key: str, about: str, *must: str, may: frozenset[str] = frozenset()) -> None:
        """From now on it is this phase."""
        self.phases.append(Phase(key, about, frozenset(must), may))
        self._began = now()
        say(f"{key}: {about}")

    async def fires(self, within: float) -> None:
        """Wait until all that must begin in this phase have; what is missing then is told at the end."""
        await self._until(lambda: not self.missing_of(self.phases[-1]), within)

    async def late_ones_fire(self, within: float) -> None:
        """Wait until the alerts on hours have fired."""
        await self._until(lambda: not self.late(), within)

    async def _until(self, reached: Callable[[], bool], within: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                while not reached():
                    self._looked.clear()
                    await self._looked.wait()

    def missing_of(self, phase: Phase) -> set[str]:
        """What had to fire in a phase and has not."""
        return set(phase.must) - {one.alert for one in self.fired if one.phase is phase}

    def late(self) -> set[str]:
        """The alerts on hours that have not fired."""
        return set(LATE) - {one.alert for one in self.fired}

    async def watch(self) -> None:
        """Ask Prometheus once a second, until cancelled."""
        while True:
            with contextlib.suppress(OSError):
                self._see(await asyncio.to_thread(self.server.firing))
                self._looked.set()
            await asyncio.sleep(1)

    def _see(self, firing: set[str]) -> None:
        going = {one.alert: one for one in self.fired if one.ended is None}
        for alert in sorted(firing - set(going)):
            phase = self.phases[-1]
            since = LATE.get(alert)
            allowed = alert in phase.must | phase.may or since in {one.key for one in self.phases}
            self.fired.append(Fired(alert, phase, now() - self._began, now(), expected=allowed))
            say(f"  {alert} fires after {now() - self._began:.0f} s{'' if allowed else ': NOT EXPECTED'}")
        for alert, one in going.items():
            if alert not in firing:
                one.ended = now()
                say(f"  {alert} is over after {one.ended - one.began:.0f} s")

    def table(self) -> str:
        """What was seen, as it stands in docs/monitoring.md."""
        lines = ["| Phase | Alert | Fired after | For |", "|---|---|---:|---:|"]
        for phase in self.phases:
            of_it = [one for one in self.fired if one.phase is phase]
            for one in of_it:
                lasted = "to the end" if one.ended is None else f"{one.ended - one.began:.0f} s"
                word = "" if one.expected else " (not expected)"
                lines.append(f"| {phase.about} | `{one.alert}`{word} | {one.after:.0f} s | {lasted} |")
            lines += [f"| {phase.about} | `{alert}` | **missing** | |" for alert in sorted(self.missing_of(phase))]
            if not of_it and not phase.must:
                lines.append(f"| {phase.about} | none | | |")
        lines += [f"| the day | `{alert}` | **missing** | |" for alert in sorted(self.late())]
        return "\n".join(lines)

    @property
    def right(self) -> bool:
        """Whether all that had to fire has, and nothing else."""
        return not self.late() and all(one.expected for one in self.fired) and not any(map(self.missing_of, self.phases))


class Service(World):
    """The briefing service on ports that stay, as Prometheus and the workers want them."""

    def __init__(self, folder: Path, workers: int) -> None:
        super().__init__(folder, workers=workers, webs=1, broken=None, settings=SETTINGS)
        self.port = free_port()
        self.metrics = {name: free_port() for name in ("web-0", *(f"worker-{number}" for number in range(workers)))}

    def environment(self, name: str) -> dict[str, str]:
        """As any world's, with these ports."""
        made = super().environment(name)
        if name.startswith("web"):
            return made | {"PORT": str(self.port), "METRICS_PORT": str(self.metrics[name])}
        return made | {"PROBE_PORT": str(self.metrics[name]), "BRIEFING_WEBHOOK_URL": f"{self.url}/sample-webhook"}

    async def start(self) -> None:
        """Start everything, with the service's own tables."""
        await super().start()
        command = (sys.executable, "-m", "carafe", "migrate")
        migrating = await asyncio.create_subprocess_exec(*command, env=self.environment("web-0"), stdout=DEVNULL)
        if code := await migrating.wait():
            raise RuntimeError(f"carafe migrate ended with {code}")

    @property
    def url(self) -> str:
        """Where the API is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def targets(self) -> dict[str, list[int]]:
        """What Prometheus scrapes."""
        web, *workers = self.metrics.values()
        return {"carafe-web": [web], "carafe-worker": workers}


async def ask(http: httpx.AsyncClient) -> None:
    """Ask for one briefing. Raises ``RuntimeError`` when it is not accepted."""
    answer = await http.post("/api/v1/briefings", json={"topic": "the weather"})
    if answer.status_code not in (201, 202):
        raise RuntimeError(f"a briefing was not accepted: {answer.status_code} {answer.text}")


async def ask_steadily(http: httpx.AsyncClient) -> None:
    """Ask for briefings at RATE, until cancelled."""
    while True:
        await asyncio.gather(ask(http), asyncio.sleep(1 / RATE))


async def behave(http: httpx.AsyncClient, mode: str, delay: float | None = None) -> None:
    """Have the webhook work or fail."""
    (await http.put("/sample-webhook/behaviour", json={"mode": mode, "delay": delay})).raise_for_status()


async def live(day: Day, service: Service, http: httpx.AsyncClient) -> None:
    """The day."""
    day.begins("normal", "normal load")
    await asyncio.sleep(180)

    must = ("CarafeFailureRateHigh", "CarafeDeadLettersGrowing", "CarafeSuccessBudgetBurnsFast")
    day.begins("webhook", "the webhook fails", *must)
    await behave(http, "fail")
    await day.fires(720)
    await behave(http, "ok")
    day.begins("webhook works", "the webhook works again")
    await asyncio.sleep(120)

    day.begins("redis", "Redis is away for two minutes", "CarafeRedisDown", "CarafeHintsRepaired")
    await asyncio.to_thread(service.valkey.crash)
    await asyncio.sleep(120)
    await asyncio.to_thread(service.valkey.restart_on_the_same_port)
    await day.fires(240)

    day.begins("flood", f"{FLOOD:,} briefings at once", "CarafeOldestJobTooOld", "CarafeWaitBudgetBurnsFast")
    for _ in range(FLOOD // 50):
        await asyncio.gather(*(ask(http) for _ in range(50)))
    await day.fires(660)
    day.notes = [f"{words}: {await asyncio.to_thread(day.server.value, query):.2f}" for words, query in NUMBERS.items()]
    await behave(http, "ok", delay=0.05)  # or nine minutes more
    day.begins("flood over", "the flood is drained")
    await asyncio.sleep(120)
    await behave(http, "ok")

    day.begins("killed", "workers are killed, four times", "CarafeRescuesHappen")
    for _ in range(4):
        await asyncio.sleep(15)
        for worker in service.workers:
            worker.kill()
            worker.start()
        await service.ready()
    await day.fires(240)

    may = frozenset({"CarafeWaitBudgetBurnsFast", "CarafeRescuesHappen"})
    day.begins("no worker", "no worker is left", "CarafeBacklogWithoutWorkers", may=may)
    for worker in service.workers:
        worker.kill()
    await day.fires(240)
    for worker in service.workers:
        worker.start()
    await service.ready()
    day.begins("evening", "workers are back", may=may)
    await day.late_ones_fire(900)
    await asyncio.sleep(60)


async def run(folder: Path) -> Day:
    """Live through a day, its logs in `folder`."""
    program = found("prometheus")
    if program is None:
        raise SystemExit("prometheus is not here: install Debian's package prometheus, or let .ci/prometheus get it")
    service = Service(folder, workers=2)
    tasks: list[asyncio.Task[None]] = []
    with prometheus(program, configuration(service.targets), folder / "prometheus") as server:
        day = Day(server)
        try:
            await service.start()
            tasks.append(asyncio.create_task(service.supervise()))
            async with httpx.AsyncClient(base_url=service.url, timeout=30) as http:
                tasks += [asyncio.create_task(ask_steadily(http)), asyncio.create_task(day.watch())]
                await asyncio.wait(
                    [*tasks, living := asyncio.create_task(live(day, service, http))], return_when="FIRST_COMPLETED"
                )
                for task in (*tasks, living):
                    if task.done():
                        task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            service.end()
    return day


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="a new one for logs and Prometheus's data; kept")
    folder = parser.parse_args().folder or Path(tempfile.mkdtemp(prefix="carafe-day-"))
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    (folder / "prometheus").mkdir(parents=True)
    day = asyncio.run(run(folder.absolute()))
    say(day.table())
    say("at the height of the flood: " + "; ".join(day.notes))
    say("every alert that had to fire did, and no other" if day.right else f"not as it should be; logs in {folder}")
    return 0 if day.right else 1


if __name__ == "__main__":
    sys.exit(main())
