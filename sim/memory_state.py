"""The memories of the machine, unpacked into arrays, and the conversion of words.

Every array has the images of a batch as its first axis, then the word address. What the array
holds after that follows the word layout of ``docs/architecture.md`` section 2.
"""

import functools

import numpy as np

from bivit.hw.memories import memories

__all__ = ["A_MEMORIES", "B_MEMORIES", "MOVE_MEMORIES", "NUMBER_MEMORIES", "MemoryState",
           "constant_parameters", "number_places", "present_places", "read_numbers", "read_rows",
           "read_words", "unpack_bits", "unpack_numbers", "word_index", "word_indices",
           "write_numbers", "write_rows", "write_words"]

A_MEMORIES = ("imem", "xmem", "hmem", "pmem")
"""The memories that feed the rows of the array, by the number of :class:`isa.ASource`."""
B_MEMORIES = {1: "bmem", 2: "kmem"}
"""The memories that feed its columns besides the weights, by that of :class:`isa.BSource`."""
NUMBER_MEMORIES = ("resid", "vmem")
"""What the vector unit reads numbers from, by that of :class:`isa.NumberSource`."""
MOVE_MEMORIES = ("xmem", "hmem")
"""What MOVE reads, by that of :class:`isa.MoveSource`."""


class MemoryState:
    """The writable memories for a batch of images, all zero at first.

    Attributes
    ----------
    imem, xmem, hmem, pmem : uint8 array (batch, depth, rows, lanes)
        With a stem engine, IMEM is one word that stays zero.
    bmem, kmem : uint8 array (batch, depth, cols, lanes)
    resid, vmem : int32 array (batch, depth, post_rows, cols)
    smem : int32 array (batch, depth, post_rows, cols)
        With a stem engine.
    sums : int64 array (batch, depth, post_rows, cols)
    pv : int32 array (batch, depth, cols)
    """

    def __init__(self, arch, batch):
        for name in A_MEMORIES:
            shape = (batch, _depth(arch, name), arch.rows, arch.lanes)
            setattr(self, name, np.zeros(shape, np.uint8))
        for name in B_MEMORIES.values():
            shape = (batch, getattr(arch, f"{name}_depth"), arch.cols, arch.lanes)
            setattr(self, name, np.zeros(shape, np.uint8))
        for name in (*NUMBER_MEMORIES, "smem")[:3 if arch.stem_macs else 2]:
            shape = (batch, _depth(arch, name), arch.post_rows, arch.cols)
            setattr(self, name, np.zeros(shape, np.int32))
        self.sums = np.zeros((batch, arch.sums_depth, arch.post_rows, arch.cols), np.int64)
        self.pv = np.zeros((batch, arch.pv_depth, arch.cols), np.int32)

    def arrays(self):
        """Memory name to array."""
        return dict(vars(self))

    def first(self, count):
        """The memories of the first `count` images, not copied."""
        part = object.__new__(MemoryState)
        for name, array in self.arrays().items():
            setattr(part, name, array[:count])
        return part

    @staticmethod
    def bytes_per_image(arch) -> int:
        """Memory that one more image in the batch takes."""
        row_words, column_words, number_words = (
            sum(_depth(arch, name) for name in names)
            for names in (A_MEMORIES, B_MEMORIES.values(), (*NUMBER_MEMORIES, "smem")))
        return ((row_words * arch.rows + column_words * arch.cols) * arch.lanes
                + 4 * arch.cols * (number_words * arch.post_rows + arch.pv_depth)
                + 8 * arch.cols * arch.post_rows * arch.sums_depth)


def _depth(arch, name):
    """Words of a memory of the simulator."""
    if name in memories(arch):
        return memories(arch)[name].depth
    return 1 if name == "imem" else 0


def word_indices(depth, first, count):
    """Addresses `first` to ``first + count - 1`` as hardware sees them.

    A slice where they lie in the memory; else the addresses truncated to the memory's address
    width, of which those past the depth are for the caller to treat as absent.
    """
    if first + count <= depth:
        return slice(first, first + count)
    mask = (1 << (depth - 1).bit_length()) - 1
    return (first + np.arange(count)) & mask


def word_index(depth, address):
    """The one address that hardware sees, or None past the depth."""
    address &= (1 << (depth - 1).bit_length()) - 1
    return address if address < depth else None


