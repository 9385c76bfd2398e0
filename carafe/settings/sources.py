"""Where the values of settings come from: `[tool.carafe]` of pyproject.toml, `env.local`, and the environment.

A later one of these wins over an earlier one. The files are looked for in one folder alone, the current one
(`carafe.settings.folder`).
Guarantees: a file that cannot be read, or that sets what it may not set, is a fault in words.
"""

import os
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from io import StringIO
from typing import Any, Literal

from dotenv import dotenv_values

from carafe.named_files import read_named
from carafe.settings.folder import folder

Source = Literal["default", "pyproject.toml", "env.local", "environment", "argument"]

ENV_FILE = "env.local"
PROJECT_FILE = "pyproject.toml"

OF_THE_PROJECT = ("settings_class", "job_modules", "handler_modules", "web_application", "worker_application", "migrations")
"""The settings that `[tool.carafe]` may have: they name parts of the application's code. What differs from place to place
belongs to the environment."""

Faults = list[tuple[str, str]]
"""What is wrong, as pairs (the setting's field, a text)."""


def of_the_environment() -> dict[str, str]:
    """The variables of this process, by their names in lower case."""
    return {name.lower(): value for name, value in os.environ.items()}


def of_env_file() -> tuple[dict[str, str], Faults]:
    """The variables in `env.local`, by their names in lower case, and the faults of the file.

    Values are taken as they are written, without interpolation: a password may have ``${`` in it.
    """
    try:
        text = read_named(folder() / ENV_FILE)
        values = {
            name.lower(): value or "" for name, value in dotenv_values(stream=StringIO(text), interpolate=False).items()
        }
    except FileNotFoundError:
        return {}, []
    except (OSError, ValueError) as error:
        return {}, [("", f"{ENV_FILE}: cannot be read: {error}")]
    if values.pop("environment", None) is None:
        return values, []
    fault = f"ENVIRONMENT: must be set in the environment, not in {ENV_FILE}, which only development reads"
    return values, [("environment", fault)]


def of_the_project() -> tuple[dict[str, Any], Faults]:
    """The settings in `[tool.carafe]` of pyproject.toml, and the faults of this table."""
    try:
        text = read_named(folder() / PROJECT_FILE)
    except FileNotFoundError:
        return {}, []
    except (OSError, ValueError) as error:
        return {}, [("", f"{PROJECT_FILE}: cannot be read: {error}")]
    if "carafe" not in text:
        return {}, []  # of a project that does not configure Carafe: not parsed, which takes milliseconds
    import tomllib

    try:
        table = tomllib.loads(text).get("tool", {}).get("carafe", {})
    except (tomllib.TOMLDecodeError, AttributeError, RecursionError) as error:
        return {}, [("", f"{PROJECT_FILE}: cannot be read: {error}")]
    if not isinstance(table, dict):
        return {}, [("", f"{PROJECT_FILE}: [tool.carafe] must be a table")]
    faults = [("", _not_there(name)) for name in table if name not in OF_THE_PROJECT]
    return {name: value for name, value in table.items() if name in OF_THE_PROJECT}, faults


def _not_there(name: str) -> str:
    near = get_close_matches(name.lower().replace("-", "_"), OF_THE_PROJECT, n=1)
    if near:
        return f"{PROJECT_FILE}: [tool.carafe] has {name!r}: did you mean {near[0]!r}?"
    return (
        f"{PROJECT_FILE}: [tool.carafe] has {name!r}, but may only have {', '.join(OF_THE_PROJECT)}; "
        "set everything else in the environment"
    )


SHORTEST = 6
"""How many characters a setting's name must have so that misspelt variants of it are looked for. HOST and PORT are shorter:
too many other names are similar to them."""


def misspelled(variables: Collection[str], fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Those of the variables that are one typing error away from a setting, as pairs (variable, setting); at most ten."""
    settings = [field.upper() for field in fields if len(field) >= SHORTEST]
    unknown = [name for name in variables if name.lower() not in fields]
    return [(name, near) for name in sorted(unknown) for near in settings if _one_typo(name.upper(), near)][:10]


def as_ignored(name: str, meant: str) -> str:
    """The warning of a pair that `misspelled` has found, in words."""
    return f"{name} is not a setting, and is ignored: did you mean {meant}?"


def _one_typo(one: str, other: str) -> bool:
    """Whether the two names differ by a single extra, missing or wrong character, or by two neighbouring characters that are
    swapped."""
    if abs(len(one) - len(other)) > 1 or one == other:
        return False
    at = next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    if len(one) == len(other):
        swapped = one[at : at + 2] == other[at : at + 2][::-1] and one[at + 2 :] == other[at + 2 :]
        return swapped or one[at + 1 :] == other[at + 1 :]
    shorter, longer = sorted((one, other), key=len)
    return shorter[at:] == longer[at + 1 :]
