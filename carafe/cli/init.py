"""The command `init`: writes a new application into a folder of its own."""

import keyword
import re
import sys
from importlib.util import find_spec
from pathlib import Path

from carafe.cli.exits import Exit, Failure, say
from carafe.cli.first_application import FILES
from carafe.cli.output import show_json

_OURS = ("carafe", "tests")
"""Names of packages that the application has beside its own."""

_FOUND_BY_NAME = ("conftest", "sitecustomize", "usercustomize")
"""Names of modules that pytest and Python import by themselves, wherever they find one."""

LONGEST = 64
"""Characters of a name. Folders and file names have room for more, but not for any number."""


def init(name: str, *, as_json: bool) -> Exit:
    """Writes the application `name` into a new folder of this name in the current folder, and says how to run it.

    Raises `Failure` if the name cannot be a package's, or something of this name exists already; nothing is written then.
    """
    _check(name)
    folder = Path(name)
    if folder.exists() or folder.is_symlink():
        raise Failure(f"{folder.absolute()} exists already; choose another name, or another folder to start in", Exit.USAGE)
    try:
        for path, text in FILES.items():
            file = folder / path.replace("shop", name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text.replace("shop", name), encoding="utf-8")
    except OSError as error:
        raise Failure(f"{folder.absolute()} cannot be written: {error.strerror or error}") from error
    if as_json:
        show_json({"folder": str(folder), "files": [path.replace("shop", name) for path in FILES]})
        return Exit.OK
    print(f"{folder}/ is written. To run it:\n\n    cd {folder}\n    carafe dev\n")
    say("`carafe dev` prints where everything is; `pytest` runs the application's test.")
    return Exit.OK


def _check(name: str) -> None:
    if keyword.iskeyword(name):
        raise Failure(f"NAME is a package's, and {name!r} is a Python keyword: choose another name", Exit.USAGE)
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        near = re.sub(r"[^a-z0-9_]+", "_", name.lower()).strip("_0123456789")
        instead = f", such as {near}" if near and near != name and not keyword.iskeyword(near) else ""
        raise Failure(
            f"NAME must be a package's: small letters, digits and _, beginning with a letter{instead} (got {name!r})",
            Exit.USAGE,
        )
    if len(name) > LONGEST:
        raise Failure(f"NAME must have at most {LONGEST} characters (got {len(name)})", Exit.USAGE)
    if name in _FOUND_BY_NAME:
        raise Failure(f"{name!r} is a module that pytest or Python imports by itself: choose another name", Exit.USAGE)
    if name in _OURS or name in sys.stdlib_module_names or _is_installed(name):
        raise Failure(
            f"{name!r} is a package that Python finds already; the application could not import both: choose another name",
            Exit.USAGE,
        )


def _is_installed(name: str) -> bool:
    spec = find_spec(name)
    # A folder of this name in the current folder is not installed: it is refused as a folder.
    return spec is not None and not any(Path(place).parent == Path.cwd() for place in spec.submodule_search_locations or ())
