"""The job. Web process and workers import this module."""

from pydantic import Field

from carafe import Job


class CountPrimes(Job[int], kind="primes.count", timeout=3, max_retries=0):
    """Count the prime numbers below a number."""

    below: int = Field(ge=0)
