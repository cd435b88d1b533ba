"""The vector unit in plain NumPy: whole memories, one instruction after another."""

import itertools

import numpy as np

from bivit.compiler.ir.numeric import (
    RESCALE_SHIFTS,
    gelu,
    normalise_to_bits,
    normalise_to_codes,
    normalise_to_numbers,
    round_shift,
    saturate,
)
from bivit.hw.isa import LEVELS, MoveSource, NumberSource, Opcode, RowKind, RowOperation
from bivit.hw.memories import SUM_BITS, memories

WIDTHS = {"resid": None, "vmem": None, "norm": 40, "xmem": 1, "hmem": 1, "kmem": 1}
"""Bits of an element of each memory; None: those of the residual stream."""


class VectorModel:
    """Memories as arrays of elements, addresses modulo their depth.

    Parameters
    ----------
    arch : Arch
    rng : numpy.random.Generator
        Makes the contents.

    Attributes
    ----------
    beats : list of (int, int)
        What the output stream carried: number and tlast.
    reads, writes : set of (str, int, int)
        Memory, address and row of everything that the last instruction touched.
    """

    def __init__(self, arch, rng):
        self.arch, self.beats, self.reads, self.writes = arch, [], set(), set()
        half = 1 << (arch.resid_bits - 1)
        depth = {name: size.depth for name, size in memories(arch).items()}
        numbers = arch.post_rows, arch.cols
        self.resid = rng.integers(-half, half, (depth["resid"], *numbers))
        self.vmem = rng.integers(-half, half, (depth["vmem"], *numbers))
        self.scale = rng.integers(-2**15, 2**15, (depth["norm"], arch.cols))
        self.bias = rng.integers(-2**23, 2**23, (depth["norm"], arch.cols))
        self.xmem, self.hmem = (rng.integers(0, 2, (depth[name], arch.rows, arch.lanes))
                                for name in ("xmem", "hmem"))
        self.kmem = rng.integers(0, 2, (depth["kmem"], arch.cols, arch.lanes))
        self.sums = np.zeros((depth["sums"], *numbers), np.int64)

    @property
    def norm(self):
        """NORM words, an integer for each column."""
        return self.scale & 0xFFFF | (self.bias & 0xFFFFFF) << 16

    def words(self, name):
        """Contents of a memory as integers."""
        array = getattr(self, name)
        width = WIDTHS[name] or self.arch.resid_bits
        return [sum(value << index * width for index, value in enumerate(row))
                for row in (array & (1 << width) - 1).reshape(len(array), -1).tolist()]

    def run(self, opcode, fields):
        """One instruction."""
        self.reads, self.writes = set(), set()
        action = {Opcode.ROWS_ADD: self._rows_add, Opcode.ROWS_OUT: self._rows_out,
                  Opcode.MOVE: self._move, Opcode.OUTPUT: self._output}
        action.get(opcode, lambda fields: self._norm(opcode, fields))(fields)

    # ---- places -------------------------------------------------------------------------------

    def _place(self, name, address, row):
        """Index of a row of a memory of numbers, or of bits."""
        if name in ("resid", "vmem"):
            address, row = address + row // self.arch.post_rows, row % self.arch.post_rows
        return (address % len(getattr(self, name))), row

    def _get(self, name, address, row):
        address, row = self._place(name, address, row)
        self.reads.add((name, address, row))
        return getattr(self, name)[address, row]

    def _put(self, name, address, row, values, start=0):
        address, row = self._place(name, address, row)
        self.writes.add((name, address, row))
        getattr(self, name)[address, row, start:start + len(values)] = values

    def _put_chunk(self, address, row, tile, bits):
        position = tile % self.arch.chunks_per_word
        address += tile // self.arch.chunks_per_word
        if position == 0:
            self._put("xmem", address, row, np.zeros(self.arch.lanes, int))
        self._put("xmem", address, row, bits, start=position * self.arch.cols)

    def _put_code(self, address, row, tile, codes, k_words):
        for plane in range(8):
            self._put_chunk(address + plane * k_words, row, tile, codes >> plane & 1)

    def _parameters(self, address, tiles):
        index = (address + np.arange(tiles)) % len(self.scale)
        return self.scale[index], self.bias[index]

    # ---- instructions -------------------------------------------------------------------------

    def _norm(self, opcode, fields):
        arch, tiles, span = self.arch, fields["n_tiles"], fields["span"]
        name = NumberSource(fields["src"]).name.lower()
        scale, bias = (array.ravel()[:span] for array in
                       self._parameters(fields["param_addr"], tiles))
        shift = RESCALE_SHIFTS[fields.get("shift", 0)]
        for row in range(min(arch.rows, fields["groups"] * arch.post_rows)):
            x = np.concatenate([self._get(name, fields["src_addr"] + n * arch.drain_cycles, row)
                                for n in range(tiles)])[:span]
            real = np.ones(span, bool)
            if fields["channels"] != span:
                real = x != 0
                assert real.sum() == fields["channels"]
            result = np.zeros(tiles * arch.cols, np.int64)
            parameters = x[real], scale[real], bias[real]
            if opcode is Opcode.NORM_BITS:
                found = normalise_to_bits(*parameters[:2], parameters[2] & 3, fields["eps"])
            elif opcode is Opcode.NORM_CODES:
                found = normalise_to_codes(*parameters, shift, fields["eps"])
            else:
                found = normalise_to_numbers(*parameters, shift, fields["eps"], fields["sat"])
            result[:span][real] = found
            for n, part in enumerate(result.reshape(tiles, arch.cols)):
                if opcode is Opcode.NORM_BITS:
                    self._put_chunk(fields["dst_addr"], row, n, part)
                elif opcode is Opcode.NORM_CODES:
                    self._put_code(fields["dst_addr"], row, n, part, fields["k_words"])
                else:
                    self._put("vmem", fields["dst_addr"] + n * arch.drain_cycles, row, part)

    def _output(self, fields):
        name = NumberSource(fields["src"]).name.lower()
        numbers = [number for n in range(-(-fields["count"] // self.arch.cols))
                   for number in self._get(name, fields["src_addr"] + n * self.arch.drain_cycles,
                                           fields["row"])][:fields["count"]]
        self.beats += [(int(number) & 0xFFFFFFFF, 0) for number in numbers]
        self.beats[-1] = self.beats[-1][0], 1

    def _walk(self, fields):
        """Address, row and steps, innermost loop first, of every row."""
        levels = range(LEVELS)
        for outer in itertools.product(*(range(fields[f"count_{level}"])
                                         for level in reversed(levels))):
            steps = outer[::-1]
            row = fields["src_row"] + sum(steps[i] * fields[f"rows_{i}"] for i in levels)
            block = row // self.arch.rows + sum(steps[i] * fields[f"blocks_{i}"] for i in levels)
            yield fields["src_addr"] + block * fields["src_stride"], row % self.arch.rows, steps

    def _rows_add(self, fields):
        name = NumberSource(fields["src"]).name.lower()
        fold = fields["operation"] == RowOperation.FOLD.value
        for address, row, steps in self._walk(fields):
            sums = [fields[f"sums_{level}"] for level in range(LEVELS)]
            sum_row = fields["sum_row"] + sum(a * b for a, b in zip(steps, sums, strict=True))
            opens = fields["first"] and not any(s for s, add in zip(steps, sums, strict=True)
                                                if add == 0)
            tile = word = 0
            for n in range(fields["n_tiles"]):
                (scale,), (bias,) = self._parameters(fields["param_addr"] + n, 1)
                step = int(bias[0])
                new_word = not fold or n == 0 or step >> 9 & 1
                tile, word = (tile + (step >> 8 & 1), word + (step >> 9 & 1)) if fold else (n, n)
                x = self._get(name, address + tile * self.arch.drain_cycles, row)
                product = (gelu(x) if fields["gelu"] else x) * scale
                place = self._sum_place(sum_row, fields["sum_tiles"], word)
                self._add(place, product, opens and new_word, fields["operation"], step)

    def _sum_place(self, row, tiles, n):
        """Word of the sums, and row of it."""
        group, lane = divmod(row, self.arch.post_rows)
        return (group * tiles + n) % 256 % len(self.sums), lane

    def _folded(self, product, step):
        """What each column gets in a step of FOLD."""
        column, fours = step & 255, self.arch.cols // 4
        if not step >> 10 & 1 or self.arch.cols % 4:
            return product.sum() * (np.arange(self.arch.cols) == column)
        found = np.zeros_like(product)
        if column < self.arch.cols:
            found[column - column % fours:][:fours] = product.reshape(-1, 4).sum(1)
        return found

    def _add(self, index, product, start, operation, step):
        old = np.zeros_like(product) if start else self.sums[index]
        if operation == RowOperation.FOLD.value:
            new = old + self._folded(product, step)
        elif operation == RowOperation.MAX.value and not start:
            new = np.maximum(old, product)
        else:
            new = old + product
        self.sums[index] = (new + (1 << SUM_BITS - 1)) % (1 << SUM_BITS) - (1 << SUM_BITS - 1)

    def _destination(self, fields, limit):
        """Word and row of the destination's rows, one after another."""
        segment, left = fields["segment"], fields["segment_left"]
        for index in itertools.count():
            if segment == 0 or index < left:
                place = fields["dst_row"] + index
                block = place // limit
            else:
                number, place = divmod(index - left, segment)
                block = ((fields["dst_row"] + left - 1) // limit + 1
                         + number * -(-segment // limit) + place // limit)
            yield fields["dst_addr"] + block * fields["dst_stride"], place % limit

    def _rows_out(self, fields):
        arch, tiles, shift = self.arch, fields["sum_tiles"], RESCALE_SHIFTS[fields["shift"]]
        scale, bias = self._parameters(fields["param_addr"], tiles)
        places = self._destination(fields, arch.rows)
        for row in range(fields["count"]):
            address, place = next(places)
            for n in range(tiles):
                total = self.sums[self._sum_place(fields["sum_row"] + row, tiles, n)]
                v = total + (bias[n] << shift - 8)
                number = round_shift(v, shift)
                if fields["kind"] == RowKind.NUMBERS.value:
                    self._put("vmem", address + n * arch.drain_cycles, place,
                              saturate(number, fields["sat"]))
                elif fields["kind"] == RowKind.CODES.value:
                    self._put_code(address, place, n, np.clip(number, 0, 255), fields["k_words"])
                else:
                    self._put_chunk(address, place, n, (v >= 0) ^ (scale[n] & 1))

    def _move(self, fields):
        name = MoveSource(fields["src"]).name.lower()
        target, limit = (("kmem", self.arch.keys_per_group) if fields["to_keys"] else
                         ("xmem", self.arch.rows))
        places = self._destination(fields, limit)
        for (address, row, _), (to, place) in zip(self._walk(fields), places, strict=False):
            for w in range(fields["words"]):
                self._put(target, to + w, place, self._get(name, address + w, row))
