"""All units side by side, so that one Verilator build serves the tests of each."""

from amaranth.hdl import Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bivit.hw.arch import Arch
from bivit.hw.blocks.array import SystolicArray
from bivit.hw.blocks.constant_loader import ConstantLoader
from bivit.hw.blocks.load import LoadUnit
from bivit.hw.blocks.matmul import MatmulIssue
from bivit.hw.blocks.post import PostProcessing
from bivit.hw.blocks.registers import Registers
from bivit.hw.blocks.sequencer import Sequencer
from bivit.hw.blocks.softmax import SoftmaxThreshold
from bivit.hw.blocks.vector import VectorUnit
from bivit.hw.emit import place

__all__ = ["ARCH", "TOP", "Units"]

TOP = "units"
ARCH = Arch(name="units", rows=3, cols=5, lanes=12, tile_rows=1, tile_cols=5, post_rows=2,
            weights="loaded", queue_depth=2, score_slots=3, score_tiles=4, program_depth=128,
            weight_depth=16, thr_depth=16, scale_depth=16, norm_depth=16, pos_depth=32,
            imem_depth=128, xmem_depth=128, hmem_depth=16, pmem_depth=16, bmem_depth=32,
            pv_depth=8, resid_depth=64, bend_depth=16, bias_depth=16, kmem_depth=16, vmem_depth=64,
            sums_depth=128)
"""No dimension fits another, as on the target `odd`; shallow memories."""


class Units(wiring.Component):
    """Every unit with its own ports, named ``<unit>__<port>``.

    Parameters
    ----------
    arch : Arch
        With loaded weights.
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        self._units = {
            "array": SystolicArray(arch), "post": PostProcessing(arch),
            "softmax": SoftmaxThreshold(arch), "vector": VectorUnit(arch), "load": LoadUnit(arch),
            "loader": ConstantLoader(arch), "issue": MatmulIssue(arch),
            "sequencer": Sequencer(arch), "registers": Registers(),
        }
        super().__init__({name: Out(unit.signature) for name, unit in self._units.items()})

    def elaborate(self, platform):
        m = Module()
        for name, unit in self._units.items():
            place(m, platform, name, unit)
            own = {path: value for path, _, value in
                   unit.signature.flatten(getattr(self, name))}
            for path, member, value in unit.signature.flatten(unit):
                inner, outer = Value.cast(value), Value.cast(own[path])
                if member.flow is In:
                    m.d.comb += inner.eq(outer)
                else:
                    m.d.comb += outer.eq(inner)
        return m
