"""Instructions of sums of rows: ROWS_ADD from numbers into sums, ROWS_OUT from sums to rows.

The rows of the result are made strip by strip, as many at once as the sums have room for.
"""

import dataclasses

import numpy as np

from bivit.compiler.fold import fold_numbers, fold_sums
from bivit.compiler.ir import numeric
from bivit.compiler.ir.numeric import CODE_BITS
from bivit.compiler.layout import bit_positions, pieces_of
from bivit.compiler.nests import find_nests, starts_cleanly
from bivit.compiler.post import number_words
from bivit.compiler.row_parts import Part, Pass, Result, fold_steps
from bivit.compiler.structures import Observe, Operation, Rows, Stored, TooSmall
from bivit.compiler.tile_moves import row_numbers, segment_fields
from bivit.compiler.tile_strips import emit_strips
from bivit.hw.blocks.rows import rows_add_timing
from bivit.hw.isa import ASource, NumberSource, Opcode, RowKind, RowOperation

__all__ = ["rows"]

_ROWS = 255
"""Most rows of a strip, by the field of a sum row."""
_UNIT = 1 << numeric.RESCALE_SHIFTS[0]
"""Scale of numbers that stay as they are."""


def rows(tiler, operation: Operation) -> None:
    """weighted_sum, max_pool, gelu, codes, fold_channels, gather of numbers, sign of numbers."""
    _Rows(tiler, operation).emit()


