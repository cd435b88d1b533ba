"""The arithmetic lanes behind a product: what is added, how it is bent, where it goes."""

import dataclasses

import numpy as np

from bivit.compiler.destinations import Destinations
from bivit.compiler.fold import fold_numbers
from bivit.compiler.ir import numeric
from bivit.compiler.ir.operation import images_of
from bivit.compiler.layout import Run, runs
from bivit.compiler.structures import CompileError, Observe, Operation, Rows, Stored
from bivit.hw.isa import AddSource, NumberSource, Opcode

__all__ = ["Post", "number_words"]

_ADD_SOURCES = {NumberSource.RESID: AddSource.RESID, NumberSource.VMEM: AddSource.VMEM,
                AddSource.POS: AddSource.POS, AddSource.SMEM: AddSource.SMEM}


def number_words(arch, chunks) -> int:
    """RESID or VMEM words of a block."""
    return len(chunks) * arch.drain_cycles


def _of_one_image(rows: Rows, images: int, height: int) -> Rows | None:
    """Where the tokens of an image lie in blocks of `height` rows, None if not all lie alike."""
    if rows.segments % images and rows.segments > 1:
        return None
    tokens, segments = rows.tokens // images, max(rows.segments // images, 1)
    one = Rows(tokens, rows.offset, segments)
    blocks = segments * one.segment_blocks(height)
    alike = (rows.segments * rows.segment_blocks(height) == images * blocks
             and all(rows.place(image * tokens, height) == (image * blocks, rows.offset)
                     for image in range(images)))
    return one if alike else None


