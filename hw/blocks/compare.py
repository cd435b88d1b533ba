"""Compare lanes: counts against thresholds, and the words that their bits go to."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bivit.hw.arch import Arch
from bivit.hw.blocks.lanes import (
    STAGES,
    Mode,
    counts_layout,
    delayed,
    pass_layout,
    piece,
    spread,
    threshold_layout,
)
from bivit.hw.emit import place
from bivit.hw.isa import Destination

__all__ = ["CompareColumn", "CompareLanes"]


class CompareColumn(wiring.Component):
    """The compare lanes of one column of the array, and its count of ones (PV).

    Cycles are numbered from the one in which counts and threshold are valid. The number that is
    read from PV may be old where the instruction that gathers it is not done.

    Members
    -------
    read_addr, use_pv : ``In``, cycle -1
        PV word to add to the threshold, and whether to add it.
    counts, thr, flip : ``In``, cycle 0
    mask : ``In``, cycle 1
        Rows that are kept; bits of the others are zero.
    gather, gather_first, gather_addr : ``In``, cycle 3
        Add the ones of the column to a PV word, or start it with them.
    bits : ``Out``, cycle ``STAGES``
        One bit for each row.
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        super().__init__({
            "read_addr": In(range(arch.pv_depth)),
            "use_pv": In(1),
            "counts": In(data.ArrayLayout(arch.count_bits, arch.rows)),
            "thr": In(signed(arch.count_bits + 1)),
            "flip": In(1),
            "mask": In(arch.rows),
            "gather": In(1),
            "gather_first": In(1),
            "gather_addr": In(range(arch.pv_depth)),
            "bits": Out(arch.rows),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.ones_memory = memory = Memory(
            shape=self.arch.count_bits, depth=self.arch.pv_depth, init=[])
        threshold_port = memory.read_port(domain="comb")
        gather_port = memory.read_port(domain="comb")
        write_port = memory.write_port()

        ones = Signal(self.arch.count_bits, reset_less=True)
        limit = Signal(signed(self.arch.count_bits + 2))
        m.d.comb += threshold_port.addr.eq(self.read_addr)
        m.d.sync += ones.eq(Mux(self.use_pv, threshold_port.data, 0))
        m.d.comb += limit.eq(self.thr + ones)

        raw, kept, last = (Signal(self.arch.rows, name=name, reset_less=True)
                           for name in ("raw", "kept", "last"))
        m.d.sync += [bit.eq((count <= limit) ^ self.flip)
                     for bit, count in zip(raw, self.counts, strict=True)]
        found = Signal(range(self.arch.rows + 1), reset_less=True)
        m.d.sync += [
            kept.eq(raw & self.mask),
            found.eq(_ones(kept)),
            last.eq(kept),
            self.bits.eq(last),
        ]
        m.d.comb += [
            gather_port.addr.eq(self.gather_addr),
            write_port.addr.eq(self.gather_addr),
            write_port.en.eq(self.gather),
            write_port.data.eq(found + Mux(self.gather_first, 0, gather_port.data)),
        ]
        return m


class CompareLanes(wiring.Component):
    """All compare lanes, and the placement of their bits in words of HMEM and BMEM.

    Members
    -------
    ahead_valid, ahead : ``In``
        Record of a pass, one cycle before its counts.
    thr, counts : ``In``
        Thresholds and counts of the pass.
    hmem_we, hmem_addr, hmem_data, bmem_we, bmem_addr, bmem_data : ``Out``
        Write ports, ``STAGES`` cycles after the counts.
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        super().__init__({
            "ahead_valid": In(1),
            "ahead": In(pass_layout(arch)),
            "counts": In(counts_layout(arch)),
            "thr": In(threshold_layout(arch)),
            "hmem_we": Out(arch.rows * arch.lanes),
            "hmem_addr": Out(range(arch.hmem_depth)),
            "hmem_data": Out(arch.rows * arch.lanes),
            "bmem_we": Out(arch.cols * arch.lanes),
            "bmem_addr": Out(range(arch.bmem_depth)),
            "bmem_data": Out(arch.cols * arch.lanes),
        })

    def elaborate(self, platform):
        m = Module()
        record = Signal(pass_layout(self.arch), reset_less=True)
        active = Signal()
        m.d.sync += [
            record.eq(self.ahead),
            active.eq(self.ahead_valid & (self.ahead.mode == Mode.BITS)),
        ]
        transposed = record.dst == Destination.V
        mask = Signal(self.arch.rows, reset_less=True)
        m.d.sync += [keep.eq(~transposed | (row < record.rows)) for row, keep in enumerate(mask)]

        gather = delayed(m, active & transposed, 3, name="gather", init=0)
        gather_first = delayed(m, record.pv_first, 3, name="gather_first")
        gather_addr = delayed(m, record.pv_addr, 3, name="gather_addr")
        columns = []
        for column in range(self.arch.cols):
            lane = place(m, platform, f"column_{column}", CompareColumn(self.arch))
            m.d.comb += [
                lane.read_addr.eq(self.ahead.pv_addr),
                lane.use_pv.eq(self.ahead.use_pv),
                lane.thr.eq(self.thr[column].thr),
                lane.flip.eq(self.thr[column].flip),
                lane.mask.eq(mask),
                lane.gather.eq(gather),
                lane.gather_first.eq(gather_first),
                lane.gather_addr.eq(gather_addr),
            ]
            m.d.comb += [lane.counts[row].eq(self.counts[row * self.arch.cols + column])
                         for row in range(self.arch.rows)]
            columns.append(lane.bits)

        address = delayed(m, record.dst_addr, STAGES, name="address")
        clear = delayed(m, record.dst_pos == 0, STAGES, name="clear")
        m.d.comb += [self.hmem_addr.eq(address), self.bmem_addr.eq(address)]
        chunk = self._select(m, record.dst_pos, self.arch.chunks_per_word, "chunk")
        block = self._select(m, record.dst_pos, self.arch.blocks_per_key_word, "block")
        group = self._select(m, record.dst_col, self.arch.blocks_per_key_group, "group")
        to_hmem, to_keys, to_values = (
            delayed(m, active & (record.dst == destination), STAGES, name=f"to_{name}", init=0)
            for name, destination in
            (("hmem", Destination.HMEM), ("keys", Destination.K), ("values", Destination.V)))

        rows = [Cat(column[row] for column in columns) for row in range(self.arch.rows)]
        words = [piece(bits, chunk, clear, width=self.arch.lanes) for bits in rows]
        m.d.comb += [
            self.hmem_data.eq(Cat(bits for bits, _ in words)),
            self.hmem_we.eq(Cat(enable & spread(to_hmem, self.arch.lanes)
                                for _, enable in words)),
        ]
        bits_of_column, enable_of_column = [], []
        for column in range(self.arch.cols):
            key_block, row = divmod(column, self.arch.rows)
            values, values_enable = piece(columns[column], block, clear, width=self.arch.lanes)
            if key_block < self.arch.blocks_per_key_group:
                keys, keys_enable = words[row]
                keys_enable &= spread(to_keys & group[key_block], self.arch.lanes)
            else:
                keys, keys_enable = 0, 0
            bits_of_column.append(Mux(to_values, values, keys)[:self.arch.lanes])
            enable_of_column.append(
                (values_enable & spread(to_values, self.arch.lanes)) | keys_enable)
        m.d.comb += [
            self.bmem_data.eq(Cat(bits_of_column)),
            self.bmem_we.eq(Cat(enable_of_column)),
        ]
        return m

    def _select(self, m, position, count, name):
        """One-hot of `position`, at the stage of the write."""
        early = delayed(m, position, STAGES - 1, name=f"{name}_position")
        select = Signal(count, name=f"{name}_select", reset_less=True)
        m.d.sync += [bit.eq(early == index) for index, bit in enumerate(select)]
        return select


def _ones(bits):
    """Number of ones, as a balanced tree of adders."""
    terms = list(bits)
    while len(terms) > 1:
        terms = [left + right for left, right in zip(terms[::2], terms[1::2], strict=False)] + (
            terms[-1:] if len(terms) % 2 else [])
    return terms[0]