class _Rows:
    """One operation on rows."""

    def __init__(self, tiler, operation):
        self.tiler, self.operation, self.arch = tiler, operation, tiler.arch
        self.node = tiler.nodes[operation.name]
        self.layer = tiler.layer_of(operation.name)
        inputs = [operation.inputs[f"source{i}"] for i in range(len(operation.inputs))]
        self.sources = [tiler.stored[name] for name in inputs]
        self.tokens, self.width = tiler.types[operation.name].shape
        self.chunks = tiler.layouts.chunks[operation.name]
        self.tiles = len(self.chunks)
        self.rows = Rows(self.tokens, 0, tiler.layouts.segments[operation.name])
        self.same = np.arange(self.tokens)[:, None]
        self.move = RowOperation.ADD
        self.parts, self.gelu, self.results = [], 0, []
        _MAKERS[self.node.op](self)
        self.passes = self._passes()
        tiles = max(one.tiles for one in self.passes)
        if tiles > self.arch.sums_depth:
            raise TooSmall(
                f"layer {operation.name}: a row has {tiles} tiles and target "
                f"{self.arch.name} has room for {self.arch.sums_depth} sums; raise sums_depth to "
                f"{tiles}", {"sums_depth": tiles})

    def _passes(self):
        """All at once; parts that lie behind each other one by one."""
        if self.node.op != "gather":
            return [Pass(self.tiles, tuple(self.parts), tuple(self.results))]
        tiles, (result,) = self.tiles // len(self.parts), self.results
        return [Pass(tiles, (part,), (dataclasses.replace(result, tile=number * tiles),))
                for number, part in enumerate(self.parts)]

    # ---- constants and results ------------------------------------------------------------------

    def scales(self, name, scale, chunks):
        """NORM words of scales by channel."""
        return self.tiler.segment(f"{self.operation.name}/{name}", "norm", self.tiler.words.scale(
            scale, np.zeros_like(scale), chunks), self.operation.name)

    def units(self, chunks):
        """NORM words of scales that leave numbers as they are."""
        words = self.tiler.words.unit(_UNIT, chunks)
        return self.tiler.segment(f"{self.operation.name}/unit", "norm", words,
                                  self.operation.name)

    def numbers(self, bias=None, shift=numeric.RESCALE_SHIFTS[0], bits=None):
        """Numbers to VMEM."""
        bias = np.zeros(self.width, np.int64) if bias is None else bias
        words = number_words(self.arch, self.chunks)
        stored = Stored(self._region("vmem", words), self.rows, words, NumberSource.VMEM,
                        chunks=self.chunks, filled=self._fills())
        self._result(stored, bias, {"kind": RowKind.NUMBERS, "sat": bits or self.arch.resid_bits,
                                    "shift": numeric.RESCALE_SHIFTS.index(shift)})

    def codes(self, bias, shift):
        """Codes to XMEM."""
        k_words = -(-self.tiles // self.arch.chunks_per_word)
        stored = Stored(self._region("xmem", CODE_BITS * k_words), self.rows,
                        CODE_BITS * k_words, ASource.XMEM, k_words,
                        bit_positions(self.arch, self.chunks), self.chunks)
        self._result(stored, bias, {"kind": RowKind.CODES, "k_words": k_words, "sat": 1,
                                    "shift": numeric.RESCALE_SHIFTS.index(shift)})

    def _fills(self):
        """Whether every row of every block holds a token."""
        return self.rows.length % self.arch.rows == 0

    def _region(self, memory, block_words, name=None):
        blocks = self.rows.segments * self.rows.segment_blocks(self.arch.rows)
        name = name or self.operation.name
        return self.tiler.region(name, memory, blocks * block_words, name)

    def _result(self, stored, bias, fields):
        name = self.operation.name
        bias = np.asarray(bias, np.int64)
        params = self.tiler.segment(f"{name}/bias", "norm", self.tiler.words.scale(
            np.zeros_like(bias), bias, self.chunks), name)
        self.results.append(Result(name, stored, params, fields))
        self.tiler.stored[name] = stored

    def signs_of_sum(self):
        """Bits of the sums themselves, beside their numbers."""
        for role, name in self.operation.nodes.items():
            if role.startswith("sign"):
                tensors = self.tiler.nodes[name].tensors
                self._signs(name, *fold_sums(
                    tensors["threshold"], tensors["descending"], self.node.tensors["bias"],
                    self.node.attributes["bits"]), self.node.attributes["shift"])

    def signs(self):
        """Bits of numbers, ``256 x - 256 threshold >= 0``, to XMEM."""
        tensors, bits = self.node.tensors, self.arch.resid_bits
        threshold, flip = fold_numbers(tensors["threshold"], tensors["descending"], bits)
        # A limit that always holds needs no number; that of the least number is such a one.
        always = threshold == -(1 << (bits - 1))
        flip = np.where(always, 1 - flip, flip)
        threshold = np.where(always, 1 << (bits - 1), threshold)
        self._signs(self.operation.name, -threshold * _UNIT, flip, numeric.RESCALE_SHIFTS[0])

    def _signs(self, name, bias, flip, shift):
        k_words = -(-self.tiles // self.arch.chunks_per_word)
        stored = Stored(self._region("xmem", k_words, name), self.rows, k_words, ASource.XMEM,
                        k_words, bit_positions(self.arch, self.chunks), self.chunks)
        params = self.tiler.segment(f"{name}/sign", "norm",
                                    self.tiler.words.sign(bias, flip, self.chunks), name)
        self.results.append(Result(name, stored, params, {
            "kind": RowKind.BITS, "sat": 1, "shift": numeric.RESCALE_SHIFTS.index(shift)}))
        self.tiler.stored[name] = stored

    # ---- instructions ---------------------------------------------------------------------------

    def emit(self):
        """All strips."""
        self.row_numbers = {id(part.source): row_numbers(part.source.rows, self.arch.rows)
                            for part in self.parts}
        strips = self.tiler.strips.get(self.tokens)
        if strips and emit_strips(self, strips):
            return
        size = self._strip_size()
        for begin in range(0, self.tokens, size):
            self.tiler.iteration, end = begin // size, min(begin + size, self.tokens)
            for one in self.passes:
                self._strip(begin, end, one)
                for result in one.results:
                    self.write(result, begin, end, one.tiles)

    def _strip_size(self):
        """Rows of a strip: strips are alike if they are equally long and lie alike in blocks."""
        arch, tiles = self.arch, max(one.tiles for one in self.passes)
        most = min(max(1, arch.sums_depth // tiles) * arch.post_rows, _ROWS)
        most -= most % (arch.rows if most >= arch.rows else arch.post_rows)
        even = [size for size in range(1, most + 1) if not self.tokens % size
                and (not arch.rows % size or not size % arch.rows)]
        return even[-1] if 2 * even[-1] >= min(most, self.tokens) else most

    def write(self, result, begin, end, tiles, count=None):
        """Rows of a result from the sums; `count` of them if those behind the last hold no token.
        """
        block, row = self.rows.place(begin, self.arch.rows)
        chunks = self.chunks[result.tile:result.tile + tiles]
        first = min(first for first, _ in chunks)
        self.tiler.emit(
            Opcode.ROWS_OUT, self.layer,
            Observe(result.name, None, (begin, end),
                    (first, first + sum(count for _, count in chunks)), 0,
                    pieces_of(self.arch, chunks)),
            dst_addr=result.stored.at(block, result.tile * self.arch.drain_cycles),
            dst_row=row, dst_stride=result.stored.block_words, count=count or end - begin,
            sum_tiles=tiles,
            param_addr=result.params.plus(result.tile), **segment_fields(self.rows, begin),
            **result.fields)

    def _strip(self, begin, end, one):
        """Terms of the sums of tokens begin..end: what starts the sums, then the rest."""
        self.sum_tiles = one.tiles
        terms = [(part, part.index[begin:end]) for part in one.parts]
        started = None
        for number, (part, index) in enumerate(terms):
            nests = self.best(part, index)
            if (index >= 0).any(1).all() and starts_cleanly(nests):
                started = number, nests, None
                break
        for number, (part, index) in enumerate(terms) if started is None else ():
            whole = np.flatnonzero((index >= 0).all(0))
            if len(whole):
                rest = np.delete(index, whole[0], 1)
                started = number, self.nests(part, index[:, whole[:1]].T), rest
                break
        if started is None and self.move is RowOperation.MAX:
            (part, index), = terms
            taps = (index >= 0).argmax(1)[:, None]
            started = 0, self.nests(part, np.take_along_axis(index, taps, 1).T), index
        if started is None:
            self._clear(terms[0][0], end - begin)
        else:
            number, nests, rest = started
            part = terms[number][0]
            self.add(part, nests, first=True)
            terms[number] = part, rest
        for part, index in terms:
            if index is not None and (index >= 0).any():
                self.add(part, self.best(part, index), first=False)

    def _clear(self, part, count):
        """Start sums of which no part has all."""
        params = self.tiler.segment(f"zero/norm/{part.steps}", "norm", (0,) * part.steps,
                                    self.operation.name)
        part = dataclasses.replace(part, params=params)
        row = int(self.row_numbers[id(part.source)][0])
        self.add(part, find_nests([(i, row) for i in range(count)]), first=True)

    def best(self, part, index):
        """The quicker one of two orders: tap by tap, token by token."""
        options = [self.nests(part, index.T)]
        if index.shape[1] > 1:
            options.append(self.nests(part, index, by_token=True))
        return min(options, key=lambda nests: self._cycles(part, nests))

    def _cycles(self, part, nests):
        """Cycles of the instructions of some nests."""
        fields = {"n_tiles": part.steps, "operation": self.move.value, "gelu": self.gelu}
        return sum(rows_add_timing(self.arch, fields | self._walk(nest))[0] for nest in nests)

    def _walk(self, nest):
        return {"src_row": nest.row % self.arch.rows, "sum_row": nest.sum,
                **nest.fields(self.arch.rows, sums=True)}

    def nests(self, part, index, *, by_token=False):
        """Loops through the tokens of a strip, and the taps of each."""
        numbers = self.row_numbers[id(part.source)]
        pairs = [(int(place[1 - by_token]), int(numbers[token]))
                 for place, token in np.ndenumerate(index) if token >= 0]
        return find_nests(pairs)

    def add(self, part, nests, *, first):
        """One ROWS_ADD for each nest."""
        source = part.source
        for nest in nests:
            self.tiler.emit(
                Opcode.ROWS_ADD, self.layer, src=source.source,
                src_addr=source.at(nest.row // self.arch.rows), src_stride=source.block_words,
                n_tiles=part.steps, sum_tiles=self.sum_tiles, param_addr=part.params,
                operation=self.move, gelu=self.gelu, first=int(first), **self._walk(nest))


# ---- what each node is ---------------------------------------------------------------------------

def _weighted_sum(rows: _Rows) -> None:
    node = rows.node
    index, part, source, scale = (node.tensors[name] for name in ("index", "part", "source",
                                                                  "scale"))
    for number in np.unique(part):
        stored = rows.sources[source[number]]
        rows.parts.append(Part(stored, index[:, part == number],
                                rows.scales(f"scale{number}", scale[number], rows.chunks),
                                rows.tiles))
    rows.numbers(node.tensors["bias"], node.attributes["shift"], node.attributes["bits"])
    rows.signs_of_sum()


def _max_pool(rows: _Rows) -> None:
    rows.move = RowOperation.MAX
    rows.parts.append(Part(rows.sources[0], rows.node.tensors["index"], rows.units(rows.chunks),
                            rows.tiles))
    rows.numbers()


def _gather(rows: _Rows) -> None:
    index, (source,) = rows.node.tensors["index"], rows.sources
    parts = index.shape[1]
    for part in range(parts):
        rows.parts.append(Part(source, index[:, part:part + 1], rows.units(source.chunks),
                                rows.tiles // parts))
    rows.numbers()


def _gelu(rows: _Rows) -> None:
    rows.gelu = 1
    rows.parts.append(Part(rows.sources[0], rows.same, rows.units(rows.chunks), rows.tiles))
    rows.numbers()


def _codes(rows: _Rows) -> None:
    node, rows.gelu = rows.node, int("gelu" in rows.operation.nodes)
    rows.parts.append(Part(rows.sources[0], rows.same,
                            rows.scales("scale", node.tensors["scale"], rows.chunks), rows.tiles))
    rows.codes(node.tensors["bias"], node.attributes["shift"])


def _fold_channels(rows: _Rows) -> None:
    node, (source,) = rows.node, rows.sources
    rows.move = RowOperation.FOLD
    steps = fold_steps(rows.arch, source.chunks, rows.chunks, node.attributes["group"])
    words = rows.tiler.words.fold(steps, node.tensors["scale"], node.attributes["group"],
                                  source.chunks)
    params = rows.tiler.segment(f"{node.name}/fold", "norm", words, node.name)
    rows.parts.append(Part(source, rows.same, params, len(steps)))
    rows.numbers(node.tensors["bias"], node.attributes["shift"], node.attributes["bits"])


def _threshold(rows: _Rows) -> None:
    rows.parts.append(Part(rows.sources[0], rows.same, rows.units(rows.chunks), rows.tiles))
    rows.signs()


_MAKERS = {"weighted_sum": _weighted_sum, "max_pool": _max_pool, "gather": _gather, "gelu": _gelu,
           "codes": _codes, "fold_channels": _fold_channels, "threshold": _threshold}
