"""The architecture parameters: what is chosen, what follows from it.

One frozen dataclass holds every number that the generated Verilog depends on. Named instances are
in :mod:`bivit.hw.targets`. The compiler, the simulators and the generator all take an ``Arch``.
"""

import dataclasses

__all__ = ["FABRICS", "LARGEST", "PARTS", "PORT_BITS", "STEM_SIMD", "WEIGHTS", "Arch", "ArchError"]

FABRICS = ("generic", "ecp5", "nexus", "lut6-xc7", "lut6-xcup")
"""Values of ``Arch.fabric``."""
WEIGHTS = ("rom", "loaded", "streamed")
"""Values of ``Arch.weights``."""
PORT_BITS = (16, 32, 64, 128)
"""Values of ``Arch.port_bits``."""
STEM_SIMD = (1, 2, 4)
"""Values of ``Arch.stem_simd``."""


LARGEST = {
    "weight_depth": 1 << 24, "bias_depth": 1 << 20, "pv_depth": 1 << 12, "sums_depth": 1 << 8,
    "score_tiles": (1 << 12) - 1,
    **{f"{name}_depth": 1 << 16 for name in ("thr", "scale", "norm", "pos", "bend", "imem", "xmem",
                                             "hmem", "pmem", "bmem", "kmem", "resid", "vmem",
                                             "stem", "stem_scale", "smem")},
    "lanes": 4096, "count_bits": 20, "acc_bits": 32, "pop_stages": 64, "queue_depth": 256,
    "stem_macs": 1024, "stem_pixels": (1 << 12) - 1,
    "port_reads": 64, "port_timeout": 1 << 24,
}
"""The largest value of some parameters: what instructions can name, or make use of."""


PARTS = {
    "row_sums": "sums of rows (pooling, GELU and weighted sums)",
    "row_moves": "moves of rows (windows and keys of LayerNorm's bits)",
    "exponentials": "shares of a sum of exponentials (softmax)",
    "score_biases": "biases of scores (relative positions, masked windows)",
    "bends": "bends (RPReLU)",
    "loops": "loops, calls and registers of programs",
}
"""Parameters that leave out a part of the machine, and what it is for."""


