"""Arithmetic lanes: bit planes to a dot product, rescale, add, saturate."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bivit.compiler.ir.numeric import BIAS_FRACTION, RESCALE_SHIFTS
from bivit.hw.arch import Arch
from bivit.hw.blocks.lanes import (
    STAGES,
    Mode,
    counts_layout,
    delayed,
    pass_layout,
    scale_layout,
)
from bivit.hw.emit import place
from bivit.hw.isa import AddSource

__all__ = ["ArithmeticLane", "ArithmeticLanes"]

_SCALE_BITS, _BIAS_BITS = 16, 24


class ArithmeticLane(wiring.Component):
    """One lane: accumulate a plane, multiply, shift, add.

    Cycles are numbered from the one in which a count is valid. The lane keeps, for each row group,
    what is left of the base: ``base - 2 * sum(count << plane_shift)``.

    Members
    -------
    active, first, group, count, plane_shift, base : ``In``, cycle 0
        Take a count; `first` starts a new sum.
    scale, bias, shift : ``In``, cycle 1
        Of the rescale; `shift` is an index into ``RESCALE_SHIFTS``.
    addend, largest : ``In``, cycle 3
        What is added, and the largest number of the result.
    result : ``Out``, cycle ``STAGES``
        The result.
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        super().__init__({
            "active": In(1),
            "first": In(1),
            "group": In(range(max(2, arch.drain_cycles))),
            "count": In(arch.count_bits),
            "plane_shift": In(4),
            "base": In(arch.acc_bits),
            "scale": In(signed(_SCALE_BITS)),
            "bias": In(signed(_BIAS_BITS)),
            "shift": In(range(len(RESCALE_SHIFTS))),
            "addend": In(signed(arch.resid_bits)),
            "largest": In(arch.resid_bits - 1),
            "result": Out(signed(arch.resid_bits)),
        })

    def elaborate(self, platform):
        m = Module()
        arch = self.arch
        # The dot product, in [-base, base].
        dot = Signal(signed(arch.acc_bits + 1), reset_less=True)
        kept, left = Signal.like(dot), Signal.like(dot)
        m.d.comb += left.eq(Mux(self.first, self.base, kept)
                            - (self.count << self.plane_shift << 1))
        with m.If(self.active):
            m.d.sync += dot.eq(left)
        if arch.drain_cycles == 1:
            m.d.comb += kept.eq(dot)
        else:
            m.submodules.plane_memory = memory = Memory(
                shape=dot.shape(), depth=arch.drain_cycles, init=[])
            read_port, write_port = memory.read_port(domain="comb"), memory.write_port()
            m.d.comb += [
                read_port.addr.eq(self.group), kept.eq(read_port.data),
                write_port.addr.eq(self.group), write_port.data.eq(left),
                write_port.en.eq(self.active),
            ]

        # A bias has BIAS_FRACTION bits below one, so half is 1 << (BIAS_FRACTION - 1) beside it.
        product = Signal(signed(arch.acc_bits + 1 + _SCALE_BITS), reset_less=True)
        offset = Signal(signed(_BIAS_BITS + 1 + RESCALE_SHIFTS[-1] - BIAS_FRACTION),
                        reset_less=True)
        shift = Signal.like(self.shift, reset_less=True)
        half = self.bias + Const(1 << (BIAS_FRACTION - 1))
        m.d.sync += [
            product.eq(dot * self.scale),
            offset.eq(Array([half << (amount - BIAS_FRACTION)
                             for amount in RESCALE_SHIFTS])[self.shift]),
            shift.eq(self.shift),
        ]

        # One bit more than the result is enough: with any addend it saturates all the same.
        scaled = Signal(signed(arch.resid_bits + 1), reset_less=True)
        total = product + offset
        rescaled = Signal(signed(len(total) - RESCALE_SHIFTS[0]))
        m.d.comb += rescaled.eq(Array([total >> amount for amount in RESCALE_SHIFTS])[shift])
        sign, over = rescaled[-1], rescaled[arch.resid_bits:]
        fits = (over == 0) | over.all()
        bound = Cat((~sign).replicate(arch.resid_bits), sign)
        m.d.sync += scaled.eq(Mux(fits, rescaled[:arch.resid_bits + 1], bound))

        added = scaled + self.addend
        with m.If(added > self.largest):
            m.d.sync += self.result.eq(self.largest)
        with m.Elif(added < ~Cat(self.largest, 0).as_signed()):
            m.d.sync += self.result.eq(~Cat(self.largest, 0).as_signed())
        with m.Else():
            m.d.sync += self.result.eq(added)
        return m


