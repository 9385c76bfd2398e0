"""One slot of the runner."""

from carafe.engine.claim import Claim


class Slot:
    """Runs one job at a time: `claim` is that job's claim, or None while the slot is free."""

    __slots__ = ("claim", "index")

    def __init__(self, index: int) -> None:
        self.index = index
        self.claim: Claim | None = None
