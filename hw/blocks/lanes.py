"""What the post-processing blocks share: the record of a pass, layouts, stages and delays."""

from amaranth.hdl import C, Cat, Mux, Signal, signed, unsigned
from amaranth.lib import data, enum
from amaranth.lib.wiring import In, Out

from bivit.compiler.ir.numeric import SCORE_BIAS_BITS
from bivit.hw.arch import Arch
from bivit.hw.isa import TAG_BITS
from bivit.hw.memories import (
    BIAS_BITS,
    CLIPPED_BITS,
    SCALE_BITS,
    address_bits,
    score_shape,
    threshold_bits,
)

__all__ = ["BIT_STAGES", "NUMBER_STAGES", "PARAM_LEAD", "STAGES", "Mode", "bend_layout",
           "bias_layout", "counts_layout", "delayed", "numbers_layout", "pass_layout", "piece",
           "saturated", "scale_layout", "score_layout", "smem_ports", "spread", "threshold_layout"]

PARAM_LEAD = 2
"""Cycles by which the record of a pass precedes its counts: one memory latency."""

NUMBER_STAGES = 15
"""Cycles from a drain cycle of an arithmetic pass to its numbers."""

BIT_STAGES = NUMBER_STAGES + 1
"""Cycles from the last drain cycle of a pass to all its bits."""

STAGES = BIT_STAGES + 2
"""Cycles from a drain cycle to the write that it causes: bits are masked, then counted."""


class Mode(enum.IntEnum, shape=unsigned(2)):
    """Which lanes take a pass."""

    BITS = 0
    SCORE = 1
    ACC = 2


def pass_layout(arch: Arch) -> data.StructLayout:
    """Record of one pass: everything that the post-processing must know about its counts."""
    return data.StructLayout({
        "mode": 2,
        "tile": 12,
        "tag": TAG_BITS,    # of the instruction
        "first_tile": 1,
        "last_pass": 1,     # of the instruction
        "plane_first": 1,   # of the tile
        "plane_last": 1,    # of the tile
        "count_shift": 4,   # ACC: of the counts in the dot product
        "thr_addr": 16,     # THR word of this tile
        "use_pv": 1,        # BITS: add PV to the threshold; ACC: start from PV
        "pv_addr": 12,      # of this tile
        # What becomes of bits; never those of SCORE.
        "to_bits": 1,
        "dst": 2,           # isa.Destination
        "dst_addr": 16,     # HMEM or BMEM word of this tile
        "dst_pos": 8,
        "dst_col": 8,
        "rows": 6,
        "pv_first": 1,
        # SCORE
        "slot": 2,
        "valid_cols": 8,    # of this score tile
        "use_bias": 1,
        "bias_addr": 20,    # BIAS word of this tile
        # ACC
        "scale_addr": 16,   # SCALE word of this tile
        "base": 28,
        "shift": 2,
        "dual": 1,          # both addends come from one memory: two drain cycles a row group
        "add_src": 3,       # isa.AddSource
        "add_addr": 16,     # of this tile
        "bend": 1,
        "bend_addr": 16,    # BEND word of this tile
        "bend_shift": 2,
        "add2_src": 3,
        "add2_addr": 16,    # of this tile
        "sat": 5,
        "resid_addr": 16,   # RESID word of this tile
        "row_lo": 6,
        "row_hi": 6,
    })


def counts_layout(arch: Arch) -> data.ArrayLayout:
    """Mismatch counts of one pass; element ``(r, c)`` has index ``r * cols + c``."""
    return data.ArrayLayout(unsigned(arch.count_bits), arch.rows * arch.cols)


def score_layout(arch: Arch) -> data.ArrayLayout:
    """Word of the score buffer; element ``(r, c)`` has index ``r * cols + c``."""
    return data.ArrayLayout(score_shape(arch), arch.rows * arch.cols)


def bias_layout(arch: Arch) -> data.ArrayLayout:
    """BIAS word; element ``(r, c)`` has index ``r * cols + c``."""
    return data.ArrayLayout(signed(SCORE_BIAS_BITS), arch.rows * arch.cols)


def numbers_layout(arch: Arch) -> data.ArrayLayout:
    """Word of RESID, POS or VMEM; number ``(g, c)`` has index ``g * cols + c``."""
    return data.ArrayLayout(signed(arch.resid_bits), arch.post_rows * arch.cols)


def smem_ports(arch: Arch) -> dict:
    """Read port of SMEM, of the post-processing and what is in it; none without a stem engine."""
    if not arch.stem_macs:
        return {}
    numbers = arch.post_rows * arch.cols
    return {"smem_addr": Out(address_bits(arch.smem_depth)),
            "smem_data": In(data.ArrayLayout(signed(CLIPPED_BITS), numbers))}


def threshold_layout(arch: Arch) -> data.ArrayLayout:
    """THR word."""
    return data.ArrayLayout(
        data.StructLayout({"thr": signed(threshold_bits(arch)), "flip": 1}), arch.cols)


def scale_layout(arch: Arch) -> data.ArrayLayout:
    """SCALE word."""
    return data.ArrayLayout(
        data.StructLayout({"scale": signed(SCALE_BITS), "bias": signed(BIAS_BITS)}), arch.cols)


def bend_layout(arch: Arch) -> data.ArrayLayout:
    """BEND word."""
    return data.ArrayLayout(data.StructLayout({
        "knee": signed(16),
        "scale_above": signed(SCALE_BITS), "bias_above": signed(BIAS_BITS),
        "scale_below": signed(SCALE_BITS), "bias_below": signed(BIAS_BITS),
    }), arch.cols)


def delayed(m, value, cycles: int, *, name: str, init: int | None = None):
    """`value` after `cycles` registers; they are reset to `init` where it is given."""
    options = {"reset_less": True} if init is None else {"init": init}
    for stage in range(1, cycles + 1):
        register = Signal.like(value, name=f"{name}_{stage}", **options)
        m.d.sync += register.eq(value)
        value = register
    return value


def spread(bit, width: int):
    """`bit`, `width` times over."""
    return Cat([bit] * width)


def saturated(value, largest):
    """Signed `value`, clamped to ``-largest - 1`` and `largest`, which is all ones from bit 0 on.

    The result has one bit more than `largest`, which has fewer than `value`.
    """
    sign, bits = value[-1], len(largest)
    rest, beyond = value[:-1], ~Cat(largest, C(0, len(value) - 1 - bits))
    # Two trees, so that they need not wait for the sign, the end of a chain of carries.
    outside = Mux(sign, (~rest & beyond).any(), (rest & beyond).any())
    clamped = Cat(largest ^ spread(sign, bits), sign)
    return Mux(outside, clamped, value[:bits + 1]).as_signed()


def piece(bits, select, clear, *, width: int):
    """`bits` at the selected place of a row of `width` bits, and the row's write enables.

    Parameters
    ----------
    bits : Value
        The piece.
    select : Value
        Its place, one-hot: place i starts at bit ``i * len(bits)``.
    clear : Value
        Enable the whole row, of which the rest is zero, and not only the place.
    """
    used = len(bits) * len(select)
    word = Cat(*(bits & spread(chosen, len(bits)) for chosen in select), C(0, width - used))
    enable = Cat(*(spread(chosen | clear, len(bits)) for chosen in select),
                 spread(clear, width - used))
    return word, enable
