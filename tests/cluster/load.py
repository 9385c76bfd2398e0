"""A pod that posts jobs at a steady rate through the web Service and counts what was not accepted.

Half of the requests use connections that are kept open, and each request of the other half uses a new connection, since the
end of a web process affects the two differently. Requests are never repeated: a request that fails once is a failure. Ends
at SIGTERM or after its time, whichever is first; the last lines it prints are the accepted ids and, as JSON, the summary.

    python -m tests.cluster.load URL RATE SECONDS      (API_TOKEN in the environment)
"""

import asyncio
import json
import os
import signal
import sys
import time
from typing import Any

import httpx

LATE = 10.0
"""Seconds that a request may take; one that takes longer is a failure."""


class Load:
    """The posts of one run."""

    def __init__(self, url: str, rate: float, seconds: float) -> None:
        self._url, self._rate, self._seconds = url, rate, seconds
        self._headers = {"Authorization": f"Bearer {os.environ['API_TOKEN']}"}
        self.accepted: list[str] = []
        self.failures: list[dict[str, Any]] = []
        self.posts = 0
        self.slowest = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Post until `stop` or the end."""
        tasks: set[asyncio.Task[None]] = set()
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        async with httpx.AsyncClient(timeout=LATE, limits=limits, trust_env=False) as kept:
            started = time.monotonic()
            while not stop.is_set() and time.monotonic() - started < self._seconds:
                due = started + self.posts / self._rate
                try:
                    await asyncio.wait_for(stop.wait(), max(0.0, due - time.monotonic()))
                    break
                except TimeoutError:
                    pass
                task = asyncio.create_task(self._post(self.posts, kept if self.posts % 2 else None))
                self.posts += 1
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.gather(*tasks)

    async def _post(self, number: int, kept: httpx.AsyncClient | None) -> None:
        body = {"kind": "cluster.quick", "args": {"number": number}}
        began = time.monotonic()
        try:
            if kept is not None:
                response = await kept.post(self._url, json=body, headers=self._headers)
            else:
                transport = httpx.AsyncHTTPTransport(verify=False, trust_env=False)
                async with httpx.AsyncClient(transport=transport, timeout=LATE) as once:
                    response = await once.post(self._url, json=body, headers={**self._headers, "Connection": "close"})
            if response.status_code == 202:
                self.accepted.append(response.json()["id"])
                self.slowest = max(self.slowest, time.monotonic() - began)
                return
            what = f"{response.status_code} {response.text[:200]}"
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
        self.failures.append(
            {
                "number": number,
                "connection": "new" if kept is None else "kept",
                "what": what,
                "seconds": round(time.monotonic() - began, 3),
                "at": time.strftime("%H:%M:%S", time.gmtime()),
            }
        )


async def main() -> None:
    """One run, and its summary."""
    load = Load(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print("posting", flush=True)  # noqa: T201
    await load.run(stop)
    for accepted in load.accepted:
        print("accepted", accepted)  # noqa: T201
    summary = {
        "posts": load.posts,
        "accepted": len(load.accepted),
        "slowest": round(load.slowest, 3),
        "failures": load.failures,
    }
    print("summary", json.dumps(summary), flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main())
