"""The producing side of every system, the same for all: what is timed, and what is printed for the harness.

Each system has a module with a `Producer` of its own, named PRODUCER. This module is run in the system's environment
(standard library only, for that reason), imports that one, and prints one line of JSON:

    python -m benchmarks.producer MODULE prepare         install the system's tables (once, in a template database)
    python -m benchmarks.producer MODULE bulk N          N no-ops by the fastest way: {"seconds": …, "jobs": …}
    python -m benchmarks.producer MODULE single N        N no-ops one after the other: {"seconds": …, "jobs": …}
    python -m benchmarks.producer MODULE latency N GAP   N numbered no-ops at irregular times, GAP seconds apart on
                                                         average: {"sent": [seconds since the epoch, …]}
    python -m benchmarks.producer MODULE waits N SECONDS N jobs that wait
    python -m benchmarks.producer MODULE kind NAME N     N jobs of another kind (see `Producer.enqueue_kind`)
    python -m benchmarks.producer MODULE later N         N no-ops for tomorrow
"""

import asyncio
import importlib
import json
import random
import sys
import time
from collections.abc import Sequence


class Producer:
    """Enqueues the benchmark's jobs. Synchronous libraries simply block inside these coroutines."""

    async def prepare(self) -> None:
        """Install what the system needs in a fresh database."""

    async def open(self) -> None:
        """Connect; not timed."""

    async def close(self) -> None:
        """Disconnect; not timed."""

    async def enqueue(self, number: int) -> None:
        """Enqueue one no-op as the library documents it; returns when the store has it."""
        raise NotImplementedError

    async def enqueue_many(self, numbers: Sequence[int]) -> None:
        """Enqueue no-ops by the library's fastest documented way."""
        raise NotImplementedError

    async def enqueue_waits(self, count: int, seconds: float) -> None:
        """Enqueue jobs that wait for `seconds`."""
        raise NotImplementedError

    async def enqueue_kind(self, name: str, count: int) -> None:
        """Enqueue jobs of another kind: `thread`, `fail`, `cpu` (10 ms of a processor), `cpu process`."""
        raise NotImplementedError

    async def enqueue_later(self, count: int) -> None:
        """Enqueue no-ops that are due in a day."""
        raise NotImplementedError


async def _run(producer: Producer, command: str, arguments: list[str]) -> dict[str, object]:
    if command == "prepare":
        await producer.prepare()
        return {}
    await producer.open()
    try:
        match command, arguments:
            case "bulk", [count]:
                numbers = [-1] * int(count)
                await producer.enqueue_many(numbers[:1])  # connections and caches are warm before the clock starts
                began = time.perf_counter()
                await producer.enqueue_many(numbers[1:])
                return {"seconds": time.perf_counter() - began, "jobs": len(numbers) - 1}
            case "single", [count]:
                await producer.enqueue(-1)
                began = time.perf_counter()
                for _ in range(int(count)):
                    await producer.enqueue(-1)
                return {"seconds": time.perf_counter() - began, "jobs": int(count)}
            case "latency", [count, gap]:
                return {"sent": await _irregular(producer, int(count), float(gap))}
            case "kind", [name, count]:
                await producer.enqueue_kind(name, int(count))
                return {}
            case "later", [count]:
                await producer.enqueue_later(int(count))
                return {}
            case "waits", [count, seconds]:
                await producer.enqueue_waits(int(count), float(seconds))
                return {}
            case _:
                raise SystemExit(f"unknown command: {command} {arguments}")
    finally:
        await producer.close()


async def _irregular(producer: Producer, count: int, gap: float) -> list[float]:
    """Enqueue at times that no polling interval can be in step with; the same times for every system."""
    times = random.Random(7)
    sent = []
    for number in range(count):
        await asyncio.sleep(times.uniform(0.3, 1.7) * gap)
        sent.append(time.time())
        await producer.enqueue(number)
    return sent


def main() -> None:
    """Run the command that the harness gave."""
    module, command, *arguments = sys.argv[1:]
    producer: Producer = importlib.import_module(module).PRODUCER
    print(json.dumps(asyncio.run(_run(producer, command, arguments))), flush=True)


if __name__ == "__main__":
    main()
