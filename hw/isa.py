"""The instruction set: opcodes, fields and widths, in one place.

Hardware, assembler, instruction-set simulator, cycle model and the reference in ``docs/isa.md`` all
take these layouts. An instruction is ``INSTR_BITS`` wide: the header, the fields of its opcode, and
zeros; a non-zero reserved bit is an illegal instruction.

Every instruction goes, in program order, to the queue of one unit, and units run side by side.
A unit finishes its instructions in order. The ``wait_*`` fields of the header say which earlier
instructions must have finished first: ``wait_mm = d`` waits for the d-th most recent instruction
that was sent to the matrix unit before this one (1 is the latest); 0, and more than were sent,
waits for nothing. A wait can only point backwards, so no program can hang.

The sequencer executes LOOP, END, SET, RETURN and HALT itself (``docs/loops.md``). Each field in
``INDEXED`` has the number of a register beside it, and the unit gets their sum.
"""

from amaranth.hdl import unsigned
from amaranth.lib import data, enum

from bivit.hw.choices import (
    AddSource,
    ASource,
    BSource,
    ConstantMemory,
    Destination,
    MoveSource,
    NumberSource,
    RowKind,
    RowOperation,
    SoftmaxMode,
)

__all__ = [
    "ASource", "AddSource", "BSource", "CONTROL", "ConstantMemory", "Destination", "FORMATS",
    "HEADER", "INDEXED", "INSTRUCTION", "INSTR_BITS", "LEVELS", "MoveSource", "NUMBER_BITS",
    "NumberSource", "OPCODE_BITS", "OPCODE_MASK", "Opcode", "REGISTERS", "REGISTER_BITS", "RowKind",
    "RowOperation", "SETS", "SLOTS", "SLOT_FIELDS", "STACK", "STEPS", "SoftmaxMode", "TAG_BITS",
    "UNIT_OF", "Unit", "WAIT_FIELDS", "register_of",
]

INSTR_BITS = 448
"""Width of every instruction: fourteen 32-bit words."""

OPCODE_BITS = 5
OPCODE_MASK = (1 << OPCODE_BITS) - 1

REGISTERS = 32
"""Registers of the sequencer; register 0 is always 0."""
REGISTER_BITS = 24
STACK = 4
"""Calls and loops that can be open at the same time."""
STEPS = 7
"""Changes of registers in one END."""
SETS = 12
"""Values of registers in one SET."""

NUMBER_BITS = (REGISTERS - 1).bit_length()
"""Bits of the number of a register."""


class Opcode(enum.Enum, shape=unsigned(OPCODE_BITS)):
    """What an instruction does; 0 is illegal so that an empty memory stops at once."""

    __hash__ = object.__hash__  # there is one of each; that of Enum is slow
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
    LOOP = 14
    END = 15
    SET = 16
    RETURN = 17
    FETCH = 18
    STORE = 19
    STEM = 20


class Unit(enum.IntEnum, shape=unsigned(3)):
    """The units with a queue of their own."""

    __hash__ = int.__hash__
    LOAD = 0
    MM = 1
    SOFTMAX = 2
    VEC = 3
    FETCH = 4


UNIT_OF = {
    Opcode.LOAD: Unit.LOAD, Opcode.STEM: Unit.LOAD,
    Opcode.MM_BITS: Unit.MM, Opcode.MM_SCORE: Unit.MM, Opcode.MM_ACC: Unit.MM,
    Opcode.SOFTMAX: Unit.SOFTMAX,
    Opcode.NORM_BITS: Unit.VEC, Opcode.NORM_CODES: Unit.VEC, Opcode.OUTPUT: Unit.VEC,
    Opcode.NORM_NUMBERS: Unit.VEC, Opcode.ROWS_ADD: Unit.VEC, Opcode.ROWS_OUT: Unit.VEC,
    Opcode.MOVE: Unit.VEC, Opcode.STORE: Unit.VEC,
    Opcode.FETCH: Unit.FETCH,
}
"""Which unit runs an opcode; the others are the sequencer's own."""

CONTROL = tuple(opcode for opcode in Opcode
                if opcode not in UNIT_OF and opcode is not Opcode.HALT)
"""Opcodes that the sequencer executes while it fetches: no waits, no stage, not dispatched."""


WAIT_FIELDS = {Unit.LOAD: "wait_load", Unit.MM: "wait_mm", Unit.SOFTMAX: "wait_softmax",
               Unit.VEC: "wait_vec", Unit.FETCH: "wait_fetch"}
HEADER = {"opcode": Opcode, "stage": 5, "rest": 4,
          **{name: 8 for name in WAIT_FIELDS.values()}}

