"""What the instructions of the matrix unit do; products are exact in floating point."""

import functools

import numpy as np

from bivit.compiler.ir.numeric import SCORE_FRACTION
from bivit.hw.isa import AddSource, BSource, Destination
from bivit.sim.memory_state import (
    read_numbers,
    read_words,
    word_index,
    write_numbers,
    write_words,
)
from bivit.sim.pieces import place_pieces
from bivit.sim.products import overflows, plane_sums, product, signed

__all__ = ["accumulate", "bits", "saturate", "score", "valid_columns", "value_words"]

_COUNT_STEP = np.float32(2 << SCORE_FRACTION)
"""What one mismatch adds to a score."""
_BEND_BITS = 16
"""A number is saturated to so many bits before it is bent."""


def bits(machine, fields):
    """MM_BITS: counts against thresholds, into HMEM or BMEM."""
    arch, state, tiles = machine.arch, machine.state, fields["n_tiles"]
    if (fields["b_src"] == BSource.WEIGHT.value and not fields["use_pv"]
            and not overflows(arch, fields)):
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
        result = (plane_sums(machine, fields, 1, 1) <= limit.astype(np.float32)) ^ flip
    _place(machine, fields, result.view(np.uint8))


def _place(machine, fields, result):
    """Put bits (images, rows, columns) where `dst` says."""
    arch, state, destination = machine.arch, machine.state, fields["dst"]
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
    """MM_SCORE: scores to the score buffer, and the minimum of each row over its keys."""
    arch, slot, tiles = machine.arch, fields["slot"], fields["n_tiles"]
    counts = plane_sums(machine, fields, 1, 1)
    counts *= _COUNT_STEP
    scores = counts.reshape(*counts.shape[:2], tiles, arch.cols).transpose(0, 2, 1, 3)
    greatest = machine.minimum.dtype.type(machine.greatest_score)
    if fields["use_bias"]:
        bias, masked = machine.constants.score_bias(fields["bias_addr"], tiles)
        scores = np.where(masked, greatest, scores.astype(greatest.dtype, copy=False) - bias)
    write_words(machine.scores, slot * arch.score_tiles, scores)
    valid = valid_columns(arch, tiles, fields["keys"])[:, None]
    machine.minimum[:, slot] = np.where(valid, scores, greatest).min((1, 3))


@functools.cache
def valid_columns(arch, tiles, keys):
    """Which columns of each score tile hold keys, (tiles, cols)."""
    left = keys - arch.keys_per_group * np.arange(tiles)[:, None]
    return np.arange(arch.cols) < np.clip(left, 0, arch.keys_per_group)


def accumulate(machine, fields):
    """MM_ACC: plane sums, rescaled, added, bent, added; numbers to RESID, and their bits."""
    arch, tiles = machine.arch, fields["n_tiles"]
    low, high = fields["row_lo"], min(fields["row_hi"], arch.rows)
    rows = (0, arch.rows) if fields["to_bits"] else (low, high)
    if rows[0] >= rows[1]:
        return
    y = _rescaled(machine, fields)[:, slice(*rows)]
    y = _add(machine, y, fields["add_src"], fields["add_addr"], rows,
             _addend_tiles(fields["add_phase"], fields["add_tiles"], tiles))
    if fields["bend"]:
        y = _bent(machine, y, fields)
    y = _add(machine, y, fields["add2_src"], fields["add2_addr"], rows, range(tiles))
    saturate(arch, y, fields["sat"])
    if low < high:
        numbers = y[:, low - rows[0]:high - rows[0]].astype(np.int32)
        write_numbers(arch, machine.state.resid, fields["dst_addr"], tiles, (low, high), numbers)
    if fields["to_bits"]:
        limit, flip = machine.constants.thresholds(fields["thr_addr"], tiles)
        places = fields | {"dst_addr": fields["bits_addr"], "rows": fields["row_hi"]}
        _place(machine, places, ((y >= limit) ^ flip).view(np.uint8))


def saturate(arch, numbers, width):
    """Clamp to signed `width` bits, at most those of a number, in place."""
    limit = 1 << (min(max(width, 1), arch.resid_bits) - 1)
    np.clip(numbers, -limit, limit - 1, out=numbers)


@functools.cache
def _addend_tiles(phase, period, tiles):
    """Tile of the first addend beside each tile of the result."""
    found = phase + np.arange(tiles)
    return tuple((found % period if period else found).tolist())


def _add(machine, y, source, address, rows, tiles):
    """`y` plus the given tiles of an addend."""
    arch, count = machine.arch, max(tiles) + 1
    if source == AddSource.NONE.value:
        return y
    if source == AddSource.POS.value:
        addend = machine.constants.positions(address, count, rows)[None]
    else:
        memory = getattr(machine.state, AddSource(source).name.lower())
        addend = read_numbers(arch, memory, address, count, rows)
    if list(tiles) != list(range(count)):
        addend = addend.reshape(*addend.shape[:2], count, arch.cols)[:, :, list(tiles)]
        addend = addend.reshape(*addend.shape[:2], -1)
    y += addend
    return y


def _bent(machine, y, fields):
    """``floor(u * factor + offset)`` of the piece that u lies on, float64, exact."""
    knee, above, below = machine.constants.bend(fields["bend_addr"], fields["n_tiles"],
                                                fields["bend_shift"])
    half = 1 << (_BEND_BITS - 1)
    np.clip(y, -half, half - 1, out=y)
    factor, offset = (np.where(y >= knee, *pair) for pair in zip(above, below, strict=True))
    y *= factor
    y += offset
    return np.floor(y, out=y)


def _rescaled(machine, fields):
    """``floor(dot * factor + offset)``, float64, exact; dot is ``base - 2 sum`` or ``PV - sum``."""
    arch, constants, tiles = machine.arch, machine.constants, fields["n_tiles"]
    a_planes, b_planes, k_words = fields["a_planes"], fields["b_planes"], fields["k_words"]
    wraps = a_planes + b_planes + (k_words * arch.lanes).bit_length() > arch.acc_bits
    if (fields["b_src"] == BSource.WEIGHT.value and not wraps and not fields["from_pv"]
            and not overflows(arch, fields)):
        factor, offset = constants.rescaled_product(
            fields["b_addr"], tiles, k_words, a_planes, b_planes, fields["param_addr"],
            fields["shift"], fields["base"])
        y = product(machine, fields, a_planes, b_planes) * factor
    else:
        factor, offset = constants.rescale(fields["param_addr"], tiles, fields["shift"])
        sums = plane_sums(machine, fields, a_planes, b_planes)
        if fields["from_pv"]:
            ones = read_words(machine.state.pv, fields["pv_addr"], tiles)
            dot = ones.reshape(len(ones), 1, -1) - sums.astype(np.float64)
        else:
            dot = fields["base"] - 2.0 * sums
        if wraps:
            dot = signed(dot.astype(np.int64), arch.acc_bits + 1)
        y = dot * factor
    y += offset
    return np.floor(y, out=y)
