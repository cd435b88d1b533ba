"""The ways of the vector unit: nested loops through rows, rows behind each other, sums of them.

What depends on an instruction's fields alone is made once and kept.
"""

import functools
from typing import NamedTuple

import numpy as np

from bivit.hw.isa import LEVELS
from bivit.sim.memory_state import present_places

__all__ = ["SumGroup", "bit_places", "destination_of", "destination_rows", "number_row_places",
           "source_of", "source_rows", "stem_rows", "sum_groups", "sum_places"]

_KEPT = 4096
"""Ways that are remembered."""
_ADDRESS = 0xFFFF
_SUM_ADDRESS = 0xFF


def source_of(fields):
    """The fields of a walk through rows, for :func:`source_rows`."""
    levels = tuple((fields[f"count_{level}"], fields[f"blocks_{level}"], fields[f"rows_{level}"],
                    fields.get(f"sums_{level}", 0)) for level in range(LEVELS))
    return fields["src_addr"], fields["src_row"], fields["src_stride"], levels


@functools.lru_cache(_KEPT)
def source_rows(arch, source):
    """The rows of a walk, in time order.

    Returns
    -------
    tuple of arrays (steps,)
        Word of the row's block; row in the block; sum rows from the first one on; whether every
        loop that stays on a sum row is at its step 0.
    """
    address, row, stride, levels = source
    counts, blocks, rows, sums = (np.array(column)[::-1] for column in zip(*levels, strict=True))
    steps = np.indices(counts).reshape(LEVELS, -1)  # outermost loop first
    row = row + rows @ steps
    address = address + stride * (blocks @ steps + row // arch.rows) & _ADDRESS
    return address, row % arch.rows, sums @ steps, ~steps[sums == 0].any(0)


def destination_of(fields):
    """The fields of rows behind each other, for :func:`destination_rows`."""
    return tuple(fields[name] for name in ("dst_addr", "dst_row", "dst_stride", "segment",
                                           "segment_left"))


@functools.lru_cache(_KEPT)
def destination_rows(destination, count, limit):
    """Word of the block and row in it, (count,), of rows behind each other.

    Parameters
    ----------
    destination : tuple
        Of :func:`destination_of`.
    count, limit : int
        Rows; rows of a block.
    """
    address, row, stride, segment, left = destination
    number = np.arange(count)
    if segment:
        first, later = (-(-length // limit) for length in (row + left, segment))
        index, inside = np.divmod(number - left, segment)
        begun = number >= left
        block = np.where(begun, first + index * later, 0)
        row = np.where(begun, inside, row + number)
        block, row = block + row // limit, row % limit
    else:
        block, row = np.divmod(row + number, limit)
    return address + block * stride & _ADDRESS, row


def stem_rows(fields, limit):
    """Word of the block and row in it, (tokens,), of the tokens of STEM; `limit` rows a block."""
    length = fields["segment"] or fields["tokens"]
    segment, inside = np.divmod(np.arange(fields["tokens"]), length)
    block, row = np.divmod(fields["row"] + inside, limit)
    block += segment * -(-(fields["row"] + length) // limit)
    return fields["dst_addr"] + block * fields["dst_stride"] & _ADDRESS, row


def number_row_places(arch, depth, address, row, tiles):
    """Places (rows, tiles) of the numbers of rows, as ``present_places`` gives them.

    Parameters
    ----------
    depth : int
        Words of the memory.
    address, row : int array (rows,)
    tiles : int array (tiles,)
    """
    words = address[:, None] + tiles * arch.drain_cycles + (row // arch.post_rows)[:, None]
    return present_places(depth, words & _ADDRESS, arch.post_rows,
                          (row % arch.post_rows)[:, None])


def bit_places(depth, address, row, words, rows):
    """Places (rows, words) of the words of rows of bits, as ``present_places`` gives them.

    `rows` is how many rows (or columns) a word of the memory has.
    """
    return present_places(depth, address[:, None] + np.arange(words) & _ADDRESS, rows,
                          row[:, None])


def sum_places(arch, rows, sum_tiles, offsets):
    """Places (rows, offsets) of the sums of rows, as ``present_places`` gives them."""
    group, row = np.divmod(rows[:, None], arch.post_rows)
    return present_places(arch.sums_depth, group * sum_tiles + offsets & _SUM_ADDRESS,
                          arch.post_rows, row)


class SumGroup(NamedTuple):
    """Sums of rows to which equally many products go.

    Attributes
    ----------
    places : int array (places,)
    events : int array (places, length)
        What goes to each: ``step of the walk * offsets + index of the offset``, in time order.
    started : bool array (places,)
        Whether the first one starts the sum.
    """

    places: np.ndarray
    events: np.ndarray
    started: np.ndarray


@functools.lru_cache(_KEPT)
def sum_groups(arch, source, sum_row, sum_tiles, offsets, first):
    """Which steps of a walk go to which sums of rows, a list of :class:`SumGroup`.

    Parameters
    ----------
    arch : Arch
    source : tuple
        Of :func:`source_of`.
    sum_row, sum_tiles : int
    offsets : tuple of int
        Words of a sum row that a step of the walk goes to.
    first : bool
        Whether sums are started.
    """
    _, _, sums, starts = source_rows(arch, source)
    places, exists = (array.ravel() for array in sum_places(
        arch, sum_row + sums, sum_tiles, np.array(offsets)))
    starts = np.repeat(starts, len(offsets)) if first else np.zeros(len(places), bool)
    order = np.argsort(places, kind="stable")
    order = order[exists[order]]
    if not len(order):
        return []
    found, begins = np.unique(places[order], return_index=True)
    groups = {}
    for place, events in zip(found.tolist(), np.split(order, begins[1:]), strict=True):
        started = np.flatnonzero(starts[events])
        events = events[started[-1]:] if len(started) else events
        groups.setdefault(len(events), []).append((place, events, len(started) > 0))
    return [SumGroup(*map(np.array, zip(*group, strict=True))) for group in groups.values()]
