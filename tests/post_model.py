"""What the post-processing must do, in NumPy: architectures, memories, packed words."""

import numpy as np

from bivit.compiler.ir.numeric import (
    MASKING_BIAS,
    RESCALE_SHIFTS,
    SCORE_BIAS_BITS,
    SCORE_FRACTION,
    bend,
    rescale,
    saturate,
)
from bivit.hw.arch import Arch
from bivit.hw.isa import AddSource, Destination, Opcode
from bivit.hw.memories import BIAS_BITS, SCALE_BITS, masked_score, threshold_bits

__all__ = ["ARCHS", "READ_PORTS", "Memories", "pack", "unpack"]

DEPTHS = {"thr_depth": 16, "scale_depth": 16, "pos_depth": 36, "hmem_depth": 16, "bmem_depth": 32,
          "pv_depth": 8, "resid_depth": 64, "vmem_depth": 32, "bend_depth": 16, "bias_depth": 16,
          "score_slots": 3, "score_tiles": 4}
ARCHS = {arch.name: arch for arch in (
    Arch(name="tiny", rows=2, cols=4, lanes=16, post_rows=1, **DEPTHS),
    Arch(name="odd", rows=3, cols=5, lanes=24, post_rows=2, **DEPTHS),
    Arch(name="flat", rows=4, cols=4, lanes=12, post_rows=4, **DEPTHS),
    Arch(name="ragged", rows=3, cols=8, lanes=28, post_rows=1, count_bits=9, resid_bits=13,
         **DEPTHS),
    Arch(name="unbiased", rows=3, cols=6, lanes=24, post_rows=1, bends=False, score_biases=False,
         **DEPTHS),
)}
READ_PORTS = ("thr", "scale", "bend", "bias", "pos", "resid", "vmem")
"""Memories that the post-processing reads."""

_BEND = {"knee": 16, "scale_above": SCALE_BITS, "bias_above": BIAS_BITS,
         "scale_below": SCALE_BITS, "bias_below": BIAS_BITS}


