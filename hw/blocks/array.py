"""The systolic array: a mesh of tiles that counts mismatches."""

from amaranth.hdl import Cat, Module, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from bivit.hw.arch import Arch
from bivit.hw.blocks.element import MeshTile, delayed_control
from bivit.hw.emit import place

__all__ = ["SystolicArray", "latency"]


def latency(arch: Arch) -> int:
    """Cycles from the last word pair of a pass at the inputs to its counts at the output."""
    return _mesh_rows(arch) + _mesh_cols(arch) + arch.pop_stages


def _mesh_rows(arch):
    return arch.rows // arch.tile_rows


def _mesh_cols(arch):
    return arch.cols // arch.tile_cols


class SystolicArray(wiring.Component):
    """Counts of mismatches between every row of A and every column of B.

    Operands enter a tile row later for each row of tiles, and a cycle later for each column of
    tiles, then move right and down by a tile a cycle. Counts are delayed at the edge so that all
    of a pass appear together. A word pair may enter every cycle, and a pass may be one pair.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    a : ``In(rows * lanes)``, b : ``In(cols * lanes)``
        A word pair.
    valid, first, last : ``In(1)``
        That `a` and `b` hold a pair now; that it begins, that it ends a pass.
    counts : ``Out(ArrayLayout(count_bits, rows * cols))``
        Index ``row * cols + column``. Counts of a pass appear :func:`latency` cycles after its
        last pair and stay until those of the next pass appear.
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        super().__init__({
            "a": In(arch.rows * arch.lanes), "b": In(arch.cols * arch.lanes),
            "valid": In(1), "first": In(1), "last": In(1),
            "counts": Out(data.ArrayLayout(unsigned(arch.count_bits), arch.rows * arch.cols)),
        })

    def elaborate(self, platform):
        m = Module()
        tiles = self._mesh(m, platform)
        self._feed(m, tiles)
        self._align(m, tiles)
        return m

    def _mesh(self, m, platform):
        """Tiles by row and column, with the operands that go from one to the next."""
        arch = self.arch
        tiles = [[place(m, platform, f"tile_{row}_{col}", MeshTile(
            rows=arch.tile_rows, cols=arch.tile_cols, lanes=arch.lanes, stages=arch.pop_stages,
            count_bits=arch.count_bits, fabric=arch.fabric)) for col in range(_mesh_cols(arch))]
            for row in range(_mesh_rows(arch))]
        for row, tile_row in enumerate(tiles):
            for col, tile in enumerate(tile_row):
                if col > 0:
                    left = tile_row[col - 1]
                    m.d.comb += [tile.a.eq(left.a_next), tile.control.eq(left.control_next)]
                if row > 0:
                    m.d.comb += tile.b.eq(tiles[row - 1][col].b_next)
        return tiles

    def _feed(self, m, tiles):
        """Operands to the left and upper edge, each row and column a cycle after the one before."""
        arch = self.arch
        control = tiles[0][0].control
        m.d.comb += [control.valid.eq(self.valid), control.first.eq(self.first),
                     control.last.eq(self.last)]
        for row, tile_row in enumerate(tiles):
            tile = tile_row[0]
            if row > 0:
                control = delayed_control(m, control, name=f"row{row}")
                m.d.comb += tile.control.eq(control)
            operand = self.a.word_select(row, arch.tile_rows * arch.lanes)
            m.d.comb += tile.a.eq(_delayed(m, operand, row, name=f"a_row{row}"))
        for col, tile in enumerate(tiles[0]):
            operand = self.b.word_select(col, arch.tile_cols * arch.lanes)
            m.d.comb += tile.b.eq(_delayed(m, operand, col, name=f"b_col{col}"))

    def _align(self, m, tiles):
        """All counts as late as those of the last tile."""
        arch = self.arch
        for row, tile_row in enumerate(tiles):
            for col, tile in enumerate(tile_row):
                late = _mesh_rows(arch) - 1 - row + _mesh_cols(arch) - 1 - col
                counts = _delayed(m, tile.counts.as_value(), late, name=f"counts_{row}_{col}")
                first = row * arch.tile_rows * arch.cols + col * arch.tile_cols
                m.d.comb += Cat(self.counts[first + index_row * arch.cols + index_col]
                                for index_row in range(arch.tile_rows)
                                for index_col in range(arch.tile_cols)).eq(counts)


def _delayed(m, value, cycles, *, name):
    """`value` some cycles later."""
    for cycle in range(cycles):
        later = Signal(len(value), name=f"{name}_{cycle}", reset_less=True)
        m.d.sync += later.eq(value)
        value = later
    return value
