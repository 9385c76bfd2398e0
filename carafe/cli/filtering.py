"""The command-line options that filter jobs. Each command that takes a filter has one option for each word in
`carafe.store.filter_words`."""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any
from uuid import UUID

import typer

from carafe.cli import completing
from carafe.cli.arguments import past_of
from carafe.cli.exits import Exit, Failure
from carafe.jobs.states import State
from carafe.store.filter_words import ARGUMENT, WORDS, Word
from carafe.store.filters import JobFilter

_OFFERED = {"kind": completing.kinds, "worker": completing.workers, "id": completing.jobs_in()}
"""What the shell offers as values, by the name of the word. It offers states itself."""


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Decorator that adds the filter options to a command. The command gets the resulting filter as `wanted`."""
    own = [one.replace(kind=one.KEYWORD_ONLY) for one in inspect.signature(command).parameters.values()]
    own = [one for one in own if one.name != "wanted"]

    @wraps(command)
    def run(**given: Any) -> None:
        options = {word: given.pop(word.name) for word in WORDS}
        command(wanted=filter_of(options), **given)

    parameters = [*own[:1], *map(_parameter, WORDS), *own[1:]]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def filter_of(options: Mapping[Word, Any]) -> JobFilter:
    """Returns the filter that the given options describe. Options that are None add no condition.

    Raises `InvalidOption` or `Failure` for values that cannot be read, including empty ones. An empty value usually comes
    from a variable that a script has not set; without the error, the action would affect every job.
    """
    pairs: list[tuple[str, str]] = []
    for word, given in options.items():
        for value in given if word.many else [given]:
            if value is None:
                continue
            if word.shape == "moment":
                pairs.append((word.name, past_of(value, f"--{word.name}").isoformat()))
            elif word.shape == "argument":
                name, equals, wanted = value.partition("=")
                if not (name and equals):
                    raise Failure(f"--arg takes NAME=VALUE (got {value!r})", Exit.USAGE)
                pairs.append((ARGUMENT + name, wanted))
            else:
                pairs.append((word.name, word.write(value)))
    return JobFilter.from_query(pairs, strict=True)


def _type_of(word: Word) -> Any:
    match word.shape:
        case "state":
            return list[State]
        case "id":
            return list[UUID] if word.many else UUID | None
        case "boolean":
            return bool | None
    return str | None


def _parameter(word: Word) -> inspect.Parameter:
    name = f"--{word.name.replace('_', '-')}"
    names = {"argument": ["--arg"], "boolean": [f"{name}/--un{word.name}"]}.get(word.shape, [name])
    said = word.help if word.shape != "moment" else f"{word.help[:-1]}, such as 2h or 2026-01-31T12:00:00Z."
    option = typer.Option(
        *names,
        help=f"{said} May be repeated." if word.many else said,
        metavar="NAME=VALUE" if word.shape == "argument" else None,
        show_default=False,
        autocompletion=_OFFERED.get(word.name),
    )
    default: Any = [] if word.many else None
    annotation = Annotated[_type_of(word), option]  # type: ignore[valid-type]
    return inspect.Parameter(word.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
