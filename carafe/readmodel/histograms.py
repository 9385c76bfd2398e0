"""Merges histograms and takes percentiles of the merged ones, since percentiles cannot be averaged."""

from collections.abc import Iterable, Sequence

from carafe.telemetry.metrics import BOUNDS


def merge(histograms: Iterable[Sequence[int] | None]) -> list[int]:
    """Returns the sum of several histograms over the bounds `BOUNDS`. None counts as an empty histogram."""
    merged = [0] * (len(BOUNDS) + 1)
    for histogram in histograms:
        for index, count in enumerate(histogram or ()):
            merged[index] += count
    return merged


def percentile(histogram: Sequence[int], share: float) -> float | None:
    """Returns the value in seconds below which the share `share` (0 to 1) of the counted values lies. Returns None for an
    empty histogram.

    The values within a bar are assumed to be spread evenly. Values above all bounds count as the last bound.
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
