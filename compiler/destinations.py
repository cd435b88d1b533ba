"""Where bits of the array go: rows of HMEM, keys and values of BMEM."""

from bivit.compiler.fold import never
from bivit.compiler.layout import bit_positions, head_of
from bivit.compiler.structures import CompileError, Form, Rows, Stored
from bivit.hw.isa import ASource, BSource, Destination, Opcode

__all__ = ["Destinations", "KeyLayout", "ValueLayout"]


class KeyLayout:
    """Keys by head, window and group; every head has `k_words` words a group.

    Attributes
    ----------
    groups : int
        Groups of one window.
    words : int
        Of all keys.
    """

    def __init__(self, arch, form: Form, rows: Rows):
        self.arch, self.windows = arch, form.windows
        blocks = rows.segments * rows.segment_blocks(arch.rows)
        self.window_blocks = blocks // form.windows
        self.groups = -(-self.window_blocks // arch.blocks_per_key_group)
        chunk_words = -(-len(form.chunks) // arch.chunks_per_word)
        self.k_words = -(-chunk_words // form.heads)
        self.words = form.heads * form.windows * self.groups * self.k_words

    def word(self, head: int, window: int, group: int = 0) -> int:
        """First word of a group."""
        return ((head * self.windows + window) * self.groups + group) * self.k_words

    def place(self, block: int) -> tuple[int, int, int]:
        """Window, group and column of a block of tokens."""
        window, inside = divmod(block, self.window_blocks)
        return window, *divmod(inside, self.arch.blocks_per_key_group)


class ValueLayout:
    """Values by window and tile; a head with a zero point has words of constants behind its own.

    Attributes
    ----------
    window_words : int
        Words along the tokens of a window, constants not counted.
    tiles : int
        Tiles of all heads.
    words : int
        Of all values.
    """

    def __init__(self, arch, form: Form, rows: Rows):
        self.arch, self.form = arch, form
        blocks = rows.segments * rows.segment_blocks(arch.rows)
        self.window_blocks = blocks // form.windows
        self.window_words = -(-self.window_blocks // arch.blocks_per_key_word)
        zeros = form.zeros or (0,) * form.heads
        heads = head_of(form)
        self.tiles = len(heads)
        self.heads = [tuple(tile for tile in range(self.tiles) if heads[tile] == head)
                      for head in range(form.heads)]
        self._first, total = [], 0
        for head in heads:
            self._first.append(total)
            total += self.window_words * (1 + abs(zeros[head]))
        self._window = total
        self.words = total * form.windows
        self.stride = [self.window_words * (1 + abs(zero)) for zero in zeros]
        self.zeros, self.head_of_tile = zeros, heads

    def word(self, tile: int, window: int) -> int:
        """First word of a tile."""
        return window * self._window + self._first[tile]

    def ones(self, tile: int, window: int) -> int:
        """Word of PV of a tile."""
        return window * self.tiles + tile

    def place(self, block: int) -> tuple[int, int, int]:
        """Window, word along the tokens and position in it of a block."""
        window, inside = divmod(block, self.window_blocks)
        return window, *divmod(inside, self.arch.blocks_per_key_word)


class Destinations:
    """Where the bits of one form of a value go, block by block.

    Attributes
    ----------
    breaks : collection of int
        Chunk positions where a run of tiles must start.
    """

    def __init__(self, tiler, value: str, form: Form, index: int, rows: Rows, layer: str):
        arch, name = tiler.arch, f"{value}/{form.kind}/{index}"
        self.tiler, self.form, self.breaks = tiler, form, ()
        if form.kind != "rows" and rows.offset:
            raise CompileError(f"layer {layer}: keys and values must start at row 0 of a block; "
                               f"select a token that is a multiple of {arch.rows}")
        if form.kind == "rows":
            self.words = -(-len(form.chunks) // arch.chunks_per_word)
            blocks = rows.segments * rows.segment_blocks(arch.rows)
            self.base = tiler.region(name, "hmem", blocks * self.words, layer)
            stored = Stored(self.base, rows, self.words, ASource.HMEM, self.words,
                            bit_positions(arch, form.chunks), form.chunks)
        elif form.kind == "keys":
            self.layout = KeyLayout(arch, form, rows)
            self.base = tiler.region(name, "bmem", self.layout.words, layer)
            stored = Stored(self.base, rows, 0, BSource.BMEM, self.layout.k_words)
            if self.layout.windows * self.layout.groups > 1:
                self.breaks = range(0, len(form.chunks),
                                    self.layout.k_words * arch.chunks_per_word)
        else:
            self.layout = ValueLayout(arch, form, rows)
            self.base = tiler.region(name, "bmem", self.layout.words, layer)
            stored = Stored(self.base, rows, 0, BSource.BMEM)
            self.ones = tiler.region(f"{name}/ones", "pv", self.layout.tiles * form.windows, layer)
            tiler.stored[value, form, "ones"] = self.ones
            if form.zeros:
                self.breaks = {tiles[0] for tiles in self.layout.heads}
        tiler.stored[value, form] = stored

    def fields(self, chunk: int, block: int) -> dict:
        """Destination fields of a run of tiles from `chunk` on; the word is ``bits_addr``."""
        word, place = divmod(chunk, self.tiler.arch.chunks_per_word)
        if self.form.kind == "rows":
            return {"dst": Destination.HMEM, "bits_addr": self.base.plus(block * self.words + word),
                    "dst_pos": place}
        if self.form.kind == "keys":
            head, word = divmod(word, self.layout.k_words)
            window, group, column = self.layout.place(block)
            return {"dst": Destination.K, "dst_pos": place, "dst_col": column,
                    "bits_addr": self.base.plus(self.layout.word(head, window, group) + word)}
        window, word, place = self.layout.place(block)
        return {"dst": Destination.V, "dst_pos": place,
                "bits_addr": self.base.plus(self.layout.word(chunk, window) + word),
                "dst_stride": self.layout.stride[self.layout.head_of_tile[chunk]],
                "pv_first": int(word == place == 0),
                "pv_addr": self.ones.plus(self.layout.ones(chunk, window))}

    def finish(self, block: int, layer: int) -> None:
        """Constant values behind a block of values: minus the zero point of each head.

        The attention bits meet them once more, so that they weigh ``sign - zero``.
        """
        if not self.form.zeros:
            return
        tiler, layout = self.tiler, self.layout
        window, word, place = layout.place(block)
        for zero, tiles, stride in zip(layout.zeros, layout.heads, layout.stride, strict=True):
            if not zero:
                continue
            limit = (1 << tiler.arch.count_bits) - 1 if zero < 0 else never(tiler.arch.count_bits)
            params = tiler.segment(
                f"constant/{'ones' if zero < 0 else 'zeros'}/{len(tiles)}", "thr",
                tiler.words.thr_constant(limit, len(tiles)), tiler.last_layer)
            tiler.emit(
                Opcode.MM_BITS, layer, **tiler.zero_product(len(tiles), bits=True),
                n_tiles=len(tiles), param_addr=params, dst=Destination.V, rows=tiler.arch.rows,
                dst_pos=place,
                dst_addr=self.base.plus(layout.word(tiles[0], window) + layout.window_words + word),
                dst_stride=stride, pv_addr=self.ones.plus(layout.ones(tiles[0], window)))
