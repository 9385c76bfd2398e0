"""How big a round is: the sizes that give numbers, or, with BENCH_SMALLEST=1, the smallest that go the same way.

A smallest round says that a benchmark runs, and nothing about speed: no limit is judged and no rows are kept.
"""

import os

SMALLEST = os.environ.get("BENCH_SMALLEST", "") not in ("", "0")


def sized(full: int, smallest: int) -> int:
    """`full`, or `smallest` in a smallest round; never more than `full`."""
    return min(full, smallest) if SMALLEST else full


def moment(seconds: float) -> float:
    """Seconds in which something comes to rest; none in a smallest round."""
    return 0.0 if SMALLEST else seconds
