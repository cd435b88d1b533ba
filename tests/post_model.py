"""What the post-processing must do, in NumPy: architectures, memories, packed words."""

import numpy as np

from bivit.compiler.ir.numeric import RESCALE_SHIFTS, rescale, saturate
from bivit.hw.arch import Arch
from bivit.hw.blocks.post import Mode
from bivit.hw.isa import AddSource, Destination

__all__ = ["ARCHS", "Memories", "pack", "unpack"]

DEPTHS = {"thr_depth": 16, "scale_depth": 16, "pos_depth": 32, "hmem_depth": 16, "bmem_depth": 32,
          "pv_depth": 8, "resid_depth": 64, "score_slots": 3, "score_tiles": 4}
ARCHS = {arch.name: arch for arch in (
    Arch(name="tiny", rows=2, cols=4, lanes=16, post_rows=1, **DEPTHS),
    Arch(name="odd", rows=3, cols=5, lanes=24, post_rows=2, **DEPTHS),
    Arch(name="flat", rows=4, cols=4, lanes=12, post_rows=4, **DEPTHS),
    Arch(name="ragged", rows=3, cols=8, lanes=28, post_rows=1, count_bits=9, resid_bits=13,
         **DEPTHS),
)}


class Memories:
    """What the post-processing reads and writes, and what each instruction makes of it."""

    def __init__(self, arch, rng):
        self.arch = arch
        half = 1 << (arch.resid_bits - 1)
        numbers = (arch.post_rows, arch.cols)
        shape = (arch.thr_depth, arch.cols)
        self.thr = np.where(rng.integers(0, 4, shape) > 0, rng.integers(-8, 16, shape),
                            rng.integers(-(1 << arch.count_bits), 1 << arch.count_bits, shape))
        self.flip = rng.integers(0, 2, (arch.thr_depth, arch.cols))
        scale = rng.integers(-2**15, 2**15, (arch.scale_depth, arch.cols))
        self.scale = scale >> rng.integers(0, 14, scale.shape)
        bias = rng.integers(-2**23, 2**23, scale.shape)
        self.bias = bias >> rng.integers(0, 16, scale.shape)
        self.scale[0, 0], self.bias[0, 0] = -2**15, -2**23
        self.scale[0, 1], self.bias[0, 1] = -2**15, 2**23 - 1
        self.pos = rng.integers(-half, half, (arch.pos_depth, *numbers))
        self.resid = rng.integers(-half, half, (arch.resid_depth, *numbers))
        self.hmem = rng.integers(0, 2, (arch.hmem_depth, arch.rows, arch.lanes))
        self.bmem = rng.integers(0, 2, (arch.bmem_depth, arch.cols, arch.lanes))
        self.pv = np.zeros((arch.pv_depth, arch.cols), np.int64)
        self.scores = {}
        self.minima = {}

    def run(self, instruction, counts):
        """Apply one instruction to whose passes `counts` belongs."""
        getattr(self, f"_run_{Mode(instruction['mode']).name.lower()}")(instruction, counts)

    def _run_bits(self, fields, counts):
        arch, rows, cols = self.arch, self.arch.rows, self.arch.cols
        for tile in range(fields["n_tiles"]):
            limit = self.thr[fields["param_addr"] + tile]
            if fields["use_pv"]:
                limit = limit + self.pv[fields["pv_addr"] + tile]
            bits = (counts[tile] <= limit) ^ self.flip[fields["param_addr"] + tile]
            chunk = fields["dst_pos"] + tile
            word = fields["dst_addr"] + chunk // arch.chunks_per_word
            position = chunk % arch.chunks_per_word
            if fields["dst"] == Destination.HMEM:
                piece = self.hmem[word]
            elif fields["dst"] == Destination.K:
                piece = self.bmem[word, fields["dst_col"] * rows:(fields["dst_col"] + 1) * rows]
            else:
                bits[fields["rows"]:] = 0
                piece = self.bmem[fields["dst_addr"] + tile * fields["dst_stride"]]
                position = fields["dst_pos"]
                address = fields["pv_addr"] + tile
                self.pv[address] = bits.sum(0) + (0 if fields["pv_first"] else self.pv[address])
                bits = bits.T
            if position == 0:
                piece[:] = 0
            width = rows if fields["dst"] == Destination.V else cols
            piece[:, position * width:(position + 1) * width] = bits

    def _run_score(self, fields, counts):
        full = self.arch.keys_per_group
        valid = []
        for tile in range(fields["n_tiles"]):
            self.scores[fields["slot"], tile] = counts[tile]
            valid.append(counts[tile][:, :int(np.clip(fields["keys"] - tile * full, 0, full))])
        self.minima[fields["slot"]] = np.concatenate(valid, 1).min(1)

    def _run_acc(self, fields, counts):
        arch = self.arch
        passes = iter(counts)
        for tile in range(fields["n_tiles"]):
            total = sum(next(passes) << (i + j) for i in range(fields["a_planes"])
                        for j in range(fields["b_planes"]))
            word = fields["param_addr"] + tile
            y = rescale(fields["base"] - 2 * total, self.scale[word], self.bias[word],
                        RESCALE_SHIFTS[fields["shift"]])
            first = tile * arch.drain_cycles
            for row in range(fields["row_lo"], fields["row_hi"]):
                group, index = divmod(row, arch.post_rows)
                add = first + group + fields["add_addr"]
                addend = {AddSource.NONE: np.zeros(arch.cols, np.int64),
                          AddSource.RESID: self.resid[add % len(self.resid), index],
                          AddSource.POS: self.pos[add % len(self.pos), index],
                          }[fields["add_src"]]
                self.resid[fields["resid_addr"] + first + group, index] = saturate(
                    y[row] + addend, fields["sat"])

    # ---- packed words ---------------------------------------------------------------------------

    def word(self, name, address):
        """Word of a constant memory or of RESID."""
        if name == "thr":
            parts = [(int(thr), self.arch.count_bits + 1, int(flip)) for thr, flip in
                     zip(self.thr[address], self.flip[address], strict=True)]
            return pack([(thr & (1 << bits) - 1) | flip << bits for thr, bits, flip in parts],
                        self.arch.count_bits + 2)
        if name == "scale":
            return pack([(int(scale) & 0xFFFF) | (int(bias) & 0xFFFFFF) << 16 for scale, bias in
                         zip(self.scale[address], self.bias[address], strict=True)], 40)
        return pack(getattr(self, name)[address].ravel().tolist(), self.arch.resid_bits)


def pack(numbers, width):
    word = 0
    for index, number in enumerate(numbers):
        word |= (int(number) & (1 << width) - 1) << (index * width)
    return word


def unpack(word, count, width):
    """`count` unsigned numbers of `width` bits."""
    raw = np.frombuffer(word.to_bytes(-(-count * width // 8), "little"), np.uint8)
    bits = np.unpackbits(raw, bitorder="little", count=count * width).reshape(count, width)
    return bits @ (np.int64(1) << np.arange(width))
