"""When which fault comes: drawn from the seed before the run, then carried out.

Quiet gaps are left so that progress is possible. A fault whose target another one holds is left out, and counted.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass

from chaos.faults import (
    FAULTS,
    HARMLESS_ERRORS,
    DrainWorker,
    Fault,
    FreezeWorker,
    NoisyHints,
    RestartRedis,
    StallLink,
    TerminateBackends,
)
from chaos.processes import now
from chaos.world import World

STEP = (2.0, 6.0)
"""Seconds from one fault to the next."""

GAP_EVERY = 60.0
GAP = 10.0
"""Seconds: how often nothing begins for how long."""


@dataclass(slots=True)
class Done:
    """A fault that was carried out, with the wall clock of its begin and of its end."""

    fault: Fault
    began: float
    ended: float = 0.0


def draw(rng: random.Random, seconds: float, workers: int, webs: int) -> list[tuple[float, Fault]]:
    """Faults by the second at which they begin."""
    plan: list[tuple[float, Fault]] = []
    at = 2.0
    while at < seconds:
        if at % GAP_EVERY < GAP_EVERY - GAP:
            (kind,) = rng.choices(FAULTS, [fault.weight for fault in FAULTS])
            plan.append((at, kind.draw(rng, workers, webs)))
        at += rng.uniform(*STEP)
    return plan


def draw_for(build: str, rng: random.Random, seconds: float, workers: int) -> list[tuple[float, Fault]]:
    """What brings out a broken build, again and again: the faults that its missing part guards against."""
    plan: list[tuple[float, Fault]] = []
    at = 2.0
    turn = 0
    while at < seconds:
        worker = f"worker-{turn % workers}"
        match build:
            case "no_fence":
                # The others must live to take over what a worker is silent about.
                fault: Fault = (FreezeWorker(26.0, worker), StallLink(26.0, worker, "postgres"))[turn % 2]
                at += 2.0 if turn % 2 == 0 else 28.0
            case "no_repair":
                # What is enqueued meanwhile has no hint when Redis is back.
                fault = RestartRedis(2.0, "redis")
                at += 6.0
            case "greedy_claim":
                fault = NoisyHints(0.0, "redis", "postgres")
                at += 3.0
            case "dropped_ends":
                fault = TerminateBackends(0.0, "postgres")  # its error comes from within
                at += 2.0
            case _:
                fault = DrainWorker(0.0, worker)
                at += 4.0
        plan.append((at, fault))
        turn += 1
    return plan


class Schedule:
    """Carries a plan out."""

    def __init__(self, world: World, plan: Sequence[tuple[float, Fault]]) -> None:
        self._world, self._plan = world, plan
        self._held: set[str] = set()
        self._running: dict[asyncio.Task[None], Fault] = {}
        self.done: list[Done] = []
        self.skipped = 0
        self.notes: list[str] = []

    async def run(self, seconds: float) -> None:
        """Begin each fault in its time, and return after this many seconds."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        for at, fault in self._plan:
            if at >= seconds:
                break
            await asyncio.sleep(max(0.0, began + at - loop.time()))
            if fault.holds & self._held:
                self.skipped += 1
                continue
            self._held |= fault.holds
            task = asyncio.create_task(self._inflict(fault))
            self._running[task] = fault
            task.add_done_callback(lambda ended: self._running.pop(ended, None))
        await asyncio.sleep(max(0.0, began + seconds - loop.time()))

    async def finish(self) -> None:
        """Cut short what still lasts, and undo it."""
        for task, fault in list(self._running.items()):
            if fault.seconds:
                task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _inflict(self, fault: Fault) -> None:
        done = Done(fault, now())
        self.done.append(done)
        try:
            await fault.do(self._world)
            await asyncio.sleep(fault.seconds)
        except HARMLESS_ERRORS as error:
            self.notes.append(f"{fault}: {type(error).__name__}: {error}")
        finally:
            await asyncio.shield(self._undo(done))

    async def _undo(self, done: Done) -> None:
        try:
            await done.fault.undo(self._world)
        except HARMLESS_ERRORS as error:
            self.notes.append(f"undoing {done.fault}: {type(error).__name__}: {error}")
        finally:
            done.ended = now()
            self._held -= done.fault.holds
