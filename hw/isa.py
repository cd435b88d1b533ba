"""The instruction set: opcodes, fields and widths, in one place.

Hardware, assembler, instruction-set simulator, cycle model and the reference in ``docs/isa.md`` all
take these layouts. An instruction is ``INSTR_BITS`` wide: the header, then the fields of its
opcode, then zeros; a non-zero reserved bit is an illegal instruction.

Every instruction goes, in program order, to the queue of one unit, and units run side by side.
A unit finishes its instructions in order. The ``wait_*`` fields of the header say which earlier
instructions must have finished first: ``wait_mm = d`` waits for the d-th most recent instruction
that was sent to the matrix unit before this one (1 is the latest), 0 waits for nothing. A wait can
only point backwards, so no program can hang.
"""

import functools

from amaranth.hdl import unsigned
from amaranth.lib import data, enum

__all__ = [
    "ASource", "AddSource", "BSource", "Destination", "FOLD_STEP", "FORMATS", "HEADER",
    "INSTR_BITS", "LEVELS", "MoveSource", "NumberSource", "Opcode", "RowKind", "RowOperation",
    "SoftmaxMode", "UNIT_OF", "Unit", "WAIT_FIELDS", "decode", "encode", "layout_of",
]

INSTR_BITS = 352
"""Width of every instruction: eleven 32-bit words."""


class Opcode(enum.Enum, shape=unsigned(4)):
    """What an instruction does; 0 is illegal so that an empty memory stops at once."""

    HALT = 1
    LOAD = 2
    MM_BITS = 3
    MM_SCORE = 4
    MM_ACC = 5
    SOFTMAX = 6
    NORM_BITS = 7
    NORM_CODES = 8
    OUTPUT = 9
    NORM_NUMBERS = 10
    ROWS_ADD = 11
    ROWS_OUT = 12
    MOVE = 13


class Unit(enum.IntEnum, shape=unsigned(2)):
    """The units with a queue of their own."""

    LOAD = 0
    MM = 1
    SOFTMAX = 2
    VEC = 3


UNIT_OF = {
    Opcode.LOAD: Unit.LOAD,
    Opcode.MM_BITS: Unit.MM, Opcode.MM_SCORE: Unit.MM, Opcode.MM_ACC: Unit.MM,
    Opcode.SOFTMAX: Unit.SOFTMAX,
    Opcode.NORM_BITS: Unit.VEC, Opcode.NORM_CODES: Unit.VEC, Opcode.OUTPUT: Unit.VEC,
    Opcode.NORM_NUMBERS: Unit.VEC, Opcode.ROWS_ADD: Unit.VEC, Opcode.ROWS_OUT: Unit.VEC,
    Opcode.MOVE: Unit.VEC,
}
"""Which unit runs an opcode; HALT is the sequencer's own."""


class ASource(enum.Enum, shape=unsigned(2)):
    """Memory that feeds the rows of the array; words of ``rows * lanes`` bits."""

    IMEM = 0  # pixel planes
    XMEM = 1  # LayerNorm bits and planes
    HMEM = 2  # bits of the compare lanes
    PMEM = 3  # attention bits


class BSource(enum.Enum, shape=unsigned(2)):
    """Memory that feeds the columns of the array; words of ``cols * lanes`` bits."""

    WEIGHT = 0
    BMEM = 1  # keys and values from the compare lanes
    KMEM = 2  # keys that the vector unit moved there


class Destination(enum.Enum, shape=unsigned(2)):
    """Where the compare lanes put their bits."""

    HMEM = 0  # rows of tokens, next operand A
    K = 1     # BMEM, columns of tokens along the channels
    V = 2     # BMEM, columns of channels along the tokens; their ones are counted in PV


class AddSource(enum.Enum, shape=unsigned(2)):
    """What a rescaled tile is added to."""

    NONE = 0
    RESID = 1
    POS = 2
    VMEM = 3


class NumberSource(enum.Enum, shape=unsigned(1)):
    """Memory of numbers that the vector unit reads."""

    RESID = 0
    VMEM = 1


class MoveSource(enum.Enum, shape=unsigned(1)):
    """Memory of bits that MOVE reads."""

    XMEM = 0
    HMEM = 1


class SoftmaxMode(enum.Enum, shape=unsigned(2)):
    """What an attention bit is compared with."""

    RELATIVE = 0  # the row's minimal distance plus a constant
    LIMIT = 1     # a constant
    ABSOLUTE = 2  # a share of the row's sum of exponentials


class RowOperation(enum.Enum, shape=unsigned(2)):
    """What ROWS_ADD does with a word of C products."""

    ADD = 0
    MAX = 1
    FOLD = 2  # their sum, to one column