class Post:
    """Emits the MM_ACC of one operation, whatever the product is.

    Parameters
    ----------
    tiler : Tiler
    operation : Operation
    rows : Rows
    stem : Stored, optional
        The rescaled product, where the stem engine makes it: it is then the first addend.

    Attributes
    ----------
    tiles : tuple of (first channel, count)
        Tiles of the numbers.
    params : Address
        SCALE word of the first tile.
    breaks : collection of int
        Where the bits want a run of tiles to start.
    """

    def __init__(self, tiler, operation: Operation, rows: Rows, stem: Stored | None = None):
        self.tiler, self.operation, self.rows = tiler, operation, rows
        nodes, inputs = operation.nodes, operation.inputs
        self.compares = operation.name == nodes.get("sign")
        numbers = inputs["addend"] if self.compares else operation.name
        self.tiles = tiler.layouts.chunks[numbers]
        self.zero = tiler.segment(f"zero/scale/{len(self.tiles)}", "scale",
                                  (0,) * len(self.tiles), operation.name)
        self.params, shift = self.zero, 0
        if "rescale" in nodes and stem is None:
            node = tiler.nodes[nodes["rescale"]]
            shift = numeric.RESCALE_SHIFTS.index(node.attributes["shift"])
            self.params = tiler.segment(
                f"{node.name}/scale", "scale",
                tiler.words.scale(node.tensors["scale"], node.tensors["bias"], self.tiles),
                node.name)
        ends = [nodes[role] for role in ("rescale", "bend", "table") if role in nodes]
        bits = tiler.nodes[ends[-1]].attributes["bits"] if ends else tiler.arch.resid_bits
        self._fixed = {"shift": shift, "sat": bits}
        self._first, self._second = self._addends(stem)
        self._filled = all(numbers.filled for numbers in (self._first, self._second) if numbers)
        self._bend = self._make_bend()
        self.result = self._place(numbers)
        self._destinations, self._thresholds = self._make_sign(numbers)
        self.breaks = self._destinations.breaks if self._destinations else ()

    def _addends(self, stem):
        """Numbers added before and behind the bend, or None."""
        tiler, nodes, inputs = self.tiler, self.operation.nodes, self.operation.inputs
        found = [tiler.stored.get(inputs.get(role)) for role in ("addend", "addend2")]
        if stem is not None and any(found):
            raise CompileError(f"layer {self.operation.name}: the stem engine adds no numbers to "
                               "its own; compile for a target without stem_macs")
        # No bend is between a rescaled number and the table of its own node.
        tables = (("rescale", 0 if stem is None else 1), ("table", 1))
        for role, place in tables:
            node = tiler.nodes.get(nodes.get(role))
            if node is not None and "table" in node.tensors:
                found[place] = self._table(node)
        for role, numbers in zip(("addend", "addend2"), found, strict=True):
            if numbers is not None and numbers.rows != self.rows:
                raise CompileError(
                    f"layer {self.operation.name}: its addend {inputs[role]} lies in other rows of "
                    "a block than the product; select the same token for both")
        return found if stem is None else [stem, found[1]]

    def _table(self, node):
        """A table in POS: once, if the blocks of all images are alike."""
        tiler, images, table = self.tiler, images_of(node.attributes), node.tensors["table"]
        rows = _of_one_image(self.rows, images, tiler.arch.rows)
        blocks = rows.segments * rows.segment_blocks(tiler.arch.rows) if rows else 0
        words = (tiler.words.pos(table, rows, self.tiles) if rows else
                 tiler.words.pos(np.tile(table, (images, 1)), self.rows, self.tiles))
        base = tiler.segment(f"{node.name}/table", "pos", words, node.name)
        return Stored(base, self.rows, number_words(tiler.arch, self.tiles), AddSource.POS,
                      blocks=blocks)

    def _make_bend(self):
        tiler, name = self.tiler, self.operation.nodes.get("bend")
        if name is None:
            return None
        node = tiler.nodes[name]
        self._fixed |= {"bend": 1, "bend_shift": numeric.RESCALE_SHIFTS.index(
            node.attributes["shift"])}
        return tiler.segment(f"{name}/bend", "bend", tiler.words.bend(node.tensors, self.tiles),
                             name)

    def _place(self, numbers):
        """Where the numbers go: in the place of an addend that is not needed any more, a block
        that is written over and over if only the bits are needed, or a region of their own."""
        tiler, operation = self.tiler, self.operation
        words = number_words(tiler.arch, self.tiles)
        unread = self.compares or not tiler.readers.get(numbers) and "sign" in operation.nodes
        if unread:
            name = f"{operation.name}/numbers/{tiler.index}"
            return Stored(tiler.region(name, "resid", words, operation.name), self.rows, 0,
                          NumberSource.RESID, chunks=self.tiles, filled=self._filled)
        base = None
        for role, stored in (("addend", self._first), ("addend2", self._second)):
            name = operation.inputs.get(role)
            if (name is not None and stored.source is NumberSource.RESID and not stored.period
                    and tiler.last_use.get(name) == tiler.index and stored.block_words == words):
                base = stored.base
        if base is None:
            blocks = self.rows.segments * self.rows.segment_blocks(tiler.arch.rows)
            base = tiler.region(numbers, "resid", blocks * words, numbers)
        result = Stored(base, self.rows, words, NumberSource.RESID, chunks=self.tiles,
                        filled=self._filled)
        tiler.stored[numbers] = result
        return result

    def _make_sign(self, numbers):
        tiler, operation = self.tiler, self.operation
        if "sign" not in operation.nodes:
            return None, None
        name, (form,) = operation.nodes["sign"], operation.forms
        node = tiler.nodes[name]
        threshold, flip = fold_numbers(node.tensors["threshold"], node.tensors["descending"],
                                       tiler.arch.resid_bits)
        never = 1 << (tiler.arch.resid_bits - 1)
        thresholds = tiler.segment(f"{name}/thr/{form.kind}/{tiler.index}", "thr",
                                   tiler.words.thr(threshold, flip, self.tiles, never), name)
        return Destinations(tiler, name, form, tiler.index, self.rows, numbers), thresholds

    def runs(self, limit: int, breaks=()) -> tuple[Run, ...]:
        """Runs of tiles of at most `limit`; `breaks` are numbers of tiles."""
        if self._destinations is None:
            return runs(self.tiler.arch, self.tiles, limit, breaks)
        chunks = self.operation.forms[0].chunks
        places = [place for place, (_, count) in enumerate(chunks) if count]
        return runs(self.tiler.arch, chunks, limit,
                    {*self.breaks, *(places[tile] for tile in breaks)})

    def emit(self, block, low, high, token, run: Run, layer: int, product: dict, *,
             params=None, keep_before=False, keep_behind=False, with_first=True) -> None:
        """One MM_ACC.

        Parameters
        ----------
        low, high : int
            Rows that hold tokens, the first of them `token`. The rows behind them are written, too,
            so that all blocks are alike, unless an addend has none there.
        product : dict
            Fields of the product, operands and `base` included.
        params : Address, optional
            SCALE word of the first tile of the run, in the place of the operation's.
        keep_before : bool
            Leave the rows before `low` as they are. Else they are written, too, so that no reader
            finds an unwritten word.
        keep_behind : bool
            Leave the rows from `high` on as they are.
        with_first : bool
            Whether the first addend is added.
        """
        tiler, words = self.tiler, run.tile * self.tiler.arch.drain_cycles
        fields = {"dst_addr": self.result.at(block, words),
                  "row_hi": tiler.arch.rows if self._filled and not keep_behind else high,
                  "row_lo": low if keep_before else 0, "n_tiles": len(run.tiles),
                  "param_addr": params or self.params.plus(run.tile)}
        if self._first is not None and with_first:
            period = self._first.period
            fields |= {"add_src": _ADD_SOURCES[self._first.source],
                       "add_addr": self._first.at(block, 0 if period else words)}
            if period:
                fields |= {"add_tiles": period, "add_phase": run.tile % period}
        if self._second is not None:
            fields |= {"add2_src": _ADD_SOURCES[self._second.source],
                       "add2_addr": self._second.at(block, words)}
        if self._bend is not None:
            fields["bend_addr"] = self._bend.plus(run.tile)
        observe = Observe(self.operation.name, None, (token, token + high - low), run.channels, low)
        observe_bits = None
        if self._destinations is not None:
            fields |= self._destinations.fields(run.chunk, block)
            fields |= {"to_bits": 1, "thr_addr": self._thresholds.plus(run.tile)}
            observe_bits = dataclasses.replace(observe, name=self.operation.nodes["sign"])
        tiler.emit(Opcode.MM_ACC, layer, None if self.compares else observe, observe_bits,
                   **self._fixed, **fields, **product)

    def finish(self, block, layer) -> None:
        """What follows the last tile of a block."""
        if self._destinations is not None:
            self._destinations.finish(block, layer)
