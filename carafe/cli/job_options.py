"""Gives a command an option for each option of a job (`EnqueueOptions`): ``--run-at`` for ``run_at``."""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from carafe.jobs.options import ENQUEUE_OPTIONS

_EXAMPLES = {"moment": " Such as 2026-01-31T12:00:00Z.", "duration": " Such as 30 (seconds), 5m, 2h."}


def with_job_options(command: Callable[..., None]) -> Callable[..., None]:
    """Decorator that gives `command` an option for each option that a job may be enqueued with.

    `command` must end in ``**options: str``. It gets the options that the user typed, as text.
    """

    @functools.wraps(command)
    def run(**values: Any) -> None:
        given = {name: text for name in ENQUEUE_OPTIONS if (text := values.pop(name)) is not None}
        command(**values, **given)

    signature = inspect.signature(command)
    own = [each for each in signature.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
    options = [
        inspect.Parameter(
            name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=None,
            annotation=Annotated[str | None, typer.Option(help=option.help + _EXAMPLES.get(option.what, ""))],
        )
        for name, option in ENQUEUE_OPTIONS.items()
    ]
    run.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
    return run
