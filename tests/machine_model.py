"""The machine as docs/architecture.md has it, one element after another: slow and direct."""

import itertools
import math

import numpy as np

from bivit.compiler.ir import numeric
from bivit.compiler.ir.numeric import MASKING_BIAS, SCORE_BIAS_BITS
from bivit.hw import isa
from bivit.hw.memories import masked_score, threshold_bits

__all__ = ["MEMORIES", "MachineModel"]

MEMORIES = ("imem", "xmem", "hmem", "pmem", "bmem", "kmem", "resid", "vmem", "sums", "pv", "smem")
"""What a program leaves behind; SMEM on targets with a stem engine."""

A_MEMORIES = {isa.ASource.IMEM: "imem", isa.ASource.XMEM: "xmem", isa.ASource.HMEM: "hmem",
              isa.ASource.PMEM: "pmem"}


def part(word, position, width, signed=True):
    """A number in a word."""
    value = word >> position & (1 << width) - 1
    return value - (1 << width) if signed and value >> (width - 1) else value


def round_shift(value, shift):
    return value + (1 << (shift - 1)) >> shift


def saturate(value, bits):
    return max(-(1 << (bits - 1)), min((1 << (bits - 1)) - 1, value))


def rescale(value, scale, bias, shift):
    shift = numeric.RESCALE_SHIFTS[shift]
    return round_shift(value * scale + (bias << (shift - 8)), shift)


