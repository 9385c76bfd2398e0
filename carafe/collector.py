"""Python's cyclic garbage collector, kept from what a process has made to start: modules, routes, models, handlers.

A full collection walks all of that, some 100 ms on an event loop that then answers nobody, and finds nothing. And it is
asked for too often: Python's own 700 new objects are one batch of jobs, so that a busy worker looked through everything in
its hands again and again (a tenth of its time).
"""

import gc

YOUNG = 10_000
"""Objects made and not yet freed after which the collector looks for cycles among them: some megabytes at most."""


def started() -> None:
    """This process has made what it runs on: the collector looks at later objects alone. Harmless when said again."""
    if not gc.get_freeze_count():
        gc.freeze()
        if 0 < gc.get_threshold()[0] < YOUNG:  # not where somebody has chosen otherwise
            gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
