"""The command `carafe`. Everything is imported late: `carafe serve --worker` starts a job in under a second.

`serve` without further options is therefore told apart before any command-line library is imported.
"""

import os
import sys
from collections.abc import Callable, Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors that can be foreseen are told in words on standard error."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # The modules that the settings name are found in the current folder, as with celery and uvicorn.
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    _import_structlog()
    try:
        return int(_command(given)())
    except (Exception, KeyboardInterrupt) as error:
        from carafe.cli.exits import report

        code = report(error)
        if code is None:
            raise
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains at exit
        return int(code)


def _import_structlog() -> None:
    """structlog imports rich where it finds it, for tracebacks that no log of ours shows, at twice its own cost."""
    if "structlog" in sys.modules or "rich" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment]  # `import rich` fails until this is gone
    try:
        import structlog  # noqa: F401
    finally:
        del sys.modules["rich"]


def _command(given: list[str]) -> Callable[[], int]:
    if given == ["serve", "--worker"]:
        from carafe.cli.serving import serve_worker

        return serve_worker
    if given == ["serve"]:
        from carafe.cli.serving import serve_web

        return serve_web
    from carafe.cli.commands import run

    return lambda: run(given)