class Memories:
    """What the post-processing reads and writes, and what each instruction makes of it."""

    def __init__(self, arch, rng):
        self.arch = arch
        numbers = (arch.post_rows, arch.cols)

        def affine(depth):
            """Random scales and biases of every magnitude."""
            scale = rng.integers(-2**15, 2**15, (depth, arch.cols))
            bias = rng.integers(-2**23, 2**23, scale.shape)
            return (scale >> rng.integers(0, 14, scale.shape),
                    bias >> rng.integers(0, 16, scale.shape))

        def of_numbers(depth):
            half = 1 << (arch.resid_bits - 1)
            return rng.integers(-half, half, (depth, *numbers))

        shape, half = (arch.thr_depth, arch.cols), 1 << (threshold_bits(arch) - 1)
        self.thr = np.choose(rng.integers(0, 3, shape), (
            rng.integers(-8, 16, shape), rng.integers(-half, half, shape),
            rng.choice([-half, half - 1, 0], shape)))
        self.flip = rng.integers(0, 2, shape)
        self.scale, self.bias_of_scale = affine(arch.scale_depth)
        self.scale[0, :2], self.bias_of_scale[0, :2] = -2**15, (-2**23, 2**23 - 1)
        above, below = affine(arch.bend_depth), affine(arch.bend_depth)
        knee = rng.integers(-2**15, 2**15, above[0].shape) >> rng.integers(0, 14, above[0].shape)
        self.bend = dict(zip(_BEND, (knee, *above, *below), strict=True))
        bias = rng.integers(-8191, 8192, (arch.bias_depth, arch.rows, arch.cols))
        self.bias = np.choose(rng.integers(0, 4, bias.shape), (
            bias, bias, rng.integers(-16, 16, bias.shape), MASKING_BIAS))
        self.pos, self.vmem, self.resid = map(of_numbers, (
            arch.pos_depth, arch.vmem_depth, arch.resid_depth))
        self.hmem = rng.integers(0, 2, (arch.hmem_depth, arch.rows, arch.lanes))
        self.bmem = rng.integers(0, 2, (arch.bmem_depth, arch.cols, arch.lanes))
        self.pv = np.zeros((arch.pv_depth, arch.cols), np.int64)
        self.scores = {}
        self.minima = {}
        self._words = {}

    def run(self, opcode, fields, counts):
        """Apply one instruction to whose passes `counts` belongs."""
        {Opcode.MM_BITS: self._bits, Opcode.MM_SCORE: self._score,
         Opcode.MM_ACC: self._numbers}[opcode](fields, counts)

    def _bits(self, fields, counts):
        for tile in range(fields["n_tiles"]):
            limit = self.thr[fields["param_addr"] + tile]
            if fields["use_pv"]:
                limit = limit + self.pv[fields["pv_addr"] + tile]
            bits = (counts[tile] <= limit) ^ self.flip[fields["param_addr"] + tile]
            self._place(fields, tile, bits, fields["dst_addr"], fields["rows"])

    def _place(self, fields, tile, bits, address, valid_rows):
        """Write the bits of a tile to the word that `address` is, or follows from."""
        arch, rows, cols = self.arch, self.arch.rows, self.arch.cols
        chunk = fields["dst_pos"] + tile
        word = address + chunk // arch.chunks_per_word
        position = chunk % arch.chunks_per_word
        if fields["dst"] == Destination.HMEM:
            piece = self.hmem[word]
        elif fields["dst"] == Destination.K:
            piece = self.bmem[word, fields["dst_col"] * rows:(fields["dst_col"] + 1) * rows]
        else:
            bits[valid_rows:] = 0
            piece = self.bmem[address + tile * fields["dst_stride"]]
            position = fields["dst_pos"]
            pv = fields["pv_addr"] + tile
            self.pv[pv] = bits.sum(0) + (0 if fields["pv_first"] else self.pv[pv])
            bits = bits.T
        if position == 0:
            piece[:] = 0
        width = rows if fields["dst"] == Destination.V else cols
        piece[:, position * width:(position + 1) * width] = bits

    def _score(self, fields, counts):
        full = self.arch.keys_per_group
        valid = []
        for tile in range(fields["n_tiles"]):
            scores = counts[tile] << (SCORE_FRACTION + 1)
            if fields["use_bias"]:
                bias = self.bias[fields["bias_addr"] + tile]
                scores = np.where(bias == MASKING_BIAS, masked_score(self.arch), scores - bias)
            self.scores[fields["slot"], tile] = scores
            valid.append(scores[:, :int(np.clip(fields["keys"] - tile * full, 0, full))])
        self.minima[fields["slot"]] = np.concatenate(valid, 1).min(1)

    def _numbers(self, fields, counts):
        arch = self.arch
        passes = iter(counts)
        for tile in range(fields["n_tiles"]):
            total = sum(next(passes) << (i + j) for i in range(fields["a_planes"])
                        for j in range(fields["b_planes"]))
            word = fields["param_addr"] + tile
            dot = (self.pv[fields["pv_addr"] + tile] - total if fields["from_pv"]
                   else fields["base"] - 2 * total)
            y = rescale(dot, self.scale[word], self.bias_of_scale[word],
                        RESCALE_SHIFTS[fields["shift"]])
            period, addend_tile = fields["add_tiles"], fields["add_phase"] + tile
            y = y + self._rows(fields["add_src"], fields["add_addr"],
                               addend_tile % period if period else addend_tile)
            if fields["bend"]:
                knee, *affine = (values[fields["bend_addr"] + tile]
                                 for values in self.bend.values())
                y = bend(saturate(y, 16), knee, affine[:2], affine[2:],
                         RESCALE_SHIFTS[fields["bend_shift"]])
            y = saturate(y + self._rows(fields["add2_src"], fields["add2_addr"], tile),
                         fields["sat"])
            for row in range(fields["row_lo"], fields["row_hi"]):
                group, index = divmod(row, arch.post_rows)
                self.resid[fields["dst_addr"] + tile * arch.drain_cycles + group, index] = y[row]
            if fields["to_bits"]:
                word = fields["thr_addr"] + tile
                self._place(fields, tile, (y >= self.thr[word]) ^ self.flip[word],
                            fields["bits_addr"], fields["row_hi"])

    def _rows(self, source, address, tile):
        """Rows of a tile of an addend."""
        if source == AddSource.NONE:
            return 0
        memory = {AddSource.RESID: self.resid, AddSource.POS: self.pos,
                  AddSource.VMEM: self.vmem}[source]
        start = address + tile * self.arch.drain_cycles
        words = memory[start:start + self.arch.drain_cycles]
        return words.reshape(-1, self.arch.cols)[:self.arch.rows]

    # ---- packed words ---------------------------------------------------------------------------

    def word(self, name, address):
        """Word of a memory that the post-processing reads; only RESID may change after that."""
        if name == "resid":
            return self._word(name, address)
        if (name, address) not in self._words:
            self._words[name, address] = self._word(name, address)
        return self._words[name, address]

    def _word(self, name, address):
        if name == "thr":
            return self._columns(address, (self.thr, threshold_bits(self.arch)), (self.flip, 1))
        if name == "scale":
            return self._columns(address, (self.scale, SCALE_BITS),
                                 (self.bias_of_scale, BIAS_BITS))
        if name == "bend":
            return self._columns(address, *zip(self.bend.values(), _BEND.values(), strict=True))
        width = SCORE_BIAS_BITS if name == "bias" else self.arch.resid_bits
        return pack(getattr(self, name)[address].ravel().tolist(), width)

    def depth(self, name):
        """Words of a memory that the post-processing reads."""
        return getattr(self.arch, f"{name}_depth")

    def _columns(self, address, *parts):
        """Parameters of each column, the first part lowest."""
        width = sum(bits for _, bits in parts)
        return pack([pack_fields([(int(values[address, column]), bits) for values, bits in parts])
                     for column in range(self.arch.cols)], width)


def pack(numbers, width):
    """Numbers of `width` bits behind each other, the first lowest."""
    return pack_fields([(int(number), width) for number in numbers])


def pack_fields(parts):
    """Pairs of a number and its width behind each other, the first lowest."""
    word = position = 0
    for number, width in parts:
        word |= (number & (1 << width) - 1) << position
        position += width
    return word


def unpack(word, count, width):
    """`count` unsigned numbers of `width` bits."""
    raw = np.frombuffer(word.to_bytes(-(-count * width // 8), "little"), np.uint8)
    bits = np.unpackbits(raw, bitorder="little", count=count * width).reshape(count, width)
    return bits @ (np.int64(1) << np.arange(width))
