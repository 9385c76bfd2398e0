"""A job as a command to paste: curl against the job API, and `carafe enqueue`.

Guarantees: pasted into a POSIX shell, the command gives its program exactly the job's kind and arguments, whatever they
hold. A secret's place is taken by a shell variable, without which the command refuses to run.
Must never: hold a secret's value, or a character that a terminal would act on.
"""

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

API = "${CARAFE_URL:-http://localhost:%d}/api/v1/jobs"


@dataclass(frozen=True, slots=True)
class Commands:
    """The two commands, and the shell variables that must hold the secrets first (as JSON text without its quotes)."""

    curl: str
    carafe: str
    variables: tuple[str, ...]


def commands(
    kind: str, arguments: Any, *, secrets: Iterable[str] = (), unique_key: str | None = None, port: int = 8080
) -> Commands:
    """Commands that enqueue such a job again. `secrets` are the JSON pointers to the redacted values in `arguments`."""
    places = {pointer: (f"secret{token_hex(16)}", variable) for pointer, variable in _variables(secrets).items()}
    marked = arguments
    for pointer, (mark, _) in places.items():
        marked = _put(marked, _parts(pointer), mark)
    marks = dict(places.values())
    body: dict[str, Any] = {"kind": kind, "args": marked}
    if unique_key is not None:
        body["unique_key"] = unique_key
    port_of = API % port
    curl = (
        f'curl -X POST "{port_of}" \\\n'
        '  -H "Authorization: Bearer $CARAFE_TOKEN" \\\n'
        "  -H 'Content-Type: application/json' \\\n"
        f"  --data-raw {_quoted(_json(body), marks)}"
    )
    words = ["carafe enqueue"]
    if unique_key is not None:
        words.append(f"--unique-key={shlex.quote(unique_key)}")
    words += [f"--json-args {_quoted(_json(marked), marks)}", *(["--"] if kind.startswith("-") else []), shlex.quote(kind)]
    return Commands(curl, " ".join(words), tuple(variable for _, variable in places.values()))


def _json(value: Any) -> str:
    """JSON in printable characters only: an escape sequence or a bidirectional mark in an argument stays inert."""
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
    """A shell variable a pointer: /login/password is LOGIN_PASSWORD."""
    variables: dict[str, str] = {}
    for pointer in secrets:
        name = re.sub(r"[^A-Z0-9]+", "_", pointer.upper()).strip("_") or "VALUE"
        name = f"SECRET_{name}" if name[0].isdigit() or name in {"PATH", "HOME", "CARAFE_TOKEN", "CARAFE_URL"} else name
        while name in variables.values():
            name += "_"
        variables[pointer] = name
    return variables


def _parts(pointer: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def _put(value: Any, path: list[str], new: str) -> Any:
    if not path:
        return new
    key, rest = path[0], path[1:]
    if isinstance(value, dict) and key in value:
        return {**value, key: _put(value[key], rest, new)}
    if isinstance(value, list) and key.isdecimal() and int(key) < len(value):
        index = int(key)
        return [*value[:index], _put(value[index], rest, new), *value[index + 1 :]]
    return value
