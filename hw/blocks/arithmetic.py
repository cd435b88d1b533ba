"""Arithmetic lanes: bit planes to a dot product, rescale, add, bend, add, saturate, compare."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bivit.compiler.ir.numeric import RESCALE_SHIFTS
from bivit.hw.arch import Arch
from bivit.hw.blocks.drain import drain_layout
from bivit.hw.blocks.lanes import (
    NUMBER_STAGES,
    STAGES,
    bend_layout,
    counts_layout,
    delayed,
    numbers_layout,
    saturated,
    scale_layout,
    smem_ports,
    spread,
    threshold_layout,
)
from bivit.hw.blocks.rescale import BEND_LATENCY, RESCALE_LATENCY, Bend, Rescale
from bivit.hw.emit import place
from bivit.hw.isa import AddSource
from bivit.hw.memories import (
    BIAS_BITS,
    CLIPPED_BITS,
    MEM_LATENCY,
    SCALE_BITS,
    address_bits,
)

__all__ = ["ArithmeticLane", "ArithmeticLanes"]

_DOT = 2  # the stage of the dot product
_ADD = _DOT + RESCALE_LATENCY  # the stage of the first addend
_BEND = _ADD + 1
_LAST = _BEND + BEND_LATENCY  # the stage of the second addend
assert NUMBER_STAGES == _LAST + 2


class ArithmeticLane(wiring.Component):
    """One lane: accumulate a plane, multiply, shift, add, bend, add.

    Cycles are numbered from the one in which a count is valid. The lane keeps, for each row group,
    what is left of the start: ``start - sum(count << count_shift)``.

    Members
    -------
    count, count_shift : ``In``, cycle 0
    active, first, group, start : ``In``, cycle 1
        Take the count; `first` starts a new sum.
    scale : ``In``, cycle 2
    bias, shift : ``In``, cycle 3
        `shift` is an index into ``RESCALE_SHIFTS``.
    addend : ``In``, cycle 6
    knee : ``In``, cycle 7
    scale_above, bias_above, scale_below, bias_below : ``In``, cycle 8
        Of the bend.
    bend_shift : ``In``, cycle 10
    bent, addend_2 : ``In``, cycle 13
        Whether the bend counts, and what is added.
    largest : ``In``, cycle 14
        The largest number of the result.
    result : ``Out``, cycle ``NUMBER_STAGES``
        The result.
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        super().__init__({
            "active": In(1),
            "first": In(1),
            "group": In(range(max(2, arch.drain_cycles))),
            "count": In(arch.count_bits),
            "count_shift": In(4),
            "start": In(arch.acc_bits),
            "scale": In(signed(SCALE_BITS)),
            "bias": In(signed(BIAS_BITS)),
            "shift": In(range(len(RESCALE_SHIFTS))),
            "addend": In(signed(CLIPPED_BITS if arch.stem_macs else arch.resid_bits)),
            "knee": In(signed(16)),
            "scale_above": In(signed(SCALE_BITS)),
            "bias_above": In(signed(BIAS_BITS)),
            "scale_below": In(signed(SCALE_BITS)),
            "bias_below": In(signed(BIAS_BITS)),
            "bend_shift": In(range(len(RESCALE_SHIFTS))),
            "bent": In(1),
            "addend_2": In(signed(arch.resid_bits)),
            "largest": In(arch.resid_bits - 1),
            "result": Out(signed(arch.resid_bits)),
        })

    def elaborate(self, platform):
        m = Module()
        arch = self.arch
        rescale = place(m, platform, "rescale", Rescale(arch.acc_bits + 1))
        bend = place(m, platform, "bend", Bend()) if arch.bends else None
        m.d.comb += [
            rescale.number.eq(self._dot(m)),
            *(getattr(rescale, name).eq(getattr(self, name)) for name in
              ("scale", "bias", "shift")),
        ]

        # With one addend. The sum of a clipped number and two addends still saturates as it must;
        # a clipped number as an addend has nothing but zero beside it.
        single = delayed(m, rescale.result + self.addend, 1, name="single")
        if arch.bends:
            m.d.comb += [
                bend.number.eq(single),
                bend.shift.eq(self.bend_shift),
                *(getattr(bend, name).eq(getattr(self, name)) for name in
                  ("knee", "scale_above", "bias_above", "scale_below", "bias_below")),
            ]
        straight = delayed(m, single, BEND_LATENCY, name="straight")
        chosen = Mux(self.bent, bend.result, straight) if arch.bends else straight
        total = delayed(m, chosen.as_signed() + self.addend_2, 1, name="total")
        result = Signal(signed(arch.resid_bits), reset_less=True)
        m.d.sync += result.eq(saturated(total, self.largest))
        m.d.comb += self.result.eq(result)
        return m

    def _dot(self, m):
        """The dot product so far, at stage ``_DOT``; within `acc_bits` and a sign."""
        dot = Signal(signed(self.arch.acc_bits + 1), reset_less=True)
        kept, left, term = (Signal.like(dot, name=name) for name in ("kept", "left", "term"))
        m.d.sync += term.eq(self.count << self.count_shift)
        m.d.comb += left.eq(Mux(self.first, self.start, kept) - term)
        with m.If(self.active):
            m.d.sync += dot.eq(left)
        if self.arch.drain_cycles == 1:
            m.d.comb += kept.eq(dot)
        else:
            m.submodules.plane_memory = memory = Memory(
                shape=dot.shape(), depth=self.arch.drain_cycles, init=[])
            read_port, write_port = memory.read_port(domain="comb"), memory.write_port()
            m.d.comb += [
                read_port.addr.eq(self.group), kept.eq(read_port.data),
                write_port.addr.eq(self.group), write_port.data.eq(left),
                write_port.en.eq(self.active),
            ]
        return dot


