"""The load: clients that enqueue jobs of every shape, over HTTP and through the library, and write down what they were told.

A request whose outcome is unknown is repeated with its key until it is known, as the API asks for; one without a key stays
unknown. Nothing here trusts the system under test to remember what it accepted.
"""

import asyncio
import contextlib
import random
import time
from typing import Any

import httpx

from carafe import Client, InvalidOption, NewJob, OutcomeUnknown, Unavailable
from chaos.jobs import (
    Crashing,
    Discarding,
    Effect,
    Failing,
    Isolated,
    Long,
    Plain,
    Retrying,
    Snoozing,
    Tagged,
    Threaded,
    Unique,
)
from chaos.ledger import Cancelled, Ledger, Request
from chaos.world import World

TIMEOUT = 12.0
"""Seconds that a client waits for an answer."""

REPEATS_WITHIN = 90.0
"""Seconds in which a request of unknown outcome is repeated."""

CLIENTS = 6


class Load:
    """Clients that together enqueue about `rate` jobs a second until told to stop."""

    def __init__(
        self,
        world: World,
        ledger: Ledger,
        rng: random.Random,
        *,
        rate: float,
        crashes: bool = True,
        long: tuple[float, float] = (1.0, 8.0),
    ) -> None:
        """`crashes`: whether some jobs end their process; `long`: from how many seconds to how many a long job takes."""
        self._world, self._ledger, self._rng = world, ledger, rng
        self._rate = rate
        self._crashes = crashes
        self._long = long
        self._number = 0
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.slowest = 0.0

    def start(self) -> None:
        """Start the clients."""
        self._tasks = [asyncio.create_task(self._client(number)) for number in range(CLIENTS)]

    async def stop(self) -> None:
        """Let every client finish the request it has in hand; raises what has ended one."""
        self._stopping.set()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
                raise result

    def abandon(self) -> None:
        """End the clients where they are."""
        for task in self._tasks:
            task.cancel()

    async def _client(self, number: int) -> None:
        rng = random.Random(self._rng.random())
        name = f"client-{number}"
        async with httpx.AsyncClient(timeout=TIMEOUT) as http, self._world.client(name) as library:
            began, sent = time.monotonic(), 0
            while not self._stopping.is_set():
                ahead = sent / (self._rate / CLIENTS) - (time.monotonic() - began)
                if ahead > 0:
                    await self._pause(ahead)
                    continue
                if ahead < -5:
                    began -= ahead  # what an outage has cost is not made up for at once
                request, jobs = self._request(rng)
                sent += len(jobs)
                await self._until_known(request, jobs, http, library, rng)
                if request.outcome == "accepted" and rng.random() < 0.02:
                    await self._cancel(rng.choice(request.ids), http, rng)

    async def _pause(self, seconds: float) -> None:
        """Wait this long, or until the load is to stop."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    # -- what is asked for

    def _tag(self) -> str:
        self._number += 1
        return f"t{self._number}"

    def _request(self, rng: random.Random) -> tuple[Request, list[NewJob]]:
        way = rng.choices(("http", "bulk", "library", "many", "order", "invalid"), (35, 8, 20, 8, 8, 2))[0]
        count = rng.randint(5, 25) if way in ("bulk", "many") else 1
        jobs = [self._job(rng) for _ in range(count)]
        # The library's plain way is one statement without a key: its unknown outcomes stay unknown.
        key = f"k{self._number}" if way in ("order", "invalid") or rng.random() < 0.8 else None
        tags = [job.job.tag for job in jobs if isinstance(job.job, Tagged)]
        return Request(tags, [job.job.job_options.kind for job in jobs], way, key), jobs

    def _job(self, rng: random.Random) -> NewJob:
        tag = self._tag()
        shape = rng.random()
        delay = rng.uniform(0.1, 4) if rng.random() < 0.08 else None
        unique_key = None
        job: Tagged
        if shape < 0.40:
            job = Plain(tag=tag, milliseconds=rng.choice((0, 1, 5, 20, 50)))
        elif shape < 0.55:
            job = Effect(tag=tag, fails_first=rng.random() < 0.2)
        elif shape < 0.65:
            job = Threaded(tag=tag, milliseconds=rng.choice((1, 20, 100)))
        elif shape < 0.74:
            job = Retrying(tag=tag, failures=rng.randint(1, 3))
        elif shape < 0.82:
            job, unique_key = Unique(tag=tag), f"u{rng.randint(1, 12)}"
        elif shape < 0.88:
            job = Snoozing(tag=tag)
        elif shape < 0.93:
            job = Failing(tag=tag)
        elif shape < 0.95:
            job = Discarding(tag=tag)
        elif shape < 0.985:
            job = Long(tag=tag, seconds=rng.uniform(*self._long))
        elif shape < 0.999 or not self._crashes:
            job = Isolated(tag=tag)
        else:
            job = Crashing(tag=tag)
        return NewJob(job, delay=delay, unique_key=unique_key)

    # -- asking

    async def _until_known(
        self, request: Request, jobs: list[NewJob], http: httpx.AsyncClient, library: Client, rng: random.Random
    ) -> None:
        began = time.monotonic()
        while True:
            request.tries += 1
            asked = time.monotonic()
            if request.way in ("library", "many"):
                await self._ask_library(request, jobs, library)
            else:
                await self._ask_web(request, jobs, http, rng)
            request.seconds = time.monotonic() - asked
            self.slowest = max(self.slowest, request.seconds)
            again = request.outcome == "unknown" or (request.outcome == "refused" and request.word != "422")
            if not again or request.key is None or time.monotonic() - began > REPEATS_WITHIN:
                break
            if request.outcome == "refused" and rng.random() < 0.5:
                break  # nothing was stored, and this client does not insist
            await asyncio.sleep(rng.uniform(0.1, 0.5))
        self._ledger.write(request)

    async def _ask_library(self, request: Request, jobs: list[NewJob], library: Client) -> None:
        options: dict[str, Any] = {"idempotency_key": request.key, "scope": "library"}
        try:
            if request.way == "many":
                answers = await library.enqueue_many(jobs, **options)
            else:
                (new,) = jobs
                answers = [await library.enqueue(new.job, **new.options, **options)]
        except OutcomeUnknown as error:
            request.outcome, request.word = "unknown", str(error)
        except Unavailable as error:
            # Said of one try; an earlier try of the same request may still be unknown.
            self._refused(request, str(error))
        except InvalidOption as error:
            self._refused(request, str(error))
        except Exception as error:
            # No caller could know what this means for its job.
            self._ledger.server_errors.append(f"library: {type(error).__name__}: {error}")
            request.outcome, request.word = "unknown", type(error).__name__
        else:
            self._accepted(request, [(str(answer.id), answer.existing) for answer in answers])

    async def _ask_web(self, request: Request, jobs: list[NewJob], http: httpx.AsyncClient, rng: random.Random) -> None:
        urls = self._world.web_urls()
        if not urls:
            await asyncio.sleep(0.2)
            self._refused(request, "no web process")
            return
        path, body = _http(request, jobs)
        headers = {"Idempotency-Key": request.key} if request.key else {}
        try:
            answer = await http.post(rng.choice(urls) + path, json=body, headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            self._refused(request, type(error).__name__)
            return
        except httpx.HTTPError as error:
            request.outcome, request.word = "unknown", type(error).__name__
            return
        if answer.status_code in (200, 202):
            content = answer.json()
            found = content.get("jobs", [content])
            self._accepted(request, [(job["id"], job.get("existing", False)) for job in found])
        elif answer.status_code == 503 and answer.json()["type"].endswith("/unavailable"):
            self._refused(request, "503")
        elif answer.status_code == 422:
            self._refused(request, "422")
        else:
            if answer.status_code != 503:
                self._ledger.server_errors.append(f"{answer.status_code} to {path}: {answer.text[:300]}")
            request.outcome, request.word = "unknown", str(answer.status_code)

    def _accepted(self, request: Request, answers: list[tuple[str, bool]]) -> None:
        request.outcome, request.word = "accepted", ""
        request.ids, request.existing = [found for found, _ in answers], [existing for _, existing in answers]

    def _refused(self, request: Request, word: str) -> None:
        """Nothing was stored by this try. Only if none before it is unknown was nothing stored at all."""
        if request.tries == 1 or request.outcome == "refused":
            request.outcome = "refused"
        request.word = word

    async def _cancel(self, job_id: str, http: httpx.AsyncClient, rng: random.Random) -> None:
        urls = self._world.web_urls()
        if not urls:
            return
        try:
            answer = await http.post(f"{rng.choice(urls)}/api/v1/jobs/{job_id}/cancel")
        except httpx.HTTPError:
            return
        if answer.status_code == 200:
            self._ledger.write_cancelled(Cancelled(job_id, answer.json()["state"], time.time()))
        elif answer.status_code >= 500 and answer.status_code != 503:
            self._ledger.server_errors.append(f"{answer.status_code} to cancel: {answer.text[:300]}")


def _http(request: Request, jobs: list[NewJob]) -> tuple[str, dict[str, Any]]:
    """Path and body of a request over HTTP."""
    if request.way == "order":
        request.kinds = ["chaos.ordered"]
        return "/orders", {"tag": request.tags[0]}
    bodies: list[dict[str, Any]] = []
    for new in jobs:
        given = {name: value for name, value in new.options.items() if value is not None}
        bodies.append({"kind": new.job.job_options.kind, "args": new.job.model_dump(mode="json"), **given})
    if request.way == "invalid":
        bodies[0]["args"]["tag"] = {"not": request.tags[0]}
    if request.way == "bulk":
        return "/api/v1/jobs/bulk", {"jobs": bodies}
    return "/api/v1/jobs", bodies[0]
