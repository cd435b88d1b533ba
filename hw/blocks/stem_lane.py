"""One lane of the stem engine: pixels of a token times 8-bit weights of a channel, added up."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from bivit.compiler.ir.numeric import CODE_BITS
from bivit.hw.arch import Arch

__all__ = ["ODD_BITS", "StemLane", "lane_latency", "sum_bits"]

ODD_BITS = CODE_BITS + 1
"""Bits of the signed odd number that a code, or a stored weight, stands for."""


def sum_bits(arch: Arch) -> int:
    """Bits of a signed sum of products."""
    return (255 * 255 * arch.stem_pixels).bit_length() + 1


def lane_latency(arch: Arch) -> int:
    """Cycles from pixels to the sum that has their products: a level of adders takes one."""
    return 3 + (arch.stem_simd.bit_length() - 1)


class StemLane(wiring.Component):
    """Sums up products of pixels and weights for one channel, `stem_simd` of them a cycle.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    pixels, weights : ``In``
        Odd numbers, or 0; and (w - 1) / 2 of each weight w.
    take, first : ``In``, one cycle less than `lane_latency` later
        The products count; they start a new sum.
    sum : ``Out``, `lane_latency` cycles after pixels and weights
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        super().__init__({
            "pixels": In(data.ArrayLayout(signed(ODD_BITS), arch.stem_simd)),
            "weights": In(data.ArrayLayout(unsigned(CODE_BITS), arch.stem_simd)),
            "take": In(1), "first": In(1), "sum": Out(signed(sum_bits(arch)))})

    def elaborate(self, platform):
        m = Module()
        terms = []
        for index in range(self.arch.stem_simd):
            pixel, weight = (Signal(signed(ODD_BITS), name=f"{name}_{index}", reset_less=True)
                             for name in ("odd_pixel", "odd_weight"))
            product = Signal(signed(2 * ODD_BITS), name=f"product_{index}", reset_less=True)
            m.d.sync += [pixel.eq(self.pixels[index]),
                         weight.eq(Cat(Const(1, 1), self.weights[index])),
                         product.eq(pixel * weight)]
            terms.append(product)
        while len(terms) > 1:
            pairs = [low + high for low, high in zip(terms[::2], terms[1::2], strict=True)]
            terms = [Signal.like(pair, name=f"sum_of_{self.arch.stem_simd // len(pairs)}_{index}",
                                 reset_less=True) for index, pair in enumerate(pairs)]
            m.d.sync += [term.eq(pair) for term, pair in zip(terms, pairs, strict=True)]
        total = Signal(self.sum.shape(), reset_less=True)
        with m.If(self.take):
            m.d.sync += total.eq(Mux(self.first, 0, total) + terms[0])
        m.d.comb += self.sum.eq(total)
        return m
