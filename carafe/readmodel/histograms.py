"""Percentiles of merged histograms: bars are added up, percentiles are taken of the sum (they can not be averaged)."""

from collections.abc import Iterable, Sequence

from carafe.jobs.statistics import BOUNDS


def merge(histograms: Iterable[Sequence[int] | None]) -> list[int]:
    """One histogram of several over `BOUNDS`; None counts for nothing."""
    merged = [0] * (len(BOUNDS) + 1)
    for histogram in histograms:
        for index, count in enumerate(histogram or ()):
            merged[index] += count
    return merged


def percentile(histogram: Sequence[int], share: float) -> float | None:
    """The value in seconds below which `share` (0 to 1) of what was counted lies; None of nothing.

    Within a bar it is spread evenly; what is above all bounds counts as the last one.
    """
    rank = share * sum(histogram)
    if rank <= 0:
        return None
    below = 0
    for index, count in enumerate(histogram):
        if count and below + count >= rank:
            if index == len(BOUNDS):
                break
            low = BOUNDS[index - 1] if index else 0.0
            return low + (BOUNDS[index] - low) * (rank - below) / count
        below += count
    return BOUNDS[-1]
