"""How a system is described to the harness: its environment, its workers in each setting, and whether it is durable."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from benchmarks.size import sized

SLOTS = "5 slots, one process"
CORES = "best, both cores"
WAITS = "1,000 waits, one process"
PRODUCER = "one producer"
CPU = "10 ms of a processor, as many slots as cores"

SMALLEST_DRAIN = 200
"""Jobs of a smallest round's drain, and of its bulk."""

_NOTHING: Mapping[str, str] = MappingProxyType({})


class Program(str):
    """An argument that is the path of a program of the system's environment, where a command is given another to run.

    Only what is marked so is looked up: an argument may well be called as a program is, `carafe` for one.
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker process to start: its command (its first part and each `Program` are looked up in the system's
    environment) and variables."""

    command: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=lambda: _NOTHING)


@dataclass(frozen=True, slots=True)
class Setting:
    """The workers of one setting. `jobs`: how many no-ops a drain runs, two to three seconds' worth."""

    workers: tuple[Worker, ...]
    note: str
    jobs: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "jobs", sized(self.jobs, SMALLEST_DRAIN))


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

    def __post_init__(self) -> None:
        object.__setattr__(self, "bulk", sized(self.bulk, SMALLEST_DRAIN))

    @property
    def durable(self) -> bool:
        """Whether a job's end is committed in Postgres; Redis here has no append-only file."""
        return self.ends is not None