class ArithmeticLanes(wiring.Component):
    """``post_rows * cols`` lanes, which take a row group of a pass in a cycle.

    A group's numbers are those of the first of its drain cycles. In a dual pass the second addend
    of a group is read in the second one.

    Members
    -------
    drain : ``In``
        The present drain cycle; counts, thresholds and ones come in the first of a pass, scales
        in the next cycle.
    counts, scale, thr : ``In``
        Counts, SCALE word and THR word of the pass.
    ones : ``In``
        PV word of the pass.
    bend_addr, bend_data, resid_addr, resid_data, pos_addr, pos_data, vmem_addr, vmem_data
        Read ports of the bend and of the addends, with two cycles of latency; smem_addr and
        smem_data as well on targets with a stem engine.
    resid_we, resid_write_addr, resid_write_data : ``Out``
        Write port, ``STAGES`` cycles after each drain cycle.
    bits : ``Out``, ``BIT_STAGES`` cycles after the last drain cycle
        Of each column, one for each row.
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        width = numbers_layout(arch).size
        super().__init__({
            "drain": In(drain_layout(arch)),
            "counts": In(counts_layout(arch)),
            "scale": In(scale_layout(arch)),
            "thr": In(threshold_layout(arch)),
            "ones": In(data.ArrayLayout(arch.count_bits, arch.cols)),
            "bend_addr": Out(address_bits(arch.bend_depth)),
            "bend_data": In(bend_layout(arch)),
            "resid_addr": Out(address_bits(arch.resid_depth)),
            "resid_data": In(width),
            "pos_addr": Out(address_bits(arch.pos_depth)),
            "pos_data": In(width),
            "vmem_addr": Out(address_bits(arch.vmem_depth)),
            "vmem_data": In(width),
            **smem_ports(arch),
            "resid_we": Out(width),
            "resid_write_addr": Out(address_bits(arch.resid_depth)),
            "resid_write_data": Out(width),
            "bits": Out(arch.rows * arch.cols),
        })

    def elaborate(self, platform):
        m = Module()
        arch, record, group = self.arch, self.drain.record, self.drain.group
        take = Signal()
        m.d.comb += take.eq(self.drain.active & ~self.drain.step)

        scale = Signal(scale_layout(arch), reset_less=True)
        with m.If(delayed(m, self.drain.first, _DOT - 1, name="first")):
            m.d.sync += scale.eq(self.scale)
        biases = [delayed(m, word.bias, 1, name=f"bias_{column}")
                  for column, word in enumerate(scale)]
        starts = [delayed(m, Mux(record.use_pv, ones, record.base)[:arch.acc_bits], 1,
                          name=f"start_{column}") for column, ones in enumerate(self.ones)]
        active = delayed(m, take, 1, name="active", init=0)
        first_plane = delayed(m, record.plane_first, 1, name="first_plane")
        group_after = delayed(m, group, 1, name="group")
        m.d.comb += self.bend_addr.eq(
            delayed(m, record.bend_addr, _BEND - MEM_LATENCY, name="bend_addr"))
        shift = delayed(m, record.shift, _DOT + 1, name="shift")
        bent = delayed(m, record.bend, _LAST, name="bent")
        bend_shift = delayed(m, record.bend_shift, _BEND + 3, name="bend_shift")
        bends = [data.View(self.bend_data[column].shape(), delayed(
            m, self.bend_data[column].as_value(), 1, name=f"bend_{column}"))
            for column in range(arch.cols)]
        saturation = delayed(m, record.sat, _LAST, name="saturation")
        largest = Signal(arch.resid_bits - 1, reset_less=True)
        m.d.sync += [bit.eq(index + 1 < saturation) for index, bit in enumerate(largest)]
        first_addend, second_addend = self._addends(m)

        results = Signal(numbers_layout(arch))
        for index, count in enumerate(self._row_group(m, take)):
            lane = place(m, platform, f"lane_{index}", ArithmeticLane(arch))
            column = index % arch.cols
            m.d.comb += [
                lane.active.eq(active),
                lane.first.eq(first_plane),
                lane.group.eq(group_after),
                lane.count.eq(count),
                lane.count_shift.eq(record.count_shift),
                lane.start.eq(starts[column]),
                lane.scale.eq(scale[column].scale),
                lane.bias.eq(biases[column]),
                lane.shift.eq(shift),
                lane.addend.eq(first_addend[index]),
                lane.knee.eq(self.bend_data[column].knee),
                *(getattr(lane, name).eq(bends[column][name]) for name in
                  ("scale_above", "bias_above", "scale_below", "bias_below")),
                lane.bend_shift.eq(bend_shift),
                lane.bent.eq(bent),
                lane.addend_2.eq(second_addend[index]),
                lane.largest.eq(largest),
                results[index].eq(lane.result),
            ]
        self._write(m, take, results)
        self._compare(m, take, results)
        return m

    def _addends(self, m):
        """Both addends of a row group, at their stages."""
        arch, record = self.arch, self.drain.record
        read = _ADD - 1  # the stage of the words; the first addends are selected from them
        wait = read - MEM_LATENCY - 1  # cycles from a drain cycle to its addresses before a port
        addresses = [delayed(m, (address + self.drain.group)[:16], wait, name=f"address_{number}")
                     for number, address in enumerate((record.add_addr, record.add2_addr))]
        memories = {AddSource.RESID: (self.resid_addr, self.resid_data),
                    AddSource.POS: (self.pos_addr, self.pos_data),
                    AddSource.VMEM: (self.vmem_addr, self.vmem_data)}
        for source, (port, _) in memories.items():
            for_first = delayed(m, (record.add_src == source) & ~self.drain.step, wait,
                                name=f"first_of_{source.name.lower()}")
            m.d.sync += port.eq(Mux(for_first, *addresses))

        def select(source, name):
            """The word that `source` says."""
            word = Signal(numbers_layout(arch).size, name=name)
            with m.Switch(delayed(m, source, read, name=f"{name}_source")):
                for number, (_, value) in memories.items():
                    with m.Case(number):
                        m.d.comb += word.eq(value)
            return word

        first, second = select(record.add_src, "first"), select(record.add2_src, "second")
        # The second of a dual pass comes a cycle late, and from the same memory as the first.
        dual = delayed(m, record.dual, read + 1, name="dual")
        late = Mux(dual, first, delayed(m, second, 1, name="second"))
        layout = numbers_layout(arch)
        first_numbers = data.View(layout, first)
        if arch.stem_macs:
            m.d.sync += self.smem_addr.eq(addresses[0])
            from_stem = delayed(m, record.add_src == AddSource.SMEM, read, name="from_stem")
            first_numbers = [Mux(from_stem, stem, number) for stem, number in
                             zip(self.smem_data, first_numbers, strict=True)]
        return ([delayed(m, number, 1, name=f"addend_{index}")
                 for index, number in enumerate(first_numbers)],
                data.View(layout, delayed(m, late, _LAST - read - 1, name="late")))

    def _row_group(self, m, take):
        """Counts of the present row group: the first straight away, the others from a register."""
        arch, fresh = self.arch, self.drain.first
        taken = arch.post_rows * arch.cols
        counts = list(self.counts)
        counts += [Const(0, arch.count_bits)] * (arch.drain_cycles * taken - len(counts))
        rest = [Signal(arch.count_bits, name=f"rest_{index}", reset_less=True)
                for index in range(len(counts) - taken)]
        following = rest[taken:] + [Const(0, arch.count_bits)] * taken
        with m.If(take):
            for register, count, shifted in zip(rest, counts[taken:], following, strict=False):
                m.d.sync += register.eq(Mux(fresh, count, shifted))
        if not rest:
            return counts
        return [Mux(fresh, count, held)
                for count, held in zip(counts[:taken], rest[:taken], strict=True)]

    def _write(self, m, take, results):
        """Rows to RESID, as late as bits."""
        arch, record, group = self.arch, self.drain.record, self.drain.group
        m.d.comb += [
            self.resid_write_data.eq(
                delayed(m, results.as_value(), STAGES - NUMBER_STAGES, name="numbers")),
            self.resid_write_addr.eq(
                delayed(m, (record.resid_addr + group)[:16], STAGES, name="write_address")),
        ]
        write = Signal(arch.post_rows)
        for index, row_enable in enumerate(write):
            row = group * arch.post_rows + index
            m.d.comb += row_enable.eq(take & record.plane_last
                                      & (row >= record.row_lo) & (row < record.row_hi))
        late = delayed(m, write, STAGES, name="write", init=0)
        m.d.comb += self.resid_we.eq(
            Cat(spread(row_enable, arch.cols * arch.resid_bits) for row_enable in late))

    def _compare(self, m, take, results):
        """Bits of one row group after the other, until those of a tile are together."""
        arch = self.arch
        thr = self._thresholds(m)
        bits = [Cat((results[row * arch.cols + column] >= thr[column].thr) ^ thr[column].flip
                    for row in range(arch.post_rows)) for column in range(arch.cols)]
        collected = Signal(arch.cols * arch.drain_cycles * arch.post_rows, reset_less=True)
        columns = [collected.word_select(column, arch.drain_cycles * arch.post_rows)
                   for column in range(arch.cols)]
        with m.If(delayed(m, take, NUMBER_STAGES, name="take")):
            m.d.sync += collected.eq(Cat(
                Cat(column[arch.post_rows:], fresh)
                for column, fresh in zip(columns, bits, strict=True)))
        m.d.comb += self.bits.eq(Cat(column[:arch.rows] for column in columns))

    def _thresholds(self, m):
        """The thresholds of numbers.

        A pass takes `drain_cycles` or more, so that each register on their way holds for so long.
        """
        arch = self.arch
        word, begins = self.thr.as_value(), self.drain.first & self.drain.active
        stage = 0
        while stage < NUMBER_STAGES:
            held = Signal.like(word, name=f"thr_{stage}", reset_less=True)
            with m.If(begins):
                m.d.sync += held.eq(word)
            following = max(stage + 1, min(stage + arch.drain_cycles, NUMBER_STAGES - 1))
            begins = delayed(m, begins, following - stage, name=f"begins_{stage}")
            word, stage = held, following
        return data.View(threshold_layout(arch), word)