FOLD_STEP = data.StructLayout({"column": 8, "next_tile": 1, "next_sum": 1, "fours": 1})
"""``NORM.bias`` of column 0 of a step of FOLD: the column that gets the sum, and whether the step
goes on to the next source tile and to the next word of the sum before it. With `fours` and C a
multiple of four, sums of four columns each go to the C / 4 columns that `column` is one of."""


class RowKind(enum.Enum, shape=unsigned(2)):
    """What ROWS_OUT makes of the sums."""

    NUMBERS = 0  # to VMEM
    CODES = 1    # to XMEM, eight planes
    BITS = 2     # to XMEM


WAIT_FIELDS = {Unit.LOAD: "wait_load", Unit.MM: "wait_mm", Unit.SOFTMAX: "wait_softmax",
               Unit.VEC: "wait_vec"}
HEADER = {"opcode": Opcode, **{name: 8 for name in WAIT_FIELDS.values()}}

_MATMUL = {
    "a_src": ASource, "a_addr": 16, "b_src": BSource, "b_addr": 24,
    "n_tiles": 12,   # column tiles, at least 1
    "k_words": 8,    # words of K per tile, at least 1
}
_BITS_OUT = {
    "dst": Destination,
    "dst_pos": 8,      # HMEM, K: chunk of tile 0 in its word; V: token block in its word
    "dst_col": 8,      # K: token block in its group of columns
    "dst_stride": 12,  # V: words from one tile to the next
    "pv_first": 1,     # V: start the count, else add to it
    "pv_addr": 12,     # PV word of tile 0
}
_NORM = {
    "src": NumberSource,
    "src_addr": 16,    # first column tile of the block
    "n_tiles": 12,     # column tiles, at least 1
    "channels": 12,    # N of the mean and the variance
    "span": 16,        # columns from the first channel to the one behind the last, N or more:
                       # those between that are no channels hold zero
    "groups": 6,       # row groups, 1 to drain_cycles
    "param_addr": 16,  # NORM word of the first column tile
    "dst_addr": 16,    # XMEM
    "eps": 32,
}

LEVELS = 4
"""Nested loops of ROWS_ADD and MOVE; level 0 is the innermost."""


def _walk(with_sums: bool) -> dict[str, int]:
    """Fields of a walk through rows: a start, and a count and a step for every level."""
    levels = {}
    for level in range(LEVELS):
        levels |= {f"count_{level}": 12, f"blocks_{level}": 12, f"rows_{level}": 6}
        if with_sums:
            levels[f"sums_{level}"] = 8
    return {"src_addr": 16, "src_row": 6, "src_stride": 12} | levels


_ROW_DESTINATION = {
    "dst_addr": 16,     # first word of the block of the first row
    "dst_row": 8,       # its row (column, in KMEM) in the block
    "dst_stride": 12,   # words from one block to the next
    "segment": 12,      # rows that lie behind each other before a new block starts; 0: all
    "segment_left": 12,  # rows of the segment from the first one on; 0 with `segment` 0
}

