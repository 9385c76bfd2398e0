"""What counts as a number, wherever Carafe accepts one: integers, floats, decimals, fractions and the numbers of numpy.

A text of digits does not count, since it is more likely a value that somebody forgot to convert. True and False do not count
either.
"""

import math
from datetime import timedelta
from decimal import Decimal
from numbers import Integral, Real
from typing import Any


def is_number(value: Any) -> bool:
    """Whether `value` is a number. Never raises."""
    try:
        return isinstance(value, Real | Decimal) and not isinstance(value, bool)
    except Exception:
        return False  # a class of its own that lies about itself


def is_whole(value: Any) -> bool:
    """Whether `value` is a whole number by its type: 2.0 is not. Never raises."""
    return is_number(value) and isinstance(value, Integral)


def number_of_seconds(value: Any) -> float:
    """The seconds of a number or a timedelta. Returns NaN, which fails every comparison, for any other value."""
    try:
        if isinstance(value, timedelta):
            return value.total_seconds()
        return float(value) if is_number(value) else math.nan
    except Exception:
        return math.nan
