"""The jobs of the bank. Web process and workers import this module."""

from pydantic import Field

from carafe import Job


class Deposit(Job[int], kind="bank.deposit"):
    """Put money into an account, which is opened if there is none. The result is the new balance, in cents."""

    account: str
    cents: int = Field(gt=0)


class Transfer(Job[dict[str, int]], kind="bank.transfer"):
    """Move money between two accounts. The result is the new balance of each, in cents."""

    source: str
    target: str
    cents: int = Field(gt=0)
