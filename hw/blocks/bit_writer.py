"""Bits of the compare and arithmetic lanes: their ones, and the words that they go to."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bivit.hw.arch import Arch
from bivit.hw.blocks.lanes import BIT_STAGES, STAGES, delayed, pass_layout, piece, spread
from bivit.hw.emit import place
from bivit.hw.isa import Destination
from bivit.hw.memories import address_bits

__all__ = ["BitColumn", "BitWriter"]


class BitColumn(wiring.Component):
    """One column of bits: the rows that are kept, and its counts of ones (PV).

    Cycles are numbered from the one in which the bits are valid. A word that is read may be old
    where the instruction that gathers it is not done.

    Members
    -------
    read_addr, read, use_pv : ``In``
        Read a word of PV, or zero without `use_pv`.
    ones : ``Out``
        What was read last, from the next cycle on.
    bits, mask : ``In``, cycle 0
        One bit for each row; those without `mask` become zero.
    kept : ``Out``, cycle 2
        The bits that are left.
    gather_addr : ``In``, cycle 0
    gather_first, gather_again : ``In``, cycle 1
        The PV word starts with them; it is the one of the cycle before, which is being written.
    gather : ``In``, cycle 2
        Add their number to that PV word.
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        super().__init__({
            "read_addr": In(address_bits(arch.pv_depth)),
            "read": In(1),
            "use_pv": In(1),
            "ones": Out(arch.count_bits),
            "bits": In(arch.rows),
            "mask": In(arch.rows),
            "kept": Out(arch.rows),
            "gather_addr": In(address_bits(arch.pv_depth)),
            "gather_first": In(1),
            "gather_again": In(1),
            "gather": In(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.ones_memory = memory = Memory(
            shape=self.arch.count_bits, depth=self.arch.pv_depth, init=[])
        read_port, gather_port = memory.read_port(domain="comb"), memory.read_port(domain="comb")
        write_port = memory.write_port()
        ones = Signal(self.arch.count_bits, reset_less=True)
        with m.If(self.read):
            m.d.sync += ones.eq(Mux(self.use_pv, read_port.data, 0))
        kept, last = (Signal(self.arch.rows, name=name, reset_less=True)
                      for name in ("masked", "last"))
        found = Signal(range(self.arch.rows + 1), reset_less=True)
        m.d.sync += [kept.eq(self.bits & self.mask), found.eq(_ones(kept)), last.eq(kept)]
        # The addresses are registers of each column, since many bits of memory take them.
        before, total = (Signal(self.arch.count_bits, name=name, reset_less=True)
                         for name in ("before", "total"))
        read_from = delayed(m, self.gather_addr, 1, name="read_from")
        m.d.comb += total.eq(before + found)
        m.d.sync += before.eq(Mux(self.gather_first, 0,
                                  Mux(self.gather_again, total, gather_port.data)))
        m.d.comb += [
            read_port.addr.eq(self.read_addr),
            self.ones.eq(ones),
            self.kept.eq(last),
            gather_port.addr.eq(read_from),
            write_port.addr.eq(delayed(m, read_from, 1, name="write_to")),
            write_port.en.eq(self.gather),
            write_port.data.eq(total),
        ]
        return m


class BitWriter(wiring.Component):
    """Counts the ones of values, and places bits in words of HMEM and BMEM.

    Members
    -------
    ahead_valid, ahead : ``In``
        Record of a pass, one cycle before its counts.
    ones : ``Out``
        Of each column: the PV word of the pass, or zero, from its counts on.
    last_drain, record : ``In``
        In the last drain cycle of each pass: that, and its record.
    bits : ``In``, ``BIT_STAGES`` cycles later
        Of each column, one for each row.
    hmem_we, hmem_addr, hmem_data, bmem_we, bmem_addr, bmem_data : ``Out``
        Write ports, ``STAGES`` cycles after the last drain cycle.
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        super().__init__({
            "ahead_valid": In(1),
            "ahead": In(pass_layout(arch)),
            "ones": Out(data.ArrayLayout(arch.count_bits, arch.cols)),
            "last_drain": In(1),
            "record": In(pass_layout(arch)),
            "bits": In(arch.rows * arch.cols),
            "hmem_we": Out(arch.rows * arch.lanes),
            "hmem_addr": Out(address_bits(arch.hmem_depth)),
            "hmem_data": Out(arch.rows * arch.lanes),
            "bmem_we": Out(arch.cols * arch.lanes),
            "bmem_addr": Out(address_bits(arch.bmem_depth)),
            "bmem_data": Out(arch.cols * arch.lanes),
        })

    def elaborate(self, platform):
        m = Module()
        record = self.record
        active = Signal()
        m.d.comb += active.eq(self.last_drain & record.to_bits & record.plane_last)
        columns = self._columns(m, platform, active)

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

    def _columns(self, m, platform, active):
        """Bits of each column at the stage of the write."""
        record = self.record
        transposed = record.dst == Destination.V
        valid_rows = delayed(m, Mux(transposed, record.rows, self.arch.rows), BIT_STAGES - 1,
                             name="valid_rows")
        mask = Signal(self.arch.rows, reset_less=True)
        m.d.sync += [keep.eq(row < valid_rows) for row, keep in enumerate(mask)]
        gather_next = delayed(m, active & transposed, STAGES - 1, name="gather", init=0)
        gather = delayed(m, gather_next, 1, name="gather_now", init=0)
        gather_first = delayed(m, record.pv_first, STAGES - 1, name="gather_first")
        gather_addr = delayed(m, record.pv_addr, STAGES - 2, name="gather_addr")
        addr_next = delayed(m, gather_addr, 1, name="gather_addr_next")
        gather_again = Signal(reset_less=True)
        m.d.sync += gather_again.eq(gather_next & (gather_addr == addr_next))
        columns = []
        for column in range(self.arch.cols):
            lane = place(m, platform, f"column_{column}", BitColumn(self.arch))
            m.d.comb += [
                lane.read_addr.eq(self.ahead.pv_addr),
                lane.read.eq(self.ahead_valid),
                lane.use_pv.eq(self.ahead.use_pv),
                self.ones[column].eq(lane.ones),
                lane.bits.eq(self.bits.word_select(column, self.arch.rows)),
                lane.mask.eq(mask),
                lane.gather_addr.eq(gather_addr),
                lane.gather_first.eq(gather_first),
                lane.gather_again.eq(gather_again),
                lane.gather.eq(gather),
            ]
            columns.append(lane.kept)
        return columns

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
