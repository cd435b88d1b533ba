"""What the instructions of the instruction-set simulator act on: memories, constants, streams."""

import functools

import numpy as np

from bivit.hw.blocks.checks import ErrorCode, count_limits
from bivit.hw.isa import UNIT_OF, WAIT_FIELDS, Destination, Opcode, Unit
from bivit.sim.memory_state import (
    A_MEMORIES,
    MemoryState,
    constant_parameters,
    read_words,
    unpack_bits,
    unpack_numbers,
    word_indices,
)

__all__ = ["Machine", "MachineError"]


class MachineError(RuntimeError):
    """The machine stops with an error code.

    Attributes
    ----------
    code : int
        As in the ERROR register.
    program_counter : int
    """

    def __init__(self, code, program_counter, reason):
        super().__init__(f"the machine stops at instruction {program_counter} with error {code}: "
                         f"{reason}")
        self.code, self.program_counter = code, program_counter


class Machine:
    """Memories, unpacked constants, and the streams of the images in work.

    Parameters
    ----------
    arch : Arch
    constants : dict of str to sequence of int
    """

    def __init__(self, arch, constants):
        self.arch = arch
        words = {name: constants.get(name, ()) for name in ("weight", "thr", "scale", "norm",
                                                            "pos")}
        self.weight = unpack_bits(words["weight"], arch.cols * arch.lanes).reshape(
            -1, arch.cols, arch.lanes)
        parameter = (16, True), (24, True)
        self.thr, self.flip = constant_parameters(
            words["thr"], arch.cols, (arch.count_bits + 1, True), (1, False))
        self.scale, self.scale_bias = constant_parameters(words["scale"], arch.cols, *parameter)
        self.norm_scale, self.norm_bias = constant_parameters(words["norm"], arch.cols, *parameter)
        numbers = arch.post_rows * arch.cols
        self.pos = unpack_numbers(
            unpack_bits(words["pos"], numbers * arch.resid_bits).reshape(
                -1, arch.post_rows, arch.cols, arch.resid_bits), True)
        self.weight_columns = functools.cache(self._weight_columns)

    def start(self, streams, left):
        """Begin a program for a batch: its input streams, and what the last image left."""
        self.streams = streams
        self.state = MemoryState(self.arch, len(streams))
        for name, array in self.state.arrays().items():
            array[:] = getattr(left, name)
        slots, tiles = self.arch.score_slots, self.arch.score_tiles
        self.scores = np.zeros(
            (len(streams), slots * tiles, self.arch.rows, self.arch.cols), np.float32)
        self.minimum = np.zeros((len(streams), slots, self.arch.rows), np.float32)
        self.outputs = []
        self.position = 0
        self.program_counter = 0
        self.dispatched = dict.fromkeys(Unit, 0)

    def parameters(self, array, depth, first, count):
        """`count` parameter words (count, cols) of a constant memory, from address `first`."""
        indices = word_indices(depth, first, count)
        if isinstance(indices, slice) and indices.stop <= len(array):
            return array[indices]
        if isinstance(indices, slice):
            indices = np.arange(indices.start, indices.stop)
        present = indices < len(array)
        words = np.zeros((count, *array.shape[1:]), array.dtype)
        words[present] = array[indices[present]]
        return words

    def _weight_columns(self, first, tiles, planes, k_words):
        """Weights as :func:`columns_of` gives them, and as signs (K, columns) with their ones."""
        words = self.parameters(self.weight, self.arch.weight_depth, first,
                                tiles * planes * k_words)
        columns = columns_of(words[None], tiles, planes, k_words)[0]
        signs = np.ascontiguousarray((2 * columns - (2**planes - 1)).T)
        return signs, columns.sum(1, dtype=np.float64)

    def columns(self, fields, planes):
        """Operand B from BMEM, (images, columns, K)."""
        tiles, k_words = fields["n_tiles"], fields["k_words"]
        words = read_words(self.state.bmem, fields["b_addr"], tiles * planes * k_words)
        return columns_of(words, tiles, planes, k_words)

    def rows(self, fields, planes):
        """Operand A, bits summed over planes: float32 (images, rows, K)."""
        arch, k_words = self.arch, fields["k_words"]
        memory = getattr(self.state, A_MEMORIES[fields["a_src"]])
        words = read_words(memory, fields["a_addr"], planes * k_words)
        words = words.reshape(-1, planes, k_words, arch.rows, arch.lanes)
        total = weighted_planes(words).transpose(0, 2, 1, 3)
        return total.reshape(len(words), arch.rows, k_words * arch.lanes)

    def check(self, opcode, fields):
        """Stop where the sequencer does: wrong counts, waits for what was never dispatched."""
        limits = count_limits(self.arch, opcode)
        values = {name: fields[name] for name in limits}
        if opcode is Opcode.MM_BITS and fields["dst"] != Destination.V.value:
            values.pop("rows")
        for name, value in values.items():
            limit = limits[name]
            if value < 1 or limit is not None and value > limit:
                raise MachineError(ErrorCode.COUNT.value, self.program_counter,
                                   f"{name} is {value}")
        if opcode is Opcode.LOAD and fields["row"] + fields["tokens"] > self.arch.rows:
            raise MachineError(ErrorCode.COUNT.value, self.program_counter,
                               f"row + tokens is {fields['row'] + fields['tokens']}")
        for unit, name in WAIT_FIELDS.items():
            if fields[name] > self.dispatched[unit]:
                raise MachineError(ErrorCode.WAIT.value, self.program_counter,
                                   f"{name} is {fields[name]}")
        self.dispatched[UNIT_OF[opcode]] += 1


def weighted_planes(words):
    """``sum(bit << plane)`` over axis 1, float32."""
    if words.shape[1] == 1:
        return words[:, 0].astype(np.float32)
    total = words[:, 0].astype(np.float32)
    for plane in range(1, words.shape[1]):
        total += np.float32(1 << plane) * words[:, plane]
    return total


def columns_of(words, tiles, planes, k_words):
    """B words (images, count, cols, lanes) to ``sum(bit << j)``, float32 (images, columns, K)."""
    images, _, cols, lanes = words.shape
    words = words.reshape(images * tiles, planes, k_words, cols, lanes)
    total = weighted_planes(words).transpose(0, 2, 1, 3)
    return total.reshape(images, tiles * cols, k_words * lanes)
