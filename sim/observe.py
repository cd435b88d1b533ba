"""Observation points: what an instruction left in memory, and whole tensors put together from it.

One function, :func:`read_result`, says where the result of an instruction lies. The instruction-set
simulator calls it on its memories right after the instruction; for the RTL it is called on a blank
memory on which the write events of that instruction were replayed (:mod:`bivit.sim.replay`).
"""

import numpy as np

from bivit.hw.isa import Destination, Opcode
from bivit.sim.memory_state import read_words

__all__ = ["CONFLICT", "MISSING", "RESULT_OPCODES", "observations", "read_result"]

_CODE_BITS = 8

CONFLICT = -(1 << 40)
"""Element of an observed tensor that is stored in several places, and not alike."""
MISSING = CONFLICT - 1
"""Element of an observed tensor that no instruction gave."""


def read_result(arch, opcode, fields, state) -> np.ndarray:
    """The rectangle that an instruction produced, (images, rows, columns).

    Rows are those of the token block from row 0 on, columns are the channels of its tiles; for
    SOFTMAX, keys. The array may be a view of the memory.

    Parameters
    ----------
    arch : Arch
    opcode : Opcode
        MM_BITS, MM_ACC, SOFTMAX, NORM_BITS or NORM_CODES.
    fields : dict of str to int
    state : MemoryState
    """
    return _READERS[opcode](arch, fields, state)


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
    tiles, groups = fields["n_tiles"], arch.drain_cycles
    words = read_words(state.resid, fields["dst_addr"], tiles * groups)
    words = words.reshape(-1, tiles, groups, arch.post_rows, arch.cols).transpose(0, 2, 3, 1, 4)
    rows = words.reshape(len(words), groups * arch.post_rows, tiles * arch.cols)
    return rows[:, :arch.rows]


def _read_softmax(arch, fields, state):
    keys = _read_pieces(state.pmem, fields["dst_addr"], 0, fields["n_tiles"], arch.keys_per_group)
    return keys[..., :fields["keys"]]


def _read_norm_bits(arch, fields, state):
    rows = fields["groups"] * arch.post_rows
    channels = _read_pieces(state.xmem[:, :, :rows], fields["dst_addr"], 0, fields["n_tiles"],
                            arch.cols)
    return channels[..., :fields["channels"]]


def _read_norm_codes(arch, fields, state):
    planes = [_read_norm_bits(arch, fields | {
        "dst_addr": fields["dst_addr"] + plane * fields["k_words"] & 0xFFFF}, state)
        for plane in range(_CODE_BITS)]
    return sum(bits << plane for plane, bits in enumerate(planes))


_READERS = {Opcode.MM_BITS: _read_bits, Opcode.MM_ACC: _read_accumulated,
            Opcode.SOFTMAX: _read_softmax, Opcode.NORM_BITS: _read_norm_bits,
            Opcode.NORM_CODES: _read_norm_codes}

RESULT_OPCODES = frozenset(_READERS)
"""Opcodes that `read_result` takes."""


def observations(manifest, results, images) -> dict[str, np.ndarray]:
    """Whole observed tensors (images, ...) in network order, from results of instructions.

    What no result gives is :data:`MISSING`; what two give differently is :data:`CONFLICT`.

    Parameters
    ----------
    manifest : dict
        With ``instructions`` and ``observations`` as ``docs/build.md`` has them.
    results : dict of int to array (images, rows, columns)
        Result of each observed instruction, by program counter.
    images : int
    """
    tensors = {entry["name"]: np.full((images, *entry["shape"]), MISSING, np.int64)
               for entry in manifest["observations"]}
    for position, instruction in enumerate(manifest["instructions"]):
        place = instruction["observe"]
        if place is None or position not in results:
            continue
        (r0, r1), (c0, c1), row = place["rows"], place["cols"], place["row"]
        target = tensors[place["name"]]
        if place["head"] is not None:
            target = target[:, place["head"]]
        result = results[position][:, row:row + r1 - r0, :c1 - c0]
        target = target[:, r0:r0 + result.shape[1], c0:c0 + result.shape[2]]
        target[...] = np.where((target == MISSING) | (target == result), result, CONFLICT)
    return tensors
