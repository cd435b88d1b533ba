"""The choices that instructions name in a field."""

from amaranth.hdl import unsigned
from amaranth.lib import data, enum

__all__ = ["ASource", "AddSource", "BSource", "ConstantMemory", "Destination", "FOLD_STEP",
           "MoveSource", "NumberSource", "RowKind", "RowOperation", "SoftmaxMode"]


class ASource(enum.Enum, shape=unsigned(2)):
    """Memory that feeds the rows of the array; words of ``rows * lanes`` bits."""

    IMEM = 0  # pixel planes; zeros on targets with a stem engine
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


class AddSource(enum.Enum, shape=unsigned(3)):
    """What a rescaled tile is added to."""

    NONE = 0
    RESID = 1
    POS = 2
    VMEM = 3
    SMEM = 4  # first addend only, on targets with a stem engine


class NumberSource(enum.Enum, shape=unsigned(1)):
    """Memory of numbers that the vector unit reads."""

    RESID = 0
    VMEM = 1


class MoveSource(enum.Enum, shape=unsigned(1)):
    """Memory of bits that MOVE reads."""

    XMEM = 0
    HMEM = 1


class ConstantMemory(enum.Enum, shape=unsigned(3)):
    """The memories of constants, by the numbers of LOAD_SELECT; FETCH writes all but the first."""

    PROGRAM = 0
    WEIGHT = 1
    THR = 2
    SCALE = 3
    NORM = 4
    POS = 5
    BEND = 6
    BIAS = 7


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
