"""How long a failed job waits."""

from hypothesis import given
from hypothesis import strategies as st

from carafe.jobs.backoff import backoff

BASES = st.floats(0.01, 100)
CAPS = st.floats(1, 10_000)


@given(attempt=st.integers(1, 1_000), base=BASES, cap=CAPS)
def test_a_wait_lies_within_its_step_and_the_cap(attempt: int, base: float, cap: float) -> None:
    wait = backoff(attempt, base=base, cap=cap)

    step = min(cap, base * 2 ** min(attempt - 1, 100))
    assert step <= wait <= min(cap, 2 * step)


@given(base=BASES)
def test_waits_grow_with_each_attempt_whatever_the_jitter(base: float) -> None:
    waits = [backoff(attempt, base=base, cap=1e12) for attempt in range(1, 20)]

    assert waits == sorted(waits)


def test_a_crowd_that_failed_together_is_spread() -> None:
    waits = [backoff(1, base=2, cap=3600) for _ in range(1_000)]

    # 2 to 4 seconds, in ten parts: none of them holds even a quarter.
    parts = [sum(2 + part / 5 <= wait < 2 + (part + 1) / 5 for wait in waits) for part in range(10)]
    assert all(0 < part < 250 for part in parts)
