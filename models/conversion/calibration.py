"""How large a float network's values get, and the binary points that follow."""

import math

from bivit.compiler.ir.numeric import RESCALE_SHIFTS
from bivit.models.magnitudes import magnitudes

__all__ = ["HEADROOM", "finest_unit", "fraction", "units_of"]

HEADROOM = 1.5
"""Numbers hold this times the greatest magnitude of the calibration images."""
LARGEST_SCALE = (2**15 - 1) / 2 ** min(RESCALE_SHIFTS)


def finest_unit(greatest: float, scales=(), *, low=-8, high=12) -> float:
    """What one is in 16-bit numbers that reach `greatest`: any number from 2**low to 2**high.

    Parameters
    ----------
    scales : iterable of float
        Greatest scales of the products that become such numbers: they must fit theirs.
    """
    room = (2**15 - 1) / (HEADROOM * greatest + 1e-9)
    steepest = max([abs(scale) for scale in scales], default=0.0)
    return max(2.0**low, min(2.0**high, room, LARGEST_SCALE / (steepest + 1e-9)))


def fraction(greatest: float, scales=(), *, low=-8, high=12) -> int:
    """Fractional bits of such numbers, where one is a power of two."""
    return math.floor(math.log2(finest_unit(greatest, scales, low=low, high=high)))


def units_of(model, images, places, scales) -> dict:
    """One in the numbers at each of `places`, a power of two.

    Parameters
    ----------
    images, places
        As :func:`bivit.models.magnitudes.magnitudes` takes them.
    scales : dict of name to iterable of float
        As :func:`finest_unit` takes them.
    """
    found = magnitudes(model, images, places)
    return {name: 2.0 ** fraction(value, scales.get(name, ())) for name, value in found.items()}