class ArithmeticLanes(wiring.Component):
    """``post_rows * cols`` lanes, which take a pass in ``drain_cycles`` cycles.

    Members
    -------
    ahead_valid, ahead : ``In``
        Record of a pass, one cycle before its counts.
    scale, counts : ``In``
        SCALE word and counts of the pass.
    last_drain : ``Out``
        High in the last drain cycle of a pass; the first is that of the counts.
    resid_addr, resid_data, pos_addr, pos_data
        Read ports of the addends, with two cycles of latency.
    resid_we, resid_write_addr, resid_write_data : ``Out``
        Write port, ``STAGES`` cycles after each drain cycle.
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        width = arch.post_rows * arch.cols * arch.resid_bits
        super().__init__({
            "ahead_valid": In(1),
            "ahead": In(pass_layout(arch)),
            "counts": In(counts_layout(arch)),
            "scale": In(scale_layout(arch)),
            "last_drain": Out(1),
            "resid_addr": Out(range(arch.resid_depth)),
            "resid_data": In(width),
            "pos_addr": Out(range(arch.pos_depth)),
            "pos_data": In(width),
            "resid_we": Out(width),
            "resid_write_addr": Out(range(arch.resid_depth)),
            "resid_write_data": Out(width),
        })

    def elaborate(self, platform):
        m = Module()
        arch = self.arch
        start = Signal()
        active = Signal()
        group = Signal(range(max(2, arch.drain_cycles)), reset_less=True)
        record = Signal(pass_layout(arch), reset_less=True)
        m.d.comb += start.eq(self.ahead_valid & (self.ahead.mode == Mode.ACC))
        m.d.comb += self.last_drain.eq(active & (group == arch.drain_cycles - 1))
        with m.If(start):
            m.d.sync += [record.eq(self.ahead), active.eq(1), group.eq(0)]
        with m.Elif(self.last_drain):
            m.d.sync += active.eq(0)
        with m.Else():
            m.d.sync += group.eq(group + 1)

        scale = Signal(scale_layout(arch), reset_less=True)
        with m.If(active & (group == 0)):
            m.d.sync += scale.eq(self.scale)

        m.d.sync += [self.resid_addr.eq(record.add_addr + group),
                     self.pos_addr.eq(record.add_addr + group)]
        add_source = delayed(m, record.add_src, 3, name="add_source")
        saturation = delayed(m, record.sat, 2, name="saturation")
        largest = Signal(arch.resid_bits - 1, reset_less=True)
        m.d.sync += [bit.eq(index + 1 < saturation) for index, bit in enumerate(largest)]
        shift = delayed(m, record.shift, 1, name="shift")

        numbers = data.ArrayLayout(signed(arch.resid_bits), arch.post_rows * arch.cols)
        resid, pos = data.View(numbers, self.resid_data), data.View(numbers, self.pos_data)
        results = data.View(numbers, self.resid_write_data)
        for index, count in enumerate(self._row_group(m, group)):
            lane = place(m, platform, f"lane_{index}", ArithmeticLane(arch))
            column = index % arch.cols
            addend = Signal(signed(arch.resid_bits), name=f"addend_{index}")
            with m.Switch(add_source):
                with m.Case(AddSource.RESID):
                    m.d.comb += addend.eq(resid[index])
                with m.Case(AddSource.POS):
                    m.d.comb += addend.eq(pos[index])
            m.d.comb += [
                lane.active.eq(active),
                lane.first.eq(record.plane_first),
                lane.group.eq(group),
                lane.count.eq(count),
                lane.plane_shift.eq(record.plane_shift),
                lane.base.eq(record.base),
                lane.scale.eq(scale[column].scale),
                lane.bias.eq(scale[column].bias),
                lane.shift.eq(shift),
                lane.addend.eq(addend),
                lane.largest.eq(largest),
                results[index].eq(lane.result),
            ]

        m.d.comb += self.resid_write_addr.eq(
            delayed(m, (record.resid_addr + group)[:16], STAGES, name="write_address"))
        write = Signal(arch.post_rows)
        for index, row_enable in enumerate(write):
            row = group * arch.post_rows + index
            m.d.comb += row_enable.eq(active & record.plane_last
                                      & (row >= record.row_lo) & (row < record.row_hi))
        late = delayed(m, write, STAGES, name="write", init=0)
        m.d.comb += self.resid_we.eq(
            Cat(row_enable.replicate(arch.cols * arch.resid_bits) for row_enable in late))
        return m

    def _row_group(self, m, group):
        """Counts of the present row group: the first straight away, the others from a register."""
        arch = self.arch
        taken = arch.post_rows * arch.cols
        counts = list(self.counts)
        counts += [Const(0, arch.count_bits)] * (arch.drain_cycles * taken - len(counts))
        rest = [Signal(arch.count_bits, name=f"rest_{index}", reset_less=True)
                for index in range(len(counts) - taken)]
        following = rest[taken:] + [Const(0, arch.count_bits)] * taken
        for register, fresh, shifted in zip(rest, counts[taken:], following, strict=False):
            m.d.sync += register.eq(Mux(group == 0, fresh, shifted))
        if not rest:
            return counts
        return [Mux(group == 0, fresh, held)
                for fresh, held in zip(counts[:taken], rest[:taken], strict=True)]
