"""``python -m tests.documented.executing MODULE…``: imports each module in a process of its own, forked from one that has
Carafe's modules. Prints the traceback of each that fails, and exits with 1 if any did."""

import os
import sys
import traceback
from importlib import import_module

AHEAD = ("carafe.web", "carafe.dashboard", "carafe.client.sync_client", "sqlalchemy.orm")


def imported(module: str) -> bool:
    """Whether a module can be imported, in a process of its own."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            import_module(module)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def main() -> int:
    for name in AHEAD:
        import_module(name)
    return 1 if [module for module in sys.argv[1:] if not imported(module)] else 0


if __name__ == "__main__":
    sys.exit(main())