def read_words(memory, first, count):
    """Words from address `first` of `memory` (batch, depth, ...); zero past the depth."""
    indices = word_indices(memory.shape[1], first, count)
    if isinstance(indices, slice):
        return memory[:, indices]
    present = indices < memory.shape[1]
    words = memory[:, np.where(present, indices, 0)]
    words[:, ~present] = 0
    return words


def write_words(memory, first, words):
    """Put `words` (batch, count, ...) at address `first`; nothing past the depth."""
    indices = word_indices(memory.shape[1], first, words.shape[1])
    if not isinstance(indices, slice):
        present = indices < memory.shape[1]
        indices, words = indices[present], words[:, present]
    memory[:, indices] = words


def present_places(depth, addresses, parts, part):
    """Where parts of words lie in a memory seen as (depth * parts, ...).

    Parameters
    ----------
    depth, parts : int
        Words of the memory, equal parts of a word.
    addresses, part : int array
        Word addresses, of which the memory takes the lowest bits; which part of the word.

    Returns
    -------
    tuple of int array, bool array
        Places, 0 past the depth; whether they exist.
    """
    addresses = addresses & ((1 << (depth - 1).bit_length()) - 1)
    exists = addresses < depth
    return np.where(exists, addresses * parts + part, 0), exists


@functools.cache
def number_places(arch, depth, first, tiles, rows):
    """Places (rows * tiles) of the numbers of a block, as :func:`present_places` gives them.

    Parameters
    ----------
    arch : Arch
    depth, first : int
        Words of the memory; the one of tile 0.
    tiles : int
    rows : tuple (int, int)
        First row of the block, row behind the last.
    """
    row = np.arange(*rows)[:, None]
    words = first + np.arange(tiles) * arch.drain_cycles + row // arch.post_rows
    places, exists = present_places(depth, words, arch.post_rows, row % arch.post_rows)
    return places.ravel(), exists.ravel()


def read_rows(memory, places, exists):
    """Parts of words (images, *places.shape, width); zero where they do not exist."""
    parts = memory.reshape(len(memory), -1, memory.shape[-1])
    found = np.take(parts, places.ravel(), axis=1)
    if not exists.all():
        found[:, ~exists.ravel()] = 0
    return found.reshape(len(memory), *places.shape, memory.shape[-1])


def write_rows(memory, places, exists, rows):
    """Put parts of words (images, *places.shape, width) there; nothing that does not exist."""
    places, rows = places.ravel(), rows.reshape(len(memory), -1, memory.shape[-1])
    if not exists.all():
        exists = exists.ravel()
        places, rows = places[exists], rows[:, exists]
    memory.reshape(len(memory), -1, memory.shape[-1])[:, places] = rows


def read_numbers(arch, memory, first, tiles, rows):
    """Numbers of a block (images, rows, tiles * cols); zero past the depth."""
    numbers = read_rows(memory, *number_places(arch, memory.shape[1], first, tiles, rows))
    return numbers.reshape(len(memory), -1, tiles * arch.cols)


def write_numbers(arch, memory, first, tiles, rows, numbers):
    """Put `numbers` (images, rows, tiles * cols) there; nothing past the depth."""
    write_rows(memory, *number_places(arch, memory.shape[1], first, tiles, rows), numbers)


def unpack_bits(words, width):
    """Integers to an array (len(words), width) of bits, lowest first."""
    size = -(-width // 8)
    packed = b"".join(int(word).to_bytes(size, "little") for word in words)
    packed = np.frombuffer(packed, np.uint8).reshape(len(words), size)
    return np.unpackbits(packed, axis=1, bitorder="little", count=width)


def unpack_numbers(bits, signed):
    """Bits (..., width), lowest first, to int64 numbers."""
    width = bits.shape[-1]
    weights = np.int64(1) << np.arange(width, dtype=np.int64)
    if signed:
        weights[-1] = -weights[-1]
    return bits.astype(np.int64) @ weights


def constant_parameters(words, cols, *fields):
    """Parameter words to one array (len(words), cols) for each field.

    Parameters
    ----------
    words : sequence of int
    cols : int
    fields : tuples (width, signed), the lowest first
    """
    width = sum(field[0] for field in fields)
    bits = unpack_bits(words, cols * width).reshape(len(words), cols, width)
    arrays, position = [], 0
    for size, signed in fields:
        arrays.append(unpack_numbers(bits[..., position:position + size], signed))
        position += size
    return arrays
