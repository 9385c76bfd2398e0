"""The command `carafe`.

Modules are imported only when a command needs them, so that `carafe serve --worker` can start its first job in under a
second. For the same reason `serve` and `serve --worker` are recognised before any command-line library is imported.
"""

import os
import sys
from collections.abc import Callable, Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; expected errors are printed as one message on standard error."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] in (["serve"], ["steward"]) and "--check" not in given:
        from carafe.process.signals import end_while_starting

        end_while_starting()
    import carafe.telemetry.structlog_alone  # noqa: F401  # before any other import of ours
    from carafe.named_modules import found_in

    try:
        with found_in(os.getcwd()):
            return int(_command(given)())
    except (Exception, KeyboardInterrupt) as error:
        from carafe.cli.exits import report

        code = report(error)
        if code is None:
            raise
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains at exit
        return int(code)


def _command(given: list[str]) -> Callable[[], int]:
    if given == ["serve", "--worker"]:
        from carafe.cli.serving import serve_worker

        return serve_worker
    if given == ["serve"]:
        from carafe.cli.serving import serve_web

        return serve_web
    from carafe.cli.commands import run

    return lambda: run(given)
