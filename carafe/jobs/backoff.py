"""How long a failed job waits before its next attempt: exponential backoff, with jitter over the whole step.

The n-th wait is a random time between base·2^(n-1) and base·2^n seconds, but at most the cap. Full jitter (AWS Architecture
Blog, "Exponential Backoff And Jitter", 2015) draws from zero, so that a wait can be shorter than the one before. Here the
waits never become shorter, and jobs that failed together are still spread over the whole step.
"""

import random


def backoff(attempt: int, *, base: float, cap: float) -> float:
    """Seconds to wait after the failed attempt number `attempt` (from 1)."""
    step = min(cap, base * 2.0 ** min(attempt - 1, 60))
    return min(cap, step + random.uniform(0.0, step))
