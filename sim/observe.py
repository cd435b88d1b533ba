"""Observation points: what an instruction left in memory, and whole tensors put together from it.

One function, :func:`read_results`, says where the results of an instruction lie. The simulator of
instructions calls it on its memories right after the instruction; for the RTL it is called on a
blank memory on which the write events of that instruction were replayed (:mod:`bivit.sim.replay`).
"""

import numpy as np

from bivit.compiler.ir.numeric import CODE_BITS
from bivit.hw.isa import Destination, Opcode, RowKind
from bivit.sim.memory_state import read_numbers, read_rows, read_words
from bivit.sim.walks import bit_places, destination_of, destination_rows, number_row_places

__all__ = ["CONFLICT", "MISSING", "RESULTS", "RESULT_OPCODES", "observations", "read_results"]

RESULTS = ("observe", "observe_bits")
"""The results that an instruction may have, named as their places in the manifest."""

CONFLICT = -(1 << 40)
"""Element of an observed tensor that is stored in several places, and not alike."""
MISSING = CONFLICT - 1
"""Element of an observed tensor that no instruction gave."""


def read_results(arch, opcode, fields, state) -> dict[str, np.ndarray]:
    """The rectangles that an instruction produced, (images, rows, columns), by :data:`RESULTS`.

    Rows are those of the token block from row 0 on, columns are the channels of its tiles; for
    SOFTMAX, keys. Of ROWS_OUT, rows are those that it writes, in order. MM_ACC with bits has two.
    The arrays may be views of the memory.

    Parameters
    ----------
    arch : Arch
    opcode : Opcode
        One of :data:`RESULT_OPCODES`.
    fields : dict of str to int
    state : MemoryState
    """
    results = {"observe": _READERS[opcode](arch, fields, state)}
    if fields.get("to_bits"):
        results["observe_bits"] = _read_bits(arch, fields | {
            "dst_addr": fields["bits_addr"], "rows": fields["row_hi"]}, state)
    return results


def _read_pieces(memory, address, position, count, width):
    """Pieces behind each other along the lanes: (images, rows, count * width)."""
    per_word = memory.shape[-1] // width
    words = read_words(memory, address, -(-(position + count) // per_word))
    pieces = words[..., :per_word * width].transpose(0, 2, 1, 3)
    pieces = pieces.reshape(*pieces.shape[:2], -1)
    return pieces[..., position * width:(position + count) * width]


def _read_bits(arch, fields, state):
    address, position, tiles = fields["dst_addr"], fields["dst_pos"], fields["n_tiles"]
    if fields["dst"] == Destination.HMEM.value:
        return _read_pieces(state.hmem, address, position, tiles, arch.cols)
    if fields["dst"] == Destination.K.value:
        first = fields["dst_col"] * arch.rows
        columns = state.bmem[:, :, first:first + arch.rows]
        return _read_pieces(columns, address, position, tiles, arch.cols)
    start = position * arch.rows
    words = [read_words(state.bmem, address + tile * fields["dst_stride"] & 0xFFFF, 1)[:, 0]
             for tile in range(tiles)]
    columns = np.concatenate(words, axis=1)[..., start:start + fields["rows"]]
    return columns.transpose(0, 2, 1)


def _read_accumulated(arch, fields, state):
    return read_numbers(arch, state.resid, fields["dst_addr"], fields["n_tiles"], (0, arch.rows))


def _read_softmax(arch, fields, state):
    keys = _read_pieces(state.pmem, fields["dst_addr"], 0, fields["n_tiles"], arch.keys_per_group)
    return keys[..., :fields["keys"]]


def _read_norm_bits(arch, fields, state):
    rows = fields["groups"] * arch.post_rows
    channels = _read_pieces(state.xmem[:, :, :rows], fields["dst_addr"], 0, fields["n_tiles"],
                            arch.cols)
    return channels[..., :fields["span"]]


def _read_norm_codes(arch, fields, state):
    planes = [_read_norm_bits(arch, fields | {
        "dst_addr": fields["dst_addr"] + plane * fields["k_words"] & 0xFFFF}, state)
        for plane in range(CODE_BITS)]
    return sum(bits << plane for plane, bits in enumerate(planes))


def _read_norm_numbers(arch, fields, state):
    rows = min(fields["groups"] * arch.post_rows, arch.rows)
    numbers = read_numbers(arch, state.vmem, fields["dst_addr"], fields["n_tiles"], (0, rows))
    return numbers[..., :fields["span"]]


def _read_rows_out(arch, fields, state):
    tiles = fields["sum_tiles"]
    address, row = destination_rows(destination_of(fields), fields["count"], arch.rows)
    if fields["kind"] == RowKind.NUMBERS.value:
        numbers = read_rows(state.vmem, *number_row_places(arch, arch.vmem_depth, address, row,
                                                           np.arange(tiles)))
        return numbers.reshape(*numbers.shape[:2], -1)
    planes = [_row_bits(arch, address + plane * fields["k_words"], row, tiles, state.xmem)
              for plane in range(CODE_BITS if fields["kind"] == RowKind.CODES.value else 1)]
    return sum(bits << plane for plane, bits in enumerate(planes))


def _row_bits(arch, address, row, tiles, memory):
    """Chunks of rows, (images, rows, tiles * cols)."""
    words = -(-tiles // arch.chunks_per_word)
    bits = read_rows(memory, *bit_places(arch.xmem_depth, address, row, words, arch.rows))
    bits = bits[..., :arch.chunks_per_word * arch.cols]
    return bits.reshape(*bits.shape[:2], -1)[..., :tiles * arch.cols]


_READERS = {Opcode.MM_BITS: _read_bits, Opcode.MM_ACC: _read_accumulated,
            Opcode.SOFTMAX: _read_softmax, Opcode.NORM_BITS: _read_norm_bits,
            Opcode.NORM_CODES: _read_norm_codes, Opcode.NORM_NUMBERS: _read_norm_numbers,
            Opcode.ROWS_OUT: _read_rows_out}

RESULT_OPCODES = frozenset(_READERS)
"""Opcodes whose results can be looked at."""


def observations(manifest, results, images) -> dict[str, np.ndarray]:
    """Whole observed tensors (images, ...) in network order, from results of instructions.

    What no result gives is :data:`MISSING`; what two give differently is :data:`CONFLICT`.

    Parameters
    ----------
    manifest : dict
        With ``executed`` and ``observations`` as ``docs/build.md`` has them.
    results : dict of (number, key) to array (images, rows, columns)
        Results of the observed instructions, by their numbers in the order of dispatch.
    images : int
    """
    tensors = {entry["name"]: np.full((images, *entry["shape"]), MISSING, np.int64)
               for entry in manifest["observations"]}
    places = {(number, key): instruction[key]
              for number, instruction in enumerate(manifest["executed"])
              for key in RESULTS if key in instruction}
    for key, place in places.items():
        if key not in results:
            continue
        (r0, r1), (c0, c1), row = place["rows"], place["cols"], place.get("row", 0)
        target = tensors[place["name"]]
        if place.get("head") is not None:
            target = target[:, place["head"]]
        for column, first, count in place.get("pieces") or [(0, c0, c1 - c0)]:
            result = results[key][:, row:row + r1 - r0, column:column + count]
            part = target[:, r0:r0 + result.shape[1], first:first + result.shape[2]]
            part[...] = np.where((part == MISSING) | (part == result), result, CONFLICT)
    return tensors