class MachineModel:
    """Memories of elements; addresses are below their depths or are taken modulo them.

    Parameters
    ----------
    arch : Arch
    constants : dict of str to list of int
    memories : MemoryState
    image : int
        Whose memories these are.
    stream : bytes

    Attributes
    ----------
    names : list of str
        Its memories.
    made : dict of str to dict of (row, column) to int
        Results of the last instruction, by the keys of ``observe.read_results``.
    """

    def __init__(self, arch, constants, memories, image, stream):
        self.arch, self.constants, self.stream = arch, constants, list(stream)
        self.names = [name for name in MEMORIES if hasattr(memories, name)]
        for name in self.names:
            setattr(self, name, getattr(memories, name)[image].astype(np.int64))
        self.scores, self.minima, self.outputs = {}, {}, []
        self.greatest = masked_score(arch)

    def run(self, opcode, fields):
        """Execute an instruction."""
        self.f, self.made = fields, {"observe": {}, "observe_bits": {}}
        getattr(self, f"_{opcode.name.lower()}")()

    def _make(self, row, tile, values, key="observe"):
        """Note a piece of a result."""
        for column, value in enumerate(values):
            self.made[key][row, tile * len(values) + column] = int(value)

    # ---- words ----------------------------------------------------------------------------------

    def _constant(self, name, address):
        words = self.constants[name]
        return words[address] if address < len(words) else 0

    def _parameter(self, name, address, column):
        """Scale and bias."""
        word = self._constant(name, address) >> 40 * column
        return part(word, 0, 16), part(word, 16, 24)

    def _threshold(self, address, column):
        bits = threshold_bits(self.arch)
        word = self._constant("thr", address) >> (bits + 1) * column
        return part(word, 0, bits), word >> bits & 1

    def _number(self, name, address, row, column):
        """Of a tile in a memory of numbers (words of tile 0 of the block, then row groups)."""
        address, lane = address + row // self.arch.post_rows, row % self.arch.post_rows
        if name == "pos":
            width = self.arch.resid_bits
            return part(self._constant("pos", address), (lane * self.arch.cols + column) * width,
                        width)
        memory = getattr(self, name)
        return int(memory[address % len(memory), lane, column])

    def _put_number(self, name, address, row, column, value):
        memory = getattr(self, name)
        address += row // self.arch.post_rows
        memory[address % len(memory), row % self.arch.post_rows, column] = value

    def _put_chunk(self, name, address, position, row, bits, width):
        """A piece of a row; the one at position 0 clears the rest."""
        memory, per_word = getattr(self, name), self.arch.lanes // width
        word = memory[(address + position // per_word) % len(memory), row]
        position %= per_word
        if position == 0:
            word[:] = 0
        word[position * width:(position + 1) * width] = bits

    def _b_word(self, address):
        cols, lanes = self.arch.cols, self.arch.lanes
        if self.f["b_src"] == isa.BSource.WEIGHT.value:
            word = self._constant("weight", address)
            return np.array([[word >> (column * lanes + lane) & 1 for lane in range(lanes)]
                             for column in range(cols)])
        memory = self.bmem if self.f["b_src"] == isa.BSource.BMEM.value else self.kmem
        return memory[address % len(memory)]

    def _counts(self, tile, i=0, j=0, b_planes=1):
        """Mismatches of a pass, (rows, cols)."""
        f, k_words = self.f, self.f["k_words"]
        memory = getattr(self, A_MEMORIES[isa.ASource(f["a_src"])])
        count = 0
        for k in range(k_words):
            a = memory[(f["a_addr"] + i * k_words + k) % len(memory)]
            b = self._b_word(f["b_addr"] + (tile * b_planes + j) * k_words + k)
            count = count + (a[:, None] != b[None]).sum(-1)
        return count

    # ---- LOAD and the matrix unit ---------------------------------------------------------------

    def _load(self):
        f, lanes = self.f, self.arch.lanes
        for token in range(f["tokens"]):
            beats = -(-f["pixels"] // 4) * 4
            pixels, self.stream = self.stream[:beats][:f["pixels"]], self.stream[beats:]
            for plane in range(8):
                words = -(-len(pixels) // lanes)
                first = f["dst_addr"] + plane * f["k_words"]
                for word in range(words):
                    bits = [pixel >> plane & 1 for pixel in pixels[word * lanes:][:lanes]]
                    self.imem[first + word, f["row"] + token] = (
                        bits + [0] * (lanes - len(bits)))

    def _stem(self):
        f, arch = self.f, self.arch
        address, row, left = f["dst_addr"], f["row"], f["segment"]
        for _ in range(f["tokens"]):
            beats = -(-f["pixels"] // 4) * 4
            pixels, self.stream = self.stream[:beats][:f["pixels"]], self.stream[beats:]
            for channel in range(f["channels"]):
                group, lane = divmod(channel, arch.stem_macs // arch.stem_simd)
                first = f["weight_addr"] + group * -(-f["pixels"] // arch.stem_simd)
                dot = sum((2 * pixel - 255) * (2 * part(
                    self._constant("stem", first + j // arch.stem_simd),
                    8 * (lane * arch.stem_simd + j % arch.stem_simd), 8) + 1)
                          for j, pixel in enumerate(pixels))
                value = saturate(rescale(dot, *self._parameter(
                    "stem_scale", f["scale_addr"] + channel, 0), f["shift"]), 18)
                tile, column = divmod(channel, arch.cols)
                self._put_number("smem", address + tile * arch.drain_cycles, row, column, value)
            row, left = row + 1, left - 1
            if row == arch.rows or left == 0:
                address, row = address + f["dst_stride"], 0
            if left == 0:
                row, left = f["row"], f["segment"]

    def _mm_bits(self):
        f, arch = self.f, self.arch
        bits = {}
        for n in range(f["n_tiles"]):
            counts = self._counts(n)
            for row, column in itertools.product(range(arch.rows), range(arch.cols)):
                threshold, flip = self._threshold(f["param_addr"] + n, column)
                if f["use_pv"]:
                    threshold += int(self.pv[f["pv_addr"] + n, column])
                bits[n, row, column] = int(counts[row, column] <= threshold) ^ flip
        self._put_bits(bits, f["dst_addr"], f["rows"], "observe")

    def _put_bits(self, bits, address, rows, key):
        f, arch = self.f, self.arch
        of_values = f["dst"] == isa.Destination.V.value
        self.made[key] = {(row, n * arch.cols + column): bit
                          for (n, row, column), bit in bits.items() if not of_values or row < rows}
        for n in range(f["n_tiles"]):
            if of_values:
                block = f["dst_pos"]
                word = self.bmem[address + n * f["dst_stride"]]
                for column in range(arch.cols):
                    ones = [bits[n, row, column] if row < rows else 0 for row in range(arch.rows)]
                    if block == 0:
                        word[column] = 0
                    word[column, block * arch.rows:(block + 1) * arch.rows] = ones
                    before = 0 if f["pv_first"] else self.pv[f["pv_addr"] + n, column]
                    self.pv[f["pv_addr"] + n, column] = before + sum(ones)
                continue
            for row in range(arch.rows):
                piece = [bits[n, row, column] for column in range(arch.cols)]
                if f["dst"] == isa.Destination.HMEM.value:
                    self._put_chunk("hmem", address, f["dst_pos"] + n, row, piece, arch.cols)
                else:
                    self._put_chunk("bmem", address, f["dst_pos"] + n,
                                    f["dst_col"] * arch.rows + row, piece, arch.cols)

    def _mm_score(self):
        f, arch = self.f, self.arch
        self.minima[f["slot"]] = [self.greatest] * arch.rows
        for n in range(f["n_tiles"]):
            counts = self._counts(n)
            valid = min(max(f["keys"] - n * arch.keys_per_group, 0), arch.keys_per_group)
            for row, column in itertools.product(range(arch.rows), range(arch.cols)):
                entry = int(counts[row, column]) << 5
                if f["use_bias"]:
                    bias = part(self._constant("bias", f["bias_addr"] + n),
                                (row * arch.cols + column) * SCORE_BIAS_BITS, SCORE_BIAS_BITS)
                    entry = self.greatest if bias == MASKING_BIAS else entry - bias
                self.scores[f["slot"], n, row, column] = entry
                if column < valid:
                    self.minima[f["slot"]][row] = min(self.minima[f["slot"]][row], entry)

    def _addend(self, source, address, row, column):
        source = isa.AddSource(source)
        if source is isa.AddSource.NONE:
            return 0
        return self._number(source.name.lower(), address, row, column)

    def _mm_acc(self):
        f, arch, cols = self.f, self.arch, self.arch.cols
        numbers, bits, phase = {}, {}, f["add_phase"]
        for n in range(f["n_tiles"]):
            total = sum(self._counts(n, i, j, f["b_planes"]).astype(object) << (i + j)
                        for i in range(f["a_planes"]) for j in range(f["b_planes"]))
            for row, column in itertools.product(range(arch.rows), range(cols)):
                dot = (int(self.pv[f["pv_addr"] + n, column]) - total[row, column]
                       if f["from_pv"] else f["base"] - 2 * total[row, column])
                u = rescale(dot, *self._parameter("scale", f["param_addr"] + n, column), f["shift"])
                u += self._addend(f["add_src"], f["add_addr"] + phase * arch.drain_cycles,
                                  row, column)
                if f["bend"]:
                    word = self._constant("bend", f["bend_addr"] + n) >> 96 * column
                    u = saturate(u, 16)
                    at = 16 if u >= part(word, 0, 16) else 56
                    u = rescale(u, part(word, at, 16), part(word, at + 16, 24), f["bend_shift"])
                u += self._addend(f["add2_src"], f["add2_addr"] + n * arch.drain_cycles,
                                  row, column)
                y = numbers[n, row, column] = saturate(u, f["sat"])
                threshold, flip = self._threshold(f["thr_addr"] + n, column)
                bits[n, row, column] = int(y >= threshold) ^ flip
            phase += 1
            if phase == f["add_tiles"]:
                phase = 0
        for (n, row, column), y in numbers.items():
            if f["row_lo"] <= row < f["row_hi"]:
                self._put_number("resid", f["dst_addr"] + n * arch.drain_cycles, row, column, y)
                self.made["observe"][row, n * cols + column] = y
        if f["to_bits"]:
            self._put_bits(bits, f["bits_addr"], f["row_hi"], "observe_bits")

    # ---- SOFTMAX --------------------------------------------------------------------------------

    def _exponential(self, distance):
        z = distance * self.f["multiplier"] >> 12
        return numeric.EXPONENTIALS[z % 64] >> z // 64

    def _softmax(self):
        f, group = self.f, self.arch.keys_per_group
        for row in range(self.arch.rows):
            minimum = self.minima[f["slot"]][row]
            entries = {key: self.scores[f["slot"], key // group, row, key % group]
                       for key in range(min(f["keys"], f["n_tiles"] * group))}
            entries = {key: e for key, e in entries.items() if e != self.greatest}
            total = sum(self._exponential(e - minimum) for e in entries.values()
                        ) if f["mode"] == isa.SoftmaxMode.ABSOLUTE.value else 0
            for tile in range(f["n_tiles"]):
                piece = [int(key in entries and self._attends(entries[key], minimum, total))
                         for key in range(tile * group, (tile + 1) * group)]
                self._put_chunk("pmem", f["dst_addr"], tile, row, piece, group)
                self._make(row, tile, piece)

    def _attends(self, e, minimum, total):
        f = self.f
        match isa.SoftmaxMode(f["mode"]):
            case isa.SoftmaxMode.RELATIVE:
                return e <= minimum + f["delta"]
            case isa.SoftmaxMode.LIMIT:
                return e <= part(f["delta"], 0, 24)
        share = self._exponential(e - minimum) << 20 >= f["threshold"] * total
        return share != bool(f["flip"])

    # ---- VEC ------------------------------------------------------------------------------------

    def _source(self):
        return isa.NumberSource(self.f["src"]).name.lower()

    def _norm_rows(self):
        """Row, tile, column in it, d or None past the span, sigma."""
        f, arch, n = self.f, self.arch, self.f["channels"]
        for row in range(min(f["groups"] * arch.post_rows, arch.rows)):
            x = [self._number(self._source(), f["src_addr"] + tile * arch.drain_cycles, row, column)
                 for tile in range(f["n_tiles"]) for column in range(arch.cols)][:f["span"]]
            total = sum(x)
            sigma = math.isqrt(n * sum(value * value for value in x) - total * total + f["eps"])
            x = [n * value - total for value in x]
            x += [None] * (f["n_tiles"] * arch.cols - len(x))
            yield row, np.array(x, object).reshape(f["n_tiles"], arch.cols), sigma

    def _norm_bits(self):
        f = self.f
        for row, values, sigma in self._norm_rows():
            for tile, numbers in enumerate(values):
                bits = []
                for column, d in enumerate(numbers):
                    k, kind = self._parameter("norm", f["param_addr"] + tile, column)
                    bits.append(0 if d is None else int(
                        ((d << 12) >= sigma * k, (d << 12) <= sigma * k, False, True)[kind & 3]))
                self._put_chunk("xmem", f["dst_addr"], tile, row, bits, self.arch.cols)
                self._make(row, tile, bits)

    def _normalised(self):
        """Row, tile, rescaled numbers; 0 past the span."""
        f = self.f
        for row, values, sigma in self._norm_rows():
            mantissa, exponent = (int(value) for value in numeric.reciprocal(sigma))
            for tile, numbers in enumerate(values):
                yield row, tile, [0 if d is None else rescale(
                    saturate(round_shift(d * mantissa, 6 + exponent), 16),
                    *self._parameter("norm", f["param_addr"] + tile, column), f["shift"])
                    for column, d in enumerate(numbers)]

    def _put_codes(self, address, tile, row, numbers):
        codes = [max(0, min(255, number)) for number in numbers]
        for plane in range(8):
            self._put_chunk("xmem", address + plane * self.f["k_words"], tile, row,
                            [code >> plane & 1 for code in codes], self.arch.cols)

    def _norm_codes(self):
        for row, tile, numbers in self._normalised():
            self._put_codes(self.f["dst_addr"], tile, row, numbers)
            self._make(row, tile, [max(0, min(255, number)) for number in numbers])

    def _norm_numbers(self):
        f = self.f
        for row, tile, numbers in list(self._normalised()):
            numbers = [saturate(number, f["sat"]) for number in numbers]
            self._make(row, tile, numbers)
            for column, number in enumerate(numbers):
                self._put_number("vmem", f["dst_addr"] + tile * self.arch.drain_cycles, row, column,
                                 number)

    def _walk(self):
        """Address, row and steps (level 0 first) of each row."""
        f, rows = self.f, self.arch.rows
        for steps in itertools.product(*(range(f[f"count_{level}"]) for level in (3, 2, 1, 0))):
            address, row = f["src_addr"], f["src_row"]
            for level, count in zip((3, 2, 1, 0), steps, strict=True):
                for _ in range(count):
                    address += f[f"blocks_{level}"] * f["src_stride"]
                    row += f[f"rows_{level}"]
                    if row >= rows:
                        row, address = row - rows, address + f["src_stride"]
            yield address, row, steps[::-1]

    def _targets(self, limit):
        """Address and row of rows behind each other."""
        f = self.f
        address, row, left = f["dst_addr"], f["dst_row"], f["segment_left"]
        while True:
            yield address, row
            row, left = row + 1, left - 1
            ended = f["segment"] and left == 0
            if ended or row == limit:
                row, address = 0, address + f["dst_stride"]
            if ended:
                left = f["segment"]

    def _rows_add(self):
        f, operation = self.f, isa.RowOperation(self.f["operation"])
        for address, row, steps in self._walk():
            sum_row = f["sum_row"] + sum(step * f[f"sums_{level}"]
                                         for level, step in enumerate(steps))
            start = f["first"] and not any(step and not f[f"sums_{level}"]
                                           for level, step in enumerate(steps))
            tile = word = 0
            for n in range(f["n_tiles"]):
                fresh = n == 0
                if operation is not isa.RowOperation.FOLD:
                    tile = word = n
                else:
                    _, control = self._parameter("norm", f["param_addr"] + n, 0)
                    tile, word = tile + (control >> 8 & 1), word + (control >> 9 & 1)
                    fresh |= control >> 9 & 1
                products = []
                for column in range(self.arch.cols):
                    x = self._number(self._source(), address + tile * self.arch.drain_cycles, row,
                                     column)
                    x = int(numeric.gelu(x)) if f["gelu"] else x
                    products.append(
                        x * self._parameter("norm", f["param_addr"] + n, column)[0])
                sums = self._sums(sum_row, word)
                if operation is isa.RowOperation.FOLD:
                    if start and fresh:
                        sums[:] = 0
                    self._fold(sums, control, products)
                else:
                    combine = max if operation is isa.RowOperation.MAX else int.__add__
                    sums[:] = products if start else [
                        combine(int(old), new) for old, new in zip(sums, products, strict=True)]

    def _sums(self, row, n):
        group, place = divmod(row, self.arch.post_rows)
        return self.sums[(group * self.f["sum_tiles"] + n) % 256 % len(self.sums), place]

    def _fold(self, sums, control, products):
        column, cols = control & 255, self.arch.cols
        if not control >> 10 & 1 or cols % 4:
            sums[column] += sum(products)
        else:
            for part in range(cols // 4):
                sums[column - column % (cols // 4) + part] += sum(products[4 * part:4 * part + 4])

    def _rows_out(self):
        f, cols = self.f, self.arch.cols
        shift, kind = numeric.RESCALE_SHIFTS[f["shift"]], isa.RowKind(f["kind"])
        for number, (address, row) in zip(range(f["count"]), self._targets(self.arch.rows),
                                          strict=False):
            for n in range(f["sum_tiles"]):
                word = self._sums(f["sum_row"] + number, n)
                scale, bias = zip(*(self._parameter("norm", f["param_addr"] + n, column)
                                    for column in range(cols)), strict=True)
                v = [int(word[column]) + (bias[column] << (shift - 8)) for column in range(cols)]
                rounded = [round_shift(value, shift) for value in v]
                if kind is isa.RowKind.NUMBERS:
                    numbers = [saturate(value, f["sat"]) for value in rounded]
                    self._make(number, n, numbers)
                    for column, value in enumerate(numbers):
                        self._put_number("vmem", address + n * self.arch.drain_cycles, row, column,
                                         value)
                elif kind is isa.RowKind.CODES:
                    self._put_codes(address, n, row, rounded)
                    self._make(number, n, [max(0, min(255, value)) for value in rounded])
                else:
                    bits = [int(v[column] >= 0) ^ scale[column] & 1 for column in range(cols)]
                    self._put_chunk("xmem", address, n, row, bits, cols)
                    self._make(number, n, bits)

    def _move(self):
        f = self.f
        source = getattr(self, isa.MoveSource(f["src"]).name.lower())
        target, limit = ((self.kmem, self.arch.keys_per_group) if f["to_keys"]
                         else (self.xmem, self.arch.rows))
        for (address, row, _), (to, to_row) in zip(self._walk(), self._targets(limit),
                                                   strict=False):
            for w in range(f["words"]):
                target[(to + w) % len(target), to_row] = source[(address + w) % len(source), row]

    def _output(self):
        f, cols = self.f, self.arch.cols
        self.outputs += [self._number(
            self._source(), f["src_addr"] + n // cols * self.arch.drain_cycles, f["row"], n % cols)
            for n in range(f["count"])]


assert {f"_{opcode.name.lower()}" for opcode in isa.UNIT_OF} - set(vars(MachineModel)) == {
    "_fetch", "_store"}
