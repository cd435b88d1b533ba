"""Sums of binary products over planes, as the array counts them.

They go through floating point: exact, because every partial sum is an integer below ``2**24`` in
float32, or ``2**53`` in float64, which the choice of the type looks after.
"""

import numpy as np

from bivit.hw.isa import BSource
from bivit.sim.constants import exact_type

__all__ = ["overflows", "plane_sums", "product", "signed"]


def signed(values, width):
    """The lowest `width` bits of integers as a signed number."""
    half = 1 << (width - 1)
    return ((values + half) & ((1 << width) - 1)) - half


def overflows(arch, fields):
    """Whether a dot product is so long that a count may wrap."""
    return fields["k_words"] * arch.lanes >= 1 << arch.count_bits


def _exact_type(arch, fields, a_planes, b_planes):
    """The floating-point type that holds every plane sum and every part of it."""
    return exact_type(fields["k_words"] * arch.lanes, a_planes, b_planes)


def _signs(machine, fields, a_planes, b_planes):
    """Signs of the weights, and sums of their columns."""
    return machine.constants.weights(
        fields["b_addr"], fields["n_tiles"], b_planes, fields["k_words"],
        _exact_type(machine.arch, fields, a_planes, b_planes))


def product(machine, fields, a_planes, b_planes):
    """``A . s`` of :func:`plane_sums` with the weights, (images, rows, columns)."""
    signs, _ = _signs(machine, fields, a_planes, b_planes)
    a = machine.rows(fields, a_planes).astype(signs.dtype, copy=False)
    return (a.reshape(-1, len(signs)) @ signs).reshape(*a.shape[:2], -1)


def plane_sums(machine, fields, a_planes, b_planes):
    """``sum(count << (i + j))`` over plane pairs, (images, rows, columns).

    With A = sum(a_i << i), B = sum(b_j << j) and s = 2 B - (2**b_planes - 1), the sum is
    ``(2**a_planes - 1) sum(B) - A . s``, and the same holds with A and B exchanged: so one
    matrix product does all planes.
    """
    if overflows(machine.arch, fields):
        return _wrapping_plane_sums(machine, fields, a_planes, b_planes)
    a_top, b_top = (1 << a_planes) - 1, (1 << b_planes) - 1
    if fields["b_src"] == BSource.WEIGHT.value:
        _, ones = _signs(machine, fields, a_planes, b_planes)
        found = product(machine, fields, a_planes, b_planes)
        return np.subtract(a_top * ones, found, out=found)
    exact = _exact_type(machine.arch, fields, a_planes, b_planes)
    a = machine.rows(fields, a_planes).astype(exact, copy=False)
    b = machine.columns(fields, b_planes).astype(exact, copy=False)
    ones = b_top * a.sum(2, keepdims=True)
    found = (a_top - 2 * a) @ b.transpose(0, 2, 1)
    found += ones
    return found


def _wrapping_plane_sums(machine, fields, a_planes, b_planes):
    """The same, pass by pass, with counts that wrap."""
    arch, tiles, k_words = machine.arch, fields["n_tiles"], fields["k_words"]
    total = np.zeros((len(machine.streams), arch.rows, tiles, arch.cols))
    for column_pass in range(tiles * b_planes):
        for plane in range(a_planes):
            one = fields | {"n_tiles": 1, "b_addr": fields["b_addr"] + column_pass * k_words,
                            "a_addr": fields["a_addr"] + plane * k_words}
            a = machine.rows(one, 1)
            if fields["b_src"] == BSource.WEIGHT.value:
                signs, ones = machine.constants.weights(one["b_addr"], 1, 1, k_words, np.float32)
                counts = ones - a @ signs
            else:
                b = machine.columns(one, 1)
                counts = a.sum(2, keepdims=True) + (1 - 2 * a) @ b.transpose(0, 2, 1)
            counts = counts.astype(np.int64) & ((1 << arch.count_bits) - 1)
            total[:, :, column_pass // b_planes] += counts << (plane + column_pass % b_planes)
    return total.reshape(*total.shape[:2], -1)
