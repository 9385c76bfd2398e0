"""How a system is described to the harness: its environment, its workers in each setting, and whether it is durable."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

SLOTS = "5 slots, one process"
CORES = "best, both cores"
WAITS = "1,000 waits, one process"
PRODUCER = "one producer"
CPU = "10 ms of a processor, as many slots as cores"

_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker process to start: its command (the program is looked up in the system's environment) and variables."""

    command: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=lambda: _NOTHING)


@dataclass(frozen=True, slots=True)
class Setting:
    """The workers of one setting. `jobs`: how many no-ops a drain runs, two to three seconds' worth."""

    workers: tuple[Worker, ...]
    note: str
    jobs: int = 0


@dataclass(frozen=True, slots=True)
class System:
    """One system under test.

    `peer` names the folder under peers/ with its requirements and its `peer` module; None is this very environment.
    `ends` is a query for (count, seconds since the epoch of the last) of the ends that are committed; without one the
    end of a drain is the last handler's own start, and nothing durable has been written by then.
    """

    name: str
    settings: Mapping[str, Setting]
    peer: str | None
    producer: str = "peer"
    ends: str | None = None
    variables: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    bulk: int = 0
    """Jobs for `enqueue_bulk`, about a second's worth; 0 when another row already measures the same producer."""
    note: str = ""

    @property
    def durable(self) -> bool:
        """Whether a job's end is committed in Postgres; Redis here has no append-only file."""
        return self.ends is not None
