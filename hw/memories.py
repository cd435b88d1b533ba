"""Names, widths and depths of all memories of the machine, from its parameters.

The top, the compiler and the instruction-set simulator take the sizes from here; the layouts of the
words are in ``docs/architecture.md``, section 2.
"""

import math
from typing import NamedTuple

from amaranth.hdl import Shape, signed, unsigned
from amaranth.utils import ceil_log2

from bivit.compiler.ir.numeric import CODE_BITS, SCORE_BIAS_BITS, SCORE_FRACTION
from bivit.hw.arch import Arch
from bivit.hw.isa import INSTR_BITS, ConstantMemory

__all__ = ["BEAT_BITS", "BEND_BITS", "BIAS_BITS", "CLIPPED_BITS", "MEM_LATENCY",
           "MemorySize", "SCALE_BITS", "SUM_BITS", "address_bits", "beats_per_word",
           "constant_memories", "constant_order", "fetched_memories", "loaded_memories",
           "masked_score", "memories", "score_shape", "score_shift", "threshold_bits",
           "write_granularity"]

MEM_LATENCY = 2
"""Cycles from an address to its data."""
SCALE_BITS = 16
"""Bits of a scale (or of a LayerNorm threshold)."""
BIAS_BITS = 24
"""Bits of a bias."""
BEAT_BITS = 32
"""Bits of a beat of either stream."""

CLIPPED_BITS = 18
"""Bits of a rescaled number, of those in SMEM too.

The clipping never shows. What follows is a sum with at most two addends of 16 bits, and a
saturation to at most 16 bits. A number above ``2**17 - 1`` is clipped to that, and with addends of
at least ``-2**15`` each is still at least ``2**16 - 1``, beyond any number of 16 bits. A number
below ``-2**17`` becomes that, and with addends below ``2**15`` is still below ``-2**16``.
"""
SUM_BITS = 40
"""Bits of a sum of rows."""
BEND_BITS = 16 + 2 * (SCALE_BITS + BIAS_BITS)
"""Bits of a bend: knee, then scale and bias from the knee on, then scale and bias below it."""

constant_order = (*(memory.name.lower() for memory in ConstantMemory), "stem", "stem_scale")
"""The constant memories; the position is the number that LOAD_SELECT takes."""


def address_bits(depth: int) -> int:
    """Bits of an address of so many words, at least 1."""
    return max(1, ceil_log2(depth))


class MemorySize(NamedTuple):
    """Size of a memory: bits of a word, number of words."""

    width: int
    depth: int

    @property
    def address_bits(self) -> int:
        """Bits of an address, at least 1."""
        return address_bits(self.depth)


def threshold_bits(arch: Arch) -> int:
    """Bits of a signed threshold, of a count or of a number."""
    return max(arch.count_bits, arch.resid_bits) + 1


def masked_score(arch: Arch) -> int:
    """The score of a masked key: above ``(count << (SCORE_FRACTION + 1)) - bias`` of any other."""
    return (1 << (max(arch.count_bits + SCORE_FRACTION + 1, SCORE_BIAS_BITS) + 1)) - 1


def score_shape(arch: Arch) -> Shape:
    """Shape of an entry of the score buffer: a score, or without biases its count alone."""
    if not arch.score_biases:
        return unsigned(arch.count_bits)
    return signed(masked_score(arch).bit_length() + 1)


def score_shift(arch: Arch) -> int:
    """Zeros at the end of a score that an entry of the score buffer leaves out."""
    return 0 if arch.score_biases else SCORE_FRACTION + 1


def memories(arch: Arch) -> dict[str, MemorySize]:
    """Size of every memory of a target by name, the constant ones first and in `constant_order`."""
    row_word = arch.rows * arch.lanes
    column_word = arch.cols * arch.lanes
    number_word = arch.post_rows * arch.cols * arch.resid_bits
    parameter_word = arch.cols * (SCALE_BITS + BIAS_BITS)
    return {name: MemorySize(width, depth) for name, width, depth in (
        ("program", INSTR_BITS, arch.program_depth),
        ("weight", column_word, arch.weight_depth),
        ("thr", arch.cols * (threshold_bits(arch) + 1), arch.thr_depth),
        ("scale", parameter_word, arch.scale_depth),
        ("norm", parameter_word, arch.norm_depth),
        ("pos", number_word, arch.pos_depth),
        ("bend", arch.cols * BEND_BITS, arch.bend_depth),
        ("bias", arch.rows * arch.cols * SCORE_BIAS_BITS, arch.bias_depth),
        *_of_input(arch),
        ("xmem", row_word, arch.xmem_depth),
        ("hmem", row_word, arch.hmem_depth),
        ("pmem", row_word, arch.pmem_depth),
        ("bmem", column_word, arch.bmem_depth),
        ("kmem", column_word, arch.kmem_depth),
        ("resid", number_word, arch.resid_depth),
        ("vmem", number_word, arch.vmem_depth),
        ("score", arch.rows * arch.cols * score_shape(arch).width,
         arch.score_slots * arch.score_tiles),
        ("sums", arch.post_rows * arch.cols * SUM_BITS, arch.sums_depth),
        ("pv", arch.cols * arch.count_bits, arch.pv_depth),
    )}


def _of_input(arch):
    """The memories of LOAD, or those of STEM."""
    if not arch.stem_macs:
        return (("imem", arch.rows * arch.lanes, arch.imem_depth),)
    return (("stem", arch.stem_macs * CODE_BITS, arch.stem_depth),
            ("stem_scale", SCALE_BITS + BIAS_BITS, arch.stem_scale_depth),
            ("smem", arch.post_rows * arch.cols * CLIPPED_BITS, arch.smem_depth))


def constant_memories(arch: Arch) -> dict[str, MemorySize]:
    """The part of `memories` that is initialised or loaded, in `constant_order`."""
    sizes = memories(arch)
    return {name: sizes[name] for name in constant_order if name in sizes}


def loaded_memories(arch: Arch) -> dict[str, MemorySize]:
    """The part of `constant_memories` that is written through the input stream."""
    sizes = constant_memories(arch)
    names = {"rom": (), "loaded": sizes, "streamed": constant_order[:1]}[arch.weights]
    return {name: sizes[name] for name in names}


def fetched_memories(arch: Arch) -> dict[str, MemorySize]:
    """The part of `constant_memories` that FETCH writes."""
    sizes = constant_memories(arch) if arch.weights == "streamed" else {}
    return {name: sizes[name] for name in sizes if name != "program"}


def beats_per_word(width: int, beat_bits: int = BEAT_BITS) -> int:
    """Beats that make one word of `width` bits, lowest bits first; those of the input stream, or
    of `beat_bits`."""
    return -(-width // beat_bits)


def write_granularity(arch: Arch) -> dict[str, int]:
    """Bits of a word that are always written together, of each memory that is written in parts.

    Rows of words, chunks and numbers; in BMEM also the pieces along the keys.
    """
    chunk, numbers = math.gcd(arch.cols, arch.lanes), arch.cols * arch.resid_bits
    return {"imem": arch.lanes, "kmem": arch.lanes, "xmem": chunk, "hmem": chunk,
            "pmem": math.gcd(arch.keys_per_group, arch.lanes),
            "bmem": math.gcd(arch.rows, chunk), "resid": numbers, "vmem": numbers,
            "smem": CLIPPED_BITS}
