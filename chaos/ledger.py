"""What the clients were told, kept outside the system under test: one line for each request that has an answer, or gave up.

`accepted`: committed, with the ids. `refused`: the answer said that nothing was stored. `unknown`: no answer, or one that
says so; it may exist once. A request that is repeated with its key is one request; its last word counts.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import orjson

Outcome = Literal["accepted", "refused", "unknown"]


@dataclass(slots=True)
class Request:
    """One request: the tags of its jobs, and how it came out."""

    tags: list[str]
    kinds: list[str]
    way: str
    key: str | None = None
    outcome: Outcome = "unknown"
    ids: list[str] = field(default_factory=list)
    existing: list[bool] = field(default_factory=list)
    tries: int = 0
    seconds: float = 0.0
    word: str = ""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A job whose cancellation was answered with its state."""

    id: str
    state: str
    at: float


class Ledger:
    """The file and what is in it."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115  open as long as the run
        self.requests: list[Request] = []
        self.cancelled: list[Cancelled] = []
        self.server_errors: list[str] = []
        self.jobs = 0

    def write(self, request: Request) -> None:
        """Keep a request with its outcome."""
        self.requests.append(request)
        if request.outcome == "accepted":
            self.jobs += len(request.ids)
        self._file.write(orjson.dumps(asdict(request)) + b"\n")

    def write_cancelled(self, cancelled: Cancelled) -> None:
        """Keep an answered cancellation."""
        self.cancelled.append(cancelled)
        self._file.write(orjson.dumps({"cancelled": asdict(cancelled)}) + b"\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()
