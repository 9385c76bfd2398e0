"""``manage.py carafe …``: the command `carafe`, with the settings of the Django project.

``manage.py carafe serve --worker`` starts a worker, ``manage.py carafe jobs list`` shows jobs; ``manage.py carafe --help``
lists all commands.
"""

import sys
from argparse import REMAINDER
from collections.abc import Sequence
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from carafe.cli import main
from carafe.cli.exits import Exit
from carafe.django.configuration import export


class Command(BaseCommand):
    """Passes its arguments on to the command `carafe`."""

    help = "Runs the command `carafe` with the settings of this project."
    requires_system_checks = ()

    def run_from_argv(self, argv: list[str]) -> None:
        """Run ``manage.py carafe …`` and exit with its code. No option is Django's, not even ``--help``."""
        try:
            _export()
        except CommandError as error:
            self.stderr.write(f"CommandError: {error}")
            sys.exit(error.returncode)
        sys.exit(main(argv[2:]))

    def add_arguments(self, parser: CommandParser) -> None:
        """For ``call_command("carafe", …)``: all arguments are the command's."""
        parser.add_argument("arguments", nargs=REMAINDER)

    def handle(self, *_: Any, arguments: Sequence[str] = (), **__: Any) -> None:
        """Run the command. Raises ``SystemExit`` with its code if that is not 0, and ``CommandError`` if the settings cannot
        be used."""
        _export()
        code = main(list(arguments))
        if code:
            raise SystemExit(code)


def _export() -> None:
    try:
        export()
    except ImproperlyConfigured as error:
        raise CommandError(str(error), returncode=Exit.USAGE) from error