FORMATS = {
    Opcode.HALT: {},
    # `tokens` tokens of `pixels` bytes from the stream into IMEM as 8 planes of k_words words;
    # the first goes to row `row` of the block.
    Opcode.LOAD: {"dst_addr": 16, "row": 6, "tokens": 6, "pixels": 12, "k_words": 8, "last": 1},
    # bit = (count <= thr + pv) ^ flip
    Opcode.MM_BITS: _MATMUL | {
        "param_addr": 16,  # THR word of tile 0; one more per tile
        "dst_addr": 16,    # HMEM or BMEM word
        "rows": 6,         # V: valid rows of the block, 1 to `rows`
        "use_pv": 1,       # add PV[pv_addr + tile] to the threshold
    } | _BITS_OUT,
    # 32 counts minus bias into the score buffer of a slot, and their row minimum over valid keys
    Opcode.MM_SCORE: _MATMUL | {
        "slot": 2, "keys": 16,
        "use_bias": 1, "bias_addr": 20,  # BIAS word of tile 0; one more per tile
    },
    # sum the planes, rescale, add, bend, add, saturate to `sat` bits, write to RESID, compare
    Opcode.MM_ACC: _MATMUL | {
        "a_planes": 4, "b_planes": 4,  # 1 to 8
        "param_addr": 16,  # SCALE word of tile 0; one more per tile
        "dst_addr": 16,    # RESID word of tile 0; drain_cycles more per tile
        "add_src": AddSource, "add_addr": 16,  # first addend: its first tile
        "add_tiles": 12,   # the first addend starts again after so many tiles; 0: never
        "add_phase": 12,   # its tile for tile 0, below add_tiles
        "row_lo": 6, "row_hi": 6,  # rows row_lo <= r < row_hi are written
        "base": 28,        # unsigned: K * (2**a_planes - 1) * (2**b_planes - 1)
        "from_pv": 1,      # dot = PV[pv_addr + tile] - sum, in place of base - 2 sum
        "shift": 2,        # index into numeric.RESCALE_SHIFTS
        "sat": 5,
        "bend": 1, "bend_addr": 16, "bend_shift": 2,  # BEND word of tile 0; one more per tile
        "add2_src": AddSource, "add2_addr": 16,  # second addend, of tile 0
        "to_bits": 1,      # bits (result >= thr) ^ flip as well
        "thr_addr": 16,    # THR word of tile 0
        "bits_addr": 16,   # HMEM or BMEM word
    } | _BITS_OUT,
    # attention bits of valid keys into PMEM
    Opcode.SOFTMAX: {
        "slot": 2, "n_tiles": 12, "keys": 16, "dst_addr": 16,
        "mode": SoftmaxMode,
        "delta": 24,        # RELATIVE: from the minimum; LIMIT: the limit, signed
        "multiplier": 16,   # ABSOLUTE: numeric.exponential
        "threshold": 21,    # ABSOLUTE: share of the sum, 20 fractional bits
        "flip": 1,
    },
    Opcode.NORM_BITS: _NORM,
    Opcode.NORM_CODES: _NORM | {"shift": 2, "k_words": 8},  # k_words: words from plane to plane
    # to VMEM, word by word as in RESID
    Opcode.NORM_NUMBERS: _NORM | {"shift": 2, "sat": 5},
    # sums += numbers * scale, row by row
    Opcode.ROWS_ADD: {"src": NumberSource} | _walk(with_sums=True) | {
        "n_tiles": 12,     # words of a row; FOLD: steps
        "sum_row": 8,      # sum row of the first row
        "sum_tiles": 8,    # words of a sum row
        "param_addr": 16,  # NORM word of tile (step) 0
        "operation": RowOperation,
        "gelu": 1,         # of the number first
        "first": 1,        # start the sums where every loop that stays on a sum row is at 0
    },
    # sums + bias, shifted and saturated, to rows behind each other
    Opcode.ROWS_OUT: _ROW_DESTINATION | {
        "kind": RowKind, "count": 8, "sum_row": 8, "sum_tiles": 8,
        "param_addr": 16,  # NORM word of tile 0: the bias; bit 0 of the scale flips bits
        "shift": 2, "sat": 5,
        "k_words": 8,      # CODES: words from plane to plane
    },
    # rows of bits to rows behind each other
    Opcode.MOVE: {"src": MoveSource} | _walk(with_sums=False) | _ROW_DESTINATION | {
        "to_keys": 1,      # to KMEM, where a row is a column of keys_per_group; else to XMEM
        "words": 8,        # words of a row
    },
    # `count` numbers of row `row` to the output stream
    Opcode.OUTPUT: {"src": NumberSource, "src_addr": 16, "row": 6, "count": 12},
}


@functools.cache
def layout_of(opcode: Opcode) -> data.StructLayout:
    """Layout of an instruction with `opcode`, reserved bits included; first field lowest."""
    fields = HEADER | FORMATS[opcode]
    used = data.StructLayout(fields).size
    assert used < INSTR_BITS, f"{opcode} takes {used} bits"
    return data.StructLayout(fields | {"reserved": INSTR_BITS - used})


@functools.cache
def _widths(opcode):
    """Name and width of every field, lowest first, reserved bits last."""
    return tuple((name, field.width) for name, field in layout_of(opcode))


def encode(opcode: Opcode, **fields: int) -> int:
    """The instruction as an integer of ``INSTR_BITS`` bits; absent fields are 0.

    Raises ``ValueError`` for an unknown field or a value that does not fit.
    """
    word, position, known = 0, 0, {**HEADER, **FORMATS[opcode]}
    if unknown := set(fields) - set(known):
        raise ValueError(f"{opcode.name} has no field {sorted(unknown)[0]!r}")
    for name, width in _widths(opcode)[:-1]:
        value = opcode.value if name == "opcode" else fields.get(name, 0)
        value = int(getattr(value, "value", value))
        if not 0 <= value < 1 << width:
            raise ValueError(f"{name}={value} of {opcode.name} does not fit {width} bits")
        word |= value << position
        position += width
    return word


def decode(word: int) -> tuple[Opcode, dict[str, int]]:
    """Opcode and fields (plain integers, header included) of an instruction.

    Raises ``ValueError`` for an unknown opcode or a non-zero reserved bit.
    """
    opcode = Opcode(word & 15)
    fields, position = {}, 0
    for name, width in _widths(opcode):
        fields[name] = word >> position & ((1 << width) - 1)
        position += width
    if fields.pop("reserved"):
        raise ValueError(f"reserved bits of {opcode.name} are not zero")
    fields.pop("opcode")
    return opcode, fields
