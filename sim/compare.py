"""Comparison of two sets of observed tensors, with ``==``."""

import dataclasses

import numpy as np

from bivit.sim.observe import CONFLICT, MISSING

__all__ = ["Difference", "compare"]


@dataclasses.dataclass(frozen=True)
class Difference:
    """The first element that differs.

    Attributes
    ----------
    name : str
        Observation point.
    index : tuple of int
        Image, then the position in the tensor.
    found, expected : int
    """

    name: str
    index: tuple[int, ...]
    found: int
    expected: int

    def __str__(self):
        image, *place = self.index
        found = {CONFLICT: "stored in two ways", MISSING: "not computed"}.get(
            self.found, self.found)
        return (f"{self.name}{list(place)} of image {image} is {found} and should be "
                f"{self.expected}")


def compare(found: dict, expected: dict) -> tuple[int, Difference | None]:
    """Count the differing elements, and give the first in the order of `expected`.

    Both map a name to an integer array (images, ...). The names must be the same; an array of
    another shape is an error, not a difference.

    Raises
    ------
    ValueError
        If the names or the shapes are not the same.
    """
    if set(found) != set(expected):
        only = sorted(set(found) ^ set(expected))
        raise ValueError(f"only one side has the observation points {', '.join(only)}")
    count, first = 0, None
    for name, wanted in expected.items():
        given, wanted = np.asarray(found[name]), np.asarray(wanted)
        if given.shape != wanted.shape:
            raise ValueError(f"{name} has shape {given.shape} where {wanted.shape} is expected")
        different = given != wanted
        total = int(np.count_nonzero(different))
        count += total
        if total and first is None:
            index = tuple(int(i) for i in np.argwhere(different)[0])
            first = Difference(name, index, int(given[index]), int(wanted[index]))
    return count, first
