"""For testing applications built on Carafe: run jobs inline, or inspect what was enqueued and drain it.

`inline(client)` runs each job as soon as its enqueue has committed. `manual(client)` runs no job until `drain` is called,
and has `assert_enqueued`. Both take a `Client` or a `SyncClient`, and both run jobs through the worker's own code: claims,
timeouts, outcomes, hooks and transactions are those of production. `carafe.testing.plugin` has fixtures for pytest.

Must never: be imported by the library itself, or import a module before that module is needed (every pytest run loads the
plugin).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from carafe.testing.modes import Manual, SyncManual, inline, manual

__all__ = ["Manual", "SyncManual", "inline", "manual"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from carafe.testing import modes

    return getattr(modes, name)
