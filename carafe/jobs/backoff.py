"""How long a failed job waits: exponential backoff, the jitter spread over the whole step.

The n-th wait lies anywhere from base·2^(n-1) up to base·2^n seconds, capped. Full jitter (AWS Architecture Blog,
"Exponential Backoff And Jitter", 2015) draws from zero, so that a wait can be shorter than the one before; here the waits
always grow, and a crowd that failed together is still spread as wide as the step.
"""

import random


def backoff(attempt: int, *, base: float, cap: float) -> float:
    """Seconds to wait after the failed attempt number `attempt` (from 1)."""
    step = min(cap, base * 2.0 ** min(attempt - 1, 60))
    return min(cap, step + random.uniform(0.0, step))
