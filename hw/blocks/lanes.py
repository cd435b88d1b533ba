"""What the post-processing blocks share: the record of a pass, modes and delays."""

from amaranth.hdl import C, Cat, Signal, signed, unsigned
from amaranth.lib import data, enum

from bivit.hw.arch import Arch

__all__ = ["PARAM_LEAD", "STAGES", "Mode", "counts_layout", "delayed", "pass_layout", "piece",
           "scale_layout", "spread", "threshold_layout"]

PARAM_LEAD = 2
"""Cycles by which the record of a pass precedes its counts: one memory latency."""

STAGES = 4
"""Cycles from counts (or a drain cycle of an arithmetic pass) to the write that they cause."""


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
        "tag": 16,          # program counter
        "first_tile": 1,
        "last_pass": 1,     # of the instruction
        "plane_first": 1,   # of the tile
        "plane_last": 1,    # of the tile
        "plane_shift": 4,
        "param_addr": 16,   # THR or SCALE word of this tile
        "dst": 2,           # isa.Destination
        "dst_addr": 16,     # HMEM or BMEM word of this tile
        "dst_pos": 8,
        "dst_col": 8,
        "rows": 6,
        "use_pv": 1,
        "pv_first": 1,
        "pv_addr": 12,      # of this tile
        "slot": 2,
        "valid_cols": 8,    # of this score tile
        "resid_addr": 16,   # RESID word of this tile
        "add_src": 2,       # isa.AddSource
        "add_addr": 16,     # of this tile
        "row_lo": 6,
        "row_hi": 6,
        "base": 28,
        "shift": 2,
        "sat": 5,
    })


def counts_layout(arch: Arch) -> data.ArrayLayout:
    """Mismatch counts of one pass; element ``(r, c)`` has index ``r * cols + c``."""
    return data.ArrayLayout(unsigned(arch.count_bits), arch.rows * arch.cols)


def threshold_layout(arch: Arch) -> data.ArrayLayout:
    """THR word."""
    return data.ArrayLayout(
        data.StructLayout({"thr": signed(arch.count_bits + 1), "flip": 1}), arch.cols)


def scale_layout(arch: Arch) -> data.ArrayLayout:
    """SCALE word."""
    return data.ArrayLayout(data.StructLayout({"scale": signed(16), "bias": signed(24)}), arch.cols)


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
