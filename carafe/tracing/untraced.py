"""Stands in for spans while tracing is off: classes with the same methods, which do nothing and need no OpenTelemetry."""

from collections.abc import Mapping
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carafe.jobs.records import Enqueued


class NotSending:
    """What `sending` returns while tracing is off. If the caller has passed a trace, it is stored with the jobs
    unchanged."""

    __slots__ = ("rest", "trace")

    def __init__(self, trace: str | None) -> None:
        self.trace = self.rest = trace

    def __enter__(self) -> "NotSending":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def sent(self, answers: "list[Enqueued]") -> "list[Enqueued]":
        """Returns the answers unchanged."""
        return answers


class NotCalling:
    """What `calling` returns while tracing is off. `headers` is empty."""

    headers: Mapping[str, str] = MappingProxyType({})

    def __enter__(self) -> "NotCalling":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def answered(self, status: int) -> None:
        """Does nothing."""
