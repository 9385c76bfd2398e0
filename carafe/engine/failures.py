"""Describes an exception that a handler raised, as plain texts. The words are the same if the handler ran as a task, in a
thread or in a child process."""

import asyncio
from typing import NamedTuple

from carafe.engine.results import ResultNotUsable
from carafe.jobs.errors import InvalidArguments, PayloadTooLarge
from carafe.texts import class_name, describe, text_of

CANCELLED = "the handler was cancelled: it cancelled its own task, or awaited something that was cancelled"


class Failure(NamedTuple):
    """Why an attempt failed: the `cause` for the attempt's record, and the exception's class, message and traceback."""

    cause: str
    error_class: str
    error: str
    traceback: str | None

    @property
    def final(self) -> bool:
        """Whether every further attempt would fail in the same way, so that the job is dead."""
        return self.cause in ("validation", "result")


def failure_of(error: BaseException) -> Failure:
    """Returns the failure that describes the exception `error`, which the handler raised, or which was raised while its
    arguments were read or its result was written. Never raises."""
    kind = type(error)  # never by `isinstance`, which asks the object
    if issubclass(kind, InvalidArguments):
        return Failure("validation", class_name(error), text_of(error), None)
    if issubclass(kind, ResultNotUsable | PayloadTooLarge):
        return Failure("result", class_name(error), text_of(error), None)
    name, message, trace = describe(error)
    if issubclass(kind, asyncio.CancelledError):
        return Failure("error", "CancelledError", CANCELLED, trace)
    return Failure("error", name, message, trace)
