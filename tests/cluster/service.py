"""The web Service as a client sees it: over a relay pod in the cluster, so that rollouts do not cut the way to it.

A request that gets no answer (the forward broke, no web process was there) is sent again until an answer comes; a POST
carries an Idempotency-Key, so that this makes nothing twice. Answers, also of errors, are the caller's to judge.
"""

import contextlib
import re
import subprocess
import threading
import time
from collections.abc import Collection, Iterable, Sequence
from typing import Any
from uuid import uuid4

import httpx

from tests.cluster.kubectl import Kubectl
from tests.cluster.waiting import until

Json = dict[str, Any]

LIVE = ("scheduled", "queued", "running", "retrying")


class Forward:
    """`kubectl port-forward` to one port of a pod, begun again when it breaks."""

    def __init__(self, kubectl: Kubectl, pod: str, port: int) -> None:
        self._kubectl, self._pod, self._port = kubectl, pod, port
        self._process: subprocess.Popen[str] | None = None
        self._url = ""

    def url(self) -> str:
        """Where the port is on this machine. Raises AssertionError when the pod cannot be reached."""
        if self._process is None or self._process.poll() is not None:
            self._process = self._kubectl.process("port-forward", "--address=127.0.0.1", self._pod, f":{self._port}")
            assert self._process.stdout is not None
            first = self._process.stdout.readline()
            found = re.search(r"127\.0\.0\.1:(\d+)", first)
            if found is None:
                self.close()
                raise AssertionError(f"no forward to {self._pod}: {first.strip()}")
            # It prints a line for every connection, and stands still when nobody reads them.
            threading.Thread(target=self._process.stdout.read, daemon=True).start()
            self._url = f"http://127.0.0.1:{found[1]}"
        return self._url

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Service:
    """Enqueues and follows jobs over HTTP."""

    def __init__(self, kubectl: Kubectl, relay: str, token: str) -> None:
        self._forward = Forward(kubectl, relay, 8080)
        self._http = httpx.Client(headers={"Authorization": f"Bearer {token}"}, timeout=15, trust_env=False)

    def close(self) -> None:
        """End the forward."""
        self._http.close()
        self._forward.close()

    def ask(self, method: str, path: str, *, within: float = 60.0, **more: Any) -> httpx.Response:
        """The answer to a request, whatever its status. Raises AssertionError when none comes."""
        if method == "POST":
            more["headers"] = {"Idempotency-Key": str(uuid4()), **more.get("headers", {})}

        def answer() -> httpx.Response | None:
            try:
                return self._http.request(method, self._forward.url() + path, **more)
            except httpx.TransportError as error:
                if isinstance(error, httpx.ConnectError):
                    self._forward.close()
                raise AssertionError(f"{type(error).__name__}: {error}") from error

        return until(f"an answer to {method} {path}", lambda: _some(answer()), within)[0]

    def done(self, method: str, path: str, *, within: float = 60.0, **more: Any) -> Json:
        """The answer's body, once the answer is a success: a 503 is asked again, anything else is a failure."""

        def answer() -> list[Json]:
            response = self.ask(method, path, within=within, **more)
            assert response.status_code != 503, response.text
            if not response.is_success:
                raise RuntimeError(f"{method} {path}: {response.status_code} {response.text}")
            return [response.json()]

        return until(f"{method} {path} succeeds", answer, within)[0]

    # -- jobs

    def enqueue(self, kind: str, **args: Any) -> str:
        """Enqueue one job; its id."""
        return str(self.done("POST", "/api/v1/jobs", json={"kind": kind, "args": args})["id"])

    def enqueue_many(self, kind: str, arguments: Iterable[Json]) -> list[str]:
        """Enqueue jobs of one kind at once; their ids."""
        body = {"jobs": [{"kind": kind, "args": args} for args in arguments]}
        return [str(job["id"]) for job in self.done("POST", "/api/v1/jobs/bulk", json=body)["jobs"]]

    def job(self, job_id: str) -> Json:
        """A job with its failed attempts."""
        return self.done("GET", f"/api/v1/jobs/{job_id}")

    def jobs(self, **query: Any) -> list[Json]:
        """All jobs that a listing finds, from all its pages."""
        found: list[Json] = []
        cursor: str | None = None
        while True:
            page = self.done("GET", "/api/v1/jobs", params={"limit": 500, **query, **({"cursor": cursor} if cursor else {})})
            found += page["jobs"]
            cursor = page["next_cursor"]
            if cursor is None:
                return found

    def of(self, ids: Collection[str], kind: str) -> list[Json]:
        """These jobs, all of one kind, as they stand, in the order of `ids`. Raises AssertionError when one is missing."""
        found = {str(job["id"]): job for job in self.jobs(kind=kind)}
        missing = [job_id for job_id in ids if job_id not in found]
        assert not missing, f"{len(missing)} of {len(ids)} jobs are not there: {missing[:5]}"
        return [found[job_id] for job_id in ids]

    def wait(self, ids: Sequence[str], kind: str, within: float) -> list[Json]:
        """These jobs, once all have ended. Raises AssertionError when they do not in time."""

        wanted = set(ids)

        def ended() -> bool:
            going = [job for job in self.live(kind) if str(job["id"]) in wanted]
            assert not going, f"{len(going)} of {len(ids)} go on, such as {_gist(going[0])}"
            return True

        until(f"{len(ids)} jobs of {kind} end", ended, within, every=1.0)
        return self.of(ids, kind)

    def running(self, ids: Sequence[str], kind: str, within: float) -> list[Json]:
        """These jobs, once all of them run and say where."""

        def run() -> list[Json]:
            jobs = self.of(ids, kind)
            waiting = [job for job in jobs if job["state"] != "running" or not job["progress_note"]]
            assert not waiting, f"{len(waiting)} of {len(jobs)} do not run yet, such as {_gist(waiting[0])}"
            return jobs

        return until(f"{len(ids)} jobs of {kind} run", run, within)

    def live(self, kind: str | None = None) -> list[Json]:
        """Every job, or every one of a kind, that has not ended."""
        return self.jobs(state=LIVE, **({"kind": kind} if kind else {}))

    def cancel(self, ids: Iterable[str]) -> None:
        """Cancel jobs; ones that have ended meanwhile are left alone."""
        for job_id in ids:
            with contextlib.suppress(RuntimeError):
                self.done("POST", f"/api/v1/jobs/{job_id}/cancel")

    # -- briefings

    def briefing(self, topic: str, within: float) -> tuple[Json, float]:
        """Ask for a briefing and follow it to its end. Returns it, and how many seconds that took."""
        began = time.monotonic()
        asked = self.done("POST", "/api/v1/briefings", within=within, json={"topic": topic})

        def ended() -> Json | None:
            briefing = self.done("GET", f"/api/v1/briefings/{asked['id']}")
            assert briefing["status"] in ("completed", "failed"), briefing
            return briefing

        return until("the briefing ends", lambda: ended() or {}, within), time.monotonic() - began


def _some(response: httpx.Response | None) -> list[httpx.Response]:
    # A response of an error is false, and here it is an answer.
    return [] if response is None else [response]


def _gist(job: Json) -> str:
    return ", ".join(f"{name} {job[name]}" for name in ("id", "kind", "state", "attempt", "releases", "error"))