class ArchError(ValueError):
    """A combination of architecture parameters that cannot be built."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arch:
    """Parameters of one accelerator (depths in words, widths in bits).

    Parameters
    ----------
    rows, cols, lanes : int
        The array: `rows` tokens by `cols` output channels by `lanes` bits of K a cycle.
    tile_rows, tile_cols : int
        Processing elements in one mesh tile: operands are broadcast inside a tile and registered
        between tiles. They divide `rows` and `cols`.
    pop_stages : int
        Pipeline registers inside a popcount (1 or more).
    post_rows : int
        Rows that the arithmetic lanes and the vector unit take in one cycle; there are
        ``post_rows * cols`` lanes. A tile drains in ``ceil(rows / post_rows)`` cycles.
    count_bits : int
        Width of a mismatch count: the longest dot product is ``2**count_bits - 1``.
    acc_bits : int
        Width of a bit-plane sum ``sum(count << (i + j))``.
    resid_bits : int
        Width W of the residual stream.
    score_slots, score_tiles : int
        Slots of the score buffer, and score tiles in each.
    stem_macs : int
        8-bit multiply-accumulates a cycle of the stem engine; 0: none, the array does its work.
    stem_simd : {1, 2, 4}
        Pixels of a token that the engine takes a cycle; the others of `stem_macs` are channels.
    stem_pixels : int
        Most bytes of a token that the engine takes.
    queue_depth : int
        Instructions that wait in front of each unit.
    program_depth, weight_depth, ... : int
        Words of each memory, see :mod:`bivit.hw.memories`.
    weights : {"rom", "loaded", "streamed"}
        Whether the constant memories are initialised in the bitstream, written at start through
        the stream port, or (all but the program's) by FETCH from external memory.
    port_bits, port_burst, port_reads : int
        External memory (``docs/memory.md``): data bits of the port, beats of the longest burst,
        bursts in flight.
    port_timeout : int
        Cycles after which a memory that does not answer is an error.
    row_sums, row_moves, exponentials, score_biases, bends, loops : bool
        Whether there are the parts of the machine that not every network needs: ROWS_ADD and
        ROWS_OUT; MOVE; SOFTMAX by ABSOLUTE; the bias of MM_SCORE; the bend of MM_ACC; LOOP, END,
        SET and RETURN.
    fabric : {"generic", "ecp5", "nexus", "lut6-xc7", "lut6-xcup"}
        Whose cells the processing elements are made of (:mod:`bivit.hw.fabric`); generic ones are
        plain Verilog.
    """

    name: str
    rows: int
    cols: int
    lanes: int
    tile_rows: int = 1
    tile_cols: int = 1
    pop_stages: int = 1
    post_rows: int = 1
    count_bits: int = 13
    acc_bits: int = 28
    resid_bits: int = 16
    weights: str = "rom"
    port_bits: int = 64
    port_burst: int = 16
    port_reads: int = 4
    port_timeout: int = 4096
    fabric: str = "generic"
    stem_macs: int = 0
    stem_simd: int = 1
    stem_pixels: int = 768
    queue_depth: int = 8
    row_sums: bool = True
    row_moves: bool = True
    exponentials: bool = True
    score_biases: bool = True
    bends: bool = True
    loops: bool = True
    score_slots: int = 4
    score_tiles: int = 64
    program_depth: int = 2048
    weight_depth: int = 8192
    thr_depth: int = 1024
    scale_depth: int = 1024
    norm_depth: int = 1024
    pos_depth: int = 1024
    bend_depth: int = 256
    bias_depth: int = 256
    imem_depth: int = 512
    xmem_depth: int = 512
    hmem_depth: int = 1024
    pmem_depth: int = 256
    bmem_depth: int = 1024
    pv_depth: int = 128
    kmem_depth: int = 64
    resid_depth: int = 2048
    vmem_depth: int = 1024
    sums_depth: int = 64
    stem_depth: int = 2048
    stem_scale_depth: int = 512
    smem_depth: int = 2048

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type is bool and type(value) is not bool:
                raise ArchError(f"{field.name} of target {self.name} must be true or false, not "
                                f"{value!r}")
            least = 0 if field.name == "stem_macs" else 1
            if field.type is int and (type(value) is not int or value < least):
                raise ArchError(f"{field.name} of target {self.name} must be "
                                f"{'0 or ' * (not least)}a positive integer, not {value!r}")
        self._require(isinstance(self.name, str), "name must be a text")
        self._require(self.rows <= self.cols, "rows must be at most cols: a block of tokens is one "
                      "group of keys on the column side")
        self._require(self.cols <= self.lanes, "lanes must be at least cols: a word holds whole "
                      "column groups")
        self._require(self.lanes % 4 == 0, "lanes must be a multiple of 4, the bytes of a beat")
        self._require(self.rows % self.tile_rows == 0, "tile_rows must divide rows")
        self._require(self.cols % self.tile_cols == 0, "tile_cols must divide cols")
        self._require(self.post_rows <= self.rows, "post_rows must be at most rows")
        self._require(self.weights in WEIGHTS, f"weights must be one of {', '.join(WEIGHTS)}")
        self._check_port()
        self._require(self.weights != "streamed" or not self.stem_macs, "the constants of a stem "
                      "engine cannot be streamed; make weights rom or loaded, or stem_macs 0")
        self._require(self.stem_simd in STEM_SIMD,
                      f"stem_simd must be one of {', '.join(map(str, STEM_SIMD))}")
        self._require(self.stem_macs % self.stem_simd == 0,
                      "stem_macs must be a multiple of stem_simd, its pixels a cycle")
        self._require(self.fabric in FABRICS, f"fabric must be one of {', '.join(FABRICS)}")
        self._require(self.rows < 64, "rows must be below 64")
        self._require(self.cols < 256, "cols must be below 256")
        self._require(self.queue_depth >= 2, "queue_depth must be at least 2")
        self._require(self.score_slots <= 4, "score_slots must be at most 4")
        self._require(self.resid_bits <= 16, "resid_bits must be at most 16")
        self._require(self.program_depth <= 65536,
                      "program_depth must be at most 65536, the range of a program counter")
        self._require(self.sums_depth >= 2, "sums_depth must be at least 2")
        for field, largest in LARGEST.items():
            self._require(getattr(self, field) <= largest,
                          f"{field} must be at most {largest}")

    def _check_port(self):
        self._require(self.port_bits in PORT_BITS,
                      f"port_bits must be one of {', '.join(map(str, PORT_BITS))}")
        self._require(self.port_burst.bit_count() == 1, "port_burst must be a power of two")
        self._require(self.port_burst <= 256 and self.port_burst * self.port_bits <= 4096 * 8,
                      "port_burst must be at most 256 beats and 4 KiB")
        self._require(self.port_timeout >= 64, "port_timeout must be at least 64")

    def _require(self, condition, message):
        if not condition:
            raise ArchError(f"target {self.name}: {message}")

    # ---- what follows -------------------------------------------------------------------------

    @property
    def macs_per_cycle(self) -> int:
        """Binary multiply-accumulates in a cycle."""
        return self.rows * self.cols * self.lanes

    @property
    def drain_cycles(self) -> int:
        """Row groups in a block, and so cycles to drain one tile through the arithmetic lanes."""
        return -(-self.rows // self.post_rows)

    @property
    def stem_lanes(self) -> int:
        """Channels that a stem engine adds up at the same time."""
        return self.stem_macs // self.stem_simd

    @property
    def chunks_per_word(self) -> int:
        """Column groups of `cols` bits in the `lanes` bits of a word; the rest is zero."""
        return self.lanes // self.cols

    @property
    def blocks_per_key_group(self) -> int:
        """Token blocks (of `rows`) in one group of keys on the column side."""
        return self.cols // self.rows

    @property
    def keys_per_group(self) -> int:
        """Keys in one score tile; columns past it are padding."""
        return self.blocks_per_key_group * self.rows

    @property
    def key_groups_per_word(self) -> int:
        """Score tiles whose bits share one word along the keys."""
        return self.lanes // self.keys_per_group

    @property
    def blocks_per_key_word(self) -> int:
        """Token blocks in one word along the keys."""
        return self.key_groups_per_word * self.blocks_per_key_group
