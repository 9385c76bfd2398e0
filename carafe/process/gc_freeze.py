"""Exempts a process's start-up objects (modules, routes, models, handlers) from Python's cyclic garbage collector. A full
collection would walk all of them, block the event loop for about 100 ms, and find nothing. Collections would also run too
often: a single batch of jobs makes 700 new objects, which is Python's default threshold, and a busy worker spent a tenth of
its time on collections.
"""

import gc

YOUNG = 10_000
"""The number of new objects after which the garbage collector looks for cycles among them. These new objects take a few
megabytes at most."""


_done = False


def started() -> None:
    """Exempt every object that exists now from garbage collection. Calling it again is a no-op."""
    global _done
    if _done:  # gc.get_freeze_count() would walk them all to count them, for 50 ms
        return
    _done = True
    gc.freeze()
    if 0 < gc.get_threshold()[0] < YOUNG:  # not where somebody has chosen otherwise
        gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
