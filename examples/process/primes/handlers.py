"""What workers do for each job. Only workers import this module."""

from carafe import SyncContext, handler
from primes.jobs import CountPrimes

MEMORY = 256 * 2**20
"""Bytes that an attempt may use."""


@handler(CountPrimes, isolation="process", memory_limit=MEMORY)
def count_primes(job: CountPrimes, ctx: SyncContext) -> int:
    """Return the number of primes. The process is killed at the job's timeout, and when somebody cancels the job."""
    found = 0
    for number in range(2, job.below):
        if number % 10_000 == 0:
            ctx.progress(number / job.below, f"{found} so far")
        found += all(number % divisor for divisor in range(2, int(number**0.5) + 1))
    return found
