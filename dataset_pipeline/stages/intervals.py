"""Intervals of shares, and how many items a sample needs for one of a given width.

Belongs here: formulas that several stages and benchmarks share. Does not belong here: what is counted.
"""

import math
from typing import Final

Z95: Final = 1.959964
"""Standard deviations on both sides of the mean that 95 % of a normal distribution lie within."""


def wilson_interval(hits: float, trials: float, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson, 1927), to six digits; (0, 1) where nothing was tried."""
    if trials == 0:
        return 0.0, 1.0
    share, square = hits / trials, z * z
    centre = (share + square / (2 * trials)) / (1 + square / trials)
    variance = max(0.0, share * (1 - share)) / trials + square / (4 * trials**2)
    half = z / (1 + square / trials) * math.sqrt(variance)
    low = 0.0 if hits == 0 else centre - half  # what rounding leaves of an exact 0 or 1 is no number
    high = 1.0 if hits == trials else centre + half
    return float(f"{low:.6g}"), float(f"{high:.6g}")


def sample_size(margin: float, expected: float, population: int, z: float = Z95) -> int:
    """Items to look at so that a share near ``expected`` is known to +- ``margin``, of ``population`` items.

    Cochran (1977), with the finite population correction.
    """
    if population == 0:
        return 0
    infinite = z * z * expected * (1 - expected) / (margin * margin)
    return min(population, math.ceil(infinite / (1 + (infinite - 1) / population)))
