"""Writes shell commands that enqueue a job like a given one: curl against the job API, and `carafe enqueue`.

Guarantees: pasted into a POSIX shell, a command passes on exactly the job's kind and arguments, whatever these contain. A
shell variable takes the place of each secret, and the command refuses to run unless the variable is set.
Must never: contain the value of a secret, or a character that would control the terminal.
"""

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from secrets import token_hex
from types import MappingProxyType
from typing import Any

from carafe import json_pointer

API = "${CARAFE_URL:-http://localhost:%d}/api/v1/jobs"


@dataclass(frozen=True, slots=True)
class Commands:
    """The two commands, and the names of the shell variables that must hold the secrets (JSON strings without quotes)."""

    curl: str
    carafe: str
    variables: tuple[str, ...]


def commands(
    kind: str,
    arguments: Any,
    *,
    secrets: Iterable[str] = (),
    options: Mapping[str, str | int] = MappingProxyType({}),
    port: int = 8080,
) -> Commands:
    """Returns commands that enqueue a job of this kind with these arguments.

    `secrets` are JSON pointers to the redacted values in `arguments`. `options` are some of `EnqueueOptions`. `port` is the
    port of the API on this machine, used unless CARAFE_URL is set.
    """
    places = {pointer: (f"secret{token_hex(16)}", variable) for pointer, variable in _variables(secrets).items()}
    marked = arguments
    for pointer, (mark, _) in places.items():
        with suppress(LookupError):
            marked = json_pointer.put(marked, pointer, mark)
    marks = dict(places.values())
    body: dict[str, Any] = {"kind": kind, "args": marked, **options}
    port_of = API % port
    curl = (
        f'curl -X POST "{port_of}" \\\n'
        '  -H "Authorization: Bearer $CARAFE_TOKEN" \\\n'
        "  -H 'Content-Type: application/json' \\\n"
        f"  --data-raw {_quoted(_json(body), marks)}"
    )
    words = ["carafe enqueue"]
    words += [f"--{name.replace('_', '-')}={shlex.quote(str(value))}" for name, value in options.items()]
    words += [f"--json-args {_quoted(_json(marked), marks)}", *(["--"] if kind.startswith("-") else []), shlex.quote(kind)]
    return Commands(curl, " ".join(words), tuple(variable for _, variable in places.values()))


def _json(value: Any) -> str:
    """Returns `value` as JSON with printable characters only, so that no argument can hold a terminal's escape sequence."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return json.dumps(character)[1:-1] if ord(character) != 0x7F else "\\u007f"


def _quoted(text: str, marks: Mapping[str, str]) -> str:
    quoted = shlex.quote(text)
    for mark, variable in marks.items():
        quoted = quoted.replace(mark, f"'\"${{{variable}:?is not set: the secret goes there}}\"'")
    return quoted


def _variables(secrets: Iterable[str]) -> dict[str, str]:
    """Returns the name of a shell variable for each JSON pointer: LOGIN_PASSWORD for /login/password."""
    variables: dict[str, str] = {}
    for pointer in secrets:
        name = re.sub(r"[^A-Z0-9]+", "_", pointer.upper()).strip("_") or "VALUE"
        name = f"SECRET_{name}" if name[0].isdigit() or name in {"PATH", "HOME", "CARAFE_TOKEN", "CARAFE_URL"} else name
        while name in variables.values():
            name += "_"
        variables[pointer] = name
    return variables
