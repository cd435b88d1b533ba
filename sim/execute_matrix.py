"""What the instructions of the matrix unit do.

Sums of products go through floating point: exact, because every partial sum is an integer below
``2**24`` in float32, or ``2**53`` in float64, which :func:`_plane_sums` looks after.
"""

import functools

import numpy as np

from bivit.hw.isa import AddSource, BSource, Destination
from bivit.sim.constants import exact_type
from bivit.sim.memory_state import (
    read_numbers,
    read_words,
    word_index,
    write_numbers,
    write_words,
)
from bivit.sim.pieces import place_pieces

__all__ = ["accumulate", "bits", "score", "valid_columns"]


def bits(machine, fields):
    """MM_BITS: counts against thresholds, into HMEM or BMEM."""
    arch, state, tiles = machine.arch, machine.state, fields["n_tiles"]
    if (fields["b_src"] == BSource.WEIGHT.value and not fields["use_pv"]
            and not _overflows(arch, fields)):
        weights, limit = machine.constants.compare(
            fields["b_addr"], tiles, fields["k_words"], fields["param_addr"])
        rows = machine.rows(fields, 1)
        result = rows.reshape(-1, len(weights)) @ weights >= limit
        result = result.reshape(*rows.shape[:2], -1)
    else:
        limit, flip = machine.constants.thresholds(fields["param_addr"], tiles)
        if fields["use_pv"]:
            ones = read_words(state.pv, fields["pv_addr"], tiles)
            limit = (ones.reshape(len(ones), -1) + limit)[:, None]
        result = (_plane_sums(machine, fields, 1, 1) <= limit.astype(np.float32)) ^ flip
    result = result.view(np.uint8)
    destination = fields["dst"]
    if destination == Destination.HMEM.value:
        place_pieces(state.hmem, fields["dst_addr"], fields["dst_pos"], result, arch.cols)
    elif destination == Destination.K.value:
        block = fields["dst_col"]
        if block < arch.blocks_per_key_group:
            columns = state.bmem[:, :, block * arch.rows:(block + 1) * arch.rows]
            place_pieces(columns, fields["dst_addr"], fields["dst_pos"], result, arch.cols)
    elif destination == Destination.V.value:
        _values(machine, fields, result)


def _values(machine, fields, result):
    """V: transposed, rows past the block's zero; the ones of each column are counted."""
    arch, memory, tiles = machine.arch, machine.state.bmem, fields["n_tiles"]
    result[:, fields["rows"]:] = 0
    ones = result.sum(1, dtype=np.uint8).astype(np.int32)  # at most 63 rows
    ones = ones.reshape(len(result), tiles, arch.cols)
    if not fields["pv_first"]:
        ones = ones + read_words(machine.state.pv, fields["pv_addr"], tiles)
    write_words(machine.state.pv, fields["pv_addr"], ones & ((1 << arch.count_bits) - 1))
    position, stride = fields["dst_pos"], fields["dst_stride"]
    columns = result.reshape(len(result), -1, tiles, arch.cols).transpose(0, 2, 3, 1)
    start = position * arch.rows
    indices = value_words(arch, fields["dst_addr"], tiles, stride)
    if stride and indices == list(range(indices[0], indices[-1] + 1, stride)):
        parts = [(slice(indices[0], indices[-1] + 1, stride), slice(None))]
    else:
        parts = [(index, tile) for tile, index in enumerate(indices) if index is not None]
    for index, tile in parts:
        if position == 0:
            memory[:, index] = 0
        if position < arch.blocks_per_key_word:
            memory[:, index, :, start:start + arch.rows] = columns[:, tile]


def value_words(arch, first, tiles, stride):
    """Word of V of each tile, None past the depth of BMEM."""
    return [word_index(arch.bmem_depth, first + tile * stride & 0xFFFF) for tile in range(tiles)]


def score(machine, fields):
    """MM_SCORE: counts to the score buffer, and the minimum of each row over its keys."""
    arch, slot, tiles = machine.arch, fields["slot"], fields["n_tiles"]
    counts = _plane_sums(machine, fields, 1, 1)
    counts = counts.reshape(*counts.shape[:2], tiles, arch.cols).transpose(0, 2, 1, 3)
    write_words(machine.scores, slot * arch.score_tiles, counts)
    valid = valid_columns(arch, tiles, fields["keys"])[:, None]
    if slot < arch.score_slots:
        machine.minimum[:, slot] = np.where(
            valid, counts, np.float32((1 << arch.count_bits) - 1)).min((1, 3))


