"""Finds out whether a module cannot be imported because the project has a src layout and is not installed."""

from importlib.util import find_spec

from carafe.settings.folder import folder


def not_installed(module: str) -> str:
    """Text to add to the fault of a setting whose module cannot be imported: what to do if `src/` has the module and Python
    does not look there. Empty if that is not the reason."""
    package = module.partition(".")[0]
    place = folder() / "src"
    if not package or not ((place / package).is_dir() or (place / f"{package}.py").is_file()):
        return ""
    try:
        found = find_spec(package) is not None
    except (ImportError, ValueError):
        found = False
    return "" if found else "; it is in src/, which is not installed: run `pip install -e .`, or set PYTHONPATH=src"