TAG_BITS = 20
"""Bits of the number of an instruction in the order of dispatch: no program executes more."""
INSTRUCTION = data.StructLayout({"word": INSTR_BITS, "tag": TAG_BITS, "counter": 16})
"""What a unit takes: the instruction, its number in the order of dispatch, its program counter."""

_OPERANDS = {
    "a_src": ASource, "b_src": BSource,
    "n_tiles": 12,   # column tiles, at least 1
    "k_words": 8,    # words of K per tile, at least 1
}
_MATMUL = {"a_addr": 16, "b_addr": 24} | _OPERANDS
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


def _numbered(count: int, fields: dict[str, int]) -> dict[str, int]:
    """The same fields `count` times, with a number behind each name."""
    return {f"{name}_{index}": width for index in range(count) for name, width in fields.items()}


FORMATS = {
    # with frames left, go on at `entry`
    Opcode.HALT: {"entry": 16},
    # `tokens` tokens of `pixels` bytes from the stream into IMEM as 8 planes of k_words words;
    # the first goes to row `row` of the block.
    Opcode.LOAD: {"dst_addr": 16, "row": 6, "tokens": 6, "pixels": 12, "k_words": 8, "last": 1},
    # `tokens` tokens of `pixels` bytes from the stream, times weights, rescaled, into SMEM
    Opcode.STEM: {
        "dst_addr": 16, "row": 6,  # block and row of the first token
        "dst_stride": 12,  # words from one block to the next
        "segment": 16,     # tokens after which a new block begins at `row`; 0: never
        "tokens": 16, "pixels": 12, "channels": 12,
        "weight_addr": 16,  # STEM word of the first group of channels
        "scale_addr": 16,  # STEM_SCALE word of channel 0
        "shift": 2,
        "last": 1,         # tlast on the final beat
        "next": 1,         # of the following image: skipped in the last frame
    },
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
    # `words` words of RESID or VMEM to external memory
    Opcode.STORE: {
        "src": NumberSource, "src_addr": 16,
        "ext_addr": 24,    # first beat, of the image in external memory
        "words": 12,
    },
    # the body up to END runs `count` times
    Opcode.LOOP: {"count": 16},
    # R[reg] += add, and 0 where that is `limit`; `on_wrap`: only where the limit before it was met;
    # `more`: steps alone, another END follows
    Opcode.END: {"used": 3, "more": 1} | _numbered(
        STEPS, {"reg": NUMBER_BITS, "add": REGISTER_BITS, "limit": REGISTER_BITS, "on_wrap": 1}),
    # R[reg] = value; `call`: go to `target`, until RETURN
    Opcode.SET: {"used": 4, "call": 1, "target": 16} | _numbered(
        SETS, {"reg": NUMBER_BITS, "value": REGISTER_BITS}),
    Opcode.RETURN: {},
    # `words` words of a constant memory from external memory
    Opcode.FETCH: {
        "memory": ConstantMemory,
        "ext_addr": 24,    # first beat, of the image in external memory
        "const_addr": 24,  # first word
        "words": 16,
    },
}

SLOT_FIELDS = (
    (24, {"b_addr", "delta", "ext_addr"}), (16, {"a_addr", "src_addr"}),
    (16, {"param_addr", "multiplier"}), (16, {"dst_addr"}), (16, {"add_addr"}),
    (16, {"add2_addr"}), (16, {"thr_addr"}), (16, {"bits_addr"}), (16, {"bend_addr"}),
    (12, {"pv_addr", "segment_left"}), (8, {"dst_pos", "sum_row"}), (8, {"dst_col", "dst_row"}),
    (6, {"rows", "row_hi", "row", "src_row"}), (2, {"shift", "slot"}), (2, {"bend_shift"}),
    (1, {"pv_first", "flip", "last", "first"}),
    # Behind the operands of MM; MM_ACC has other fields here.
    (32, {"eps", "threshold", "bias_addr", "const_addr"}),
)
"""Width and fields of each place that a register can be added to."""

INDEXED = {opcode: tuple(name for _, names in SLOT_FIELDS for name in FORMATS[opcode]
                         if name in names)
           for opcode in UNIT_OF}
"""Fields that a register is added to, of each opcode of a unit."""


def register_of(name: str) -> str:
    """Name of the field with the number of the register that is added to an indexed field."""
    return f"{name}_reg"


def _slots():
    """Offset and width of each place, and offset of the number of its register."""
    offset, places = data.StructLayout(HEADER).size, []
    for index, (width, _) in enumerate(SLOT_FIELDS):
        if index == len(SLOT_FIELDS) - 1:
            offset += data.StructLayout(_OPERANDS).size
        places.append((offset, width, INSTR_BITS - (index + 1) * NUMBER_BITS))
        offset += width
    return tuple(places)


SLOTS = _slots()
"""Of each place that a register is added to: offset, width, offset of the register's number."""