@functools.cache
def valid_columns(arch, tiles, keys):
    """Which columns of each score tile hold keys, (tiles, cols)."""
    left = keys - arch.keys_per_group * np.arange(tiles)[:, None]
    return np.arange(arch.cols) < np.clip(left, 0, arch.keys_per_group)


def accumulate(machine, fields):
    """MM_ACC: plane sums, rescaled and added, to RESID."""
    arch, tiles, resid = machine.arch, fields["n_tiles"], machine.state.resid
    rows = fields["row_lo"], min(fields["row_hi"], arch.rows)
    if rows[0] >= rows[1]:
        return
    y = _rescaled(machine, fields)[:, slice(*rows)]
    if fields["add_src"] == AddSource.RESID.value:
        y += read_numbers(arch, resid, fields["add_addr"], tiles, rows)
    elif fields["add_src"] == AddSource.POS.value:
        y += machine.constants.positions(fields["add_addr"], tiles, rows)
    limit = 1 << (min(max(fields["sat"], 1), arch.resid_bits) - 1)
    np.clip(y, -limit, limit - 1, out=y)
    write_numbers(arch, resid, fields["dst_addr"], tiles, rows, y.astype(np.int32))


def _rescaled(machine, fields):
    """``floor(dot * factor + offset)`` of ``dot = base - 2 sum``, float64, exact."""
    arch, constants, tiles = machine.arch, machine.constants, fields["n_tiles"]
    a_planes, b_planes, k_words = fields["a_planes"], fields["b_planes"], fields["k_words"]
    wraps = a_planes + b_planes + (k_words * arch.lanes).bit_length() > arch.acc_bits
    if fields["b_src"] == BSource.WEIGHT.value and not wraps and not _overflows(arch, fields):
        factor, offset = constants.rescaled_product(
            fields["b_addr"], tiles, k_words, a_planes, b_planes, fields["param_addr"],
            fields["shift"], fields["base"])
        y = _product(machine, fields, a_planes, b_planes) * factor
    else:
        factor, offset = constants.rescale(fields["param_addr"], tiles, fields["shift"])
        dot = fields["base"] - 2.0 * _plane_sums(machine, fields, a_planes, b_planes)
        if wraps:
            dot = _signed(dot.astype(np.int64), arch.acc_bits + 1)
        y = dot * factor
    y += offset
    return np.floor(y, out=y)


def _signed(values, width):
    """The lowest `width` bits of integers as a signed number."""
    half = 1 << (width - 1)
    return ((values + half) & ((1 << width) - 1)) - half


def _overflows(arch, fields):
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


def _product(machine, fields, a_planes, b_planes):
    """``A . s`` of :func:`_plane_sums` with the weights, (images, rows, columns)."""
    signs, _ = _signs(machine, fields, a_planes, b_planes)
    a = machine.rows(fields, a_planes).astype(signs.dtype, copy=False)
    return (a.reshape(-1, len(signs)) @ signs).reshape(*a.shape[:2], -1)


def _plane_sums(machine, fields, a_planes, b_planes):
    """``sum(count << (i + j))`` over plane pairs, (images, rows, columns).

    With A = sum(a_i << i), B = sum(b_j << j) and s = 2 B - (2**b_planes - 1), the sum is
    ``(2**a_planes - 1) sum(B) - A . s``, and the same holds with A and B exchanged: so one
    matrix product does all planes.
    """
    if _overflows(machine.arch, fields):
        return _wrapping_plane_sums(machine, fields, a_planes, b_planes)
    a_top, b_top = (1 << a_planes) - 1, (1 << b_planes) - 1
    if fields["b_src"] == BSource.WEIGHT.value:
        _, ones = _signs(machine, fields, a_planes, b_planes)
        product = _product(machine, fields, a_planes, b_planes)
        return np.subtract(a_top * ones, product, out=product)
    exact = _exact_type(machine.arch, fields, a_planes, b_planes)
    a = machine.rows(fields, a_planes).astype(exact, copy=False)
    b = machine.columns(fields, b_planes).astype(exact, copy=False)
    ones = b_top * a.sum(2, keepdims=True)
    product = (a_top - 2 * a) @ b.transpose(0, 2, 1)
    product += ones
    return product


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
