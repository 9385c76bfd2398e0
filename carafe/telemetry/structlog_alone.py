"""Keeps structlog from importing rich and colorama. Carafe's own programs import this module before structlog.

Where rich is installed, structlog imports it for tracebacks that no log of ours shows, and that import takes twice as long
as structlog's own; colorama is for consoles of Windows. A process of the application (a web server, say) does not import
this module, since there the application decides how its logs look.
"""

import sys

if "structlog" not in sys.modules:
    spared = [name for name in ("rich", "colorama") if name not in sys.modules]
    sys.modules.update(dict.fromkeys(spared))  # type: ignore[arg-type]  # their import fails until they are gone from there
    try:
        import structlog  # noqa: F401
    finally:
        for name in spared:
            del sys.modules[name]
