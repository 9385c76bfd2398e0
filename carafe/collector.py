"""Python's cyclic garbage collector, kept from what a process has made to start: modules, routes, models, handlers.

A full collection walks all of that, some 100 ms on an event loop that then answers nobody, and finds nothing.
"""

import gc


def started() -> None:
    """This process has made what it runs on: the collector looks at later objects alone. Harmless when said again."""
    if not gc.get_freeze_count():
        gc.freeze()
