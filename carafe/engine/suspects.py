"""Decides which suspects a worker takes, and how much memory the process of each may use. (A suspect is a job that may have
been running when its worker died.)

Every suspect runs in a child process of its own, so a crash ends no other job, and several suspects run side by side, in the
worker's usual slots. What they could still do to each other is to fill the container's memory, for which the kernel may end
all of its processes. So they share what the container has left, and a child that grows beyond its share fails alone.
"""

from collections.abc import Sequence

from carafe.engine import cgroup
from carafe.engine.claim import Claim

SHARED = 0.9
"""The part of the memory that the container has left which the suspects' processes may use together."""

LEAST = 64 << 20
"""The least number of bytes for one suspect. If less is left for another one, that one is left to other workers."""


def admit(suspects: Sequence[Claim], held: Sequence[Claim], slots: int) -> Sequence[Claim]:
    """Decide which of the claimed `suspects` this worker keeps, and set how much memory each of these may use
    (`Claim.memory`). Returns the others, which are to be left to other workers.

    `held` are the suspects that the worker has already. Altogether it has at most as many as `slots`. Those that come
    together get equal shares of the memory that earlier ones have left.
    """
    number = max(0, min(len(suspects), slots - len(held)))
    left = cgroup.memory_left()
    if left is not None and number:
        free = int(left * SHARED) - sum(claim.memory or 0 for claim in held)
        number = min(number, max(free // LEAST, 0 if held else 1))
        for claim in suspects[:number]:
            claim.memory = max(LEAST, free // number)
    return suspects[number:]
