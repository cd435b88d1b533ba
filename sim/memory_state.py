"""The memories of the machine, unpacked into arrays, and the conversion of words.

Every array has the images of a batch as its first axis, then the word address. What the array
holds after that follows the word layout of ``docs/architecture.md`` section 2.
"""

import functools

import numpy as np

__all__ = ["A_MEMORIES", "MemoryState", "constant_parameters", "number_places", "read_numbers",
           "read_words", "unpack_bits",
           "unpack_numbers", "word_index", "word_indices",
           "write_numbers", "write_words"]

A_MEMORIES = ("imem", "xmem", "hmem", "pmem")
"""The memories that feed the rows of the array."""


class MemoryState:
    """The writable memories for a batch of images, all zero at first.

    Attributes
    ----------
    imem, xmem, hmem, pmem : uint8 array (batch, depth, rows, lanes)
    bmem : uint8 array (batch, depth, cols, lanes)
    resid : int32 array (batch, depth, post_rows, cols)
    pv : int32 array (batch, depth, cols)
    """

    def __init__(self, arch, batch):
        for name in A_MEMORIES:
            shape = (batch, getattr(arch, f"{name}_depth"), arch.rows, arch.lanes)
            setattr(self, name, np.zeros(shape, np.uint8))
        self.bmem = np.zeros((batch, arch.bmem_depth, arch.cols, arch.lanes), np.uint8)
        self.resid = np.zeros((batch, arch.resid_depth, arch.post_rows, arch.cols), np.int32)
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
        row_words = sum(getattr(arch, f"{name}_depth") for name in A_MEMORIES)
        return (row_words * arch.rows * arch.lanes + arch.bmem_depth * arch.cols * arch.lanes
                + 4 * arch.cols * (arch.resid_depth * arch.post_rows + arch.pv_depth))


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


@functools.cache
def number_places(arch, depth, first, tiles, rows):
    """Where the numbers of a block lie in a memory of numbers (RESID or POS).

    Parameters
    ----------
    arch : Arch
    depth, first : int
        Words of the memory; the one of tile 0.
    tiles : int
    rows : tuple (int, int)
        First row of the block, row behind the last.

    Returns
    -------
    tuple of int array, bool array
        For each row and tile, place in the memory seen as (depth * post_rows, cols), 0 past the
        depth; whether it exists.
    """
    words = (first + np.arange(tiles * arch.drain_cycles)) & ((1 << (depth - 1).bit_length()) - 1)
    row = np.arange(*rows)[:, None]
    words = words[np.arange(tiles) * arch.drain_cycles + row // arch.post_rows]
    exists = words < depth
    places = np.where(exists, words * arch.post_rows + row % arch.post_rows, 0)
    return places.ravel(), exists.ravel()


def read_numbers(arch, memory, first, tiles, rows):
    """Numbers of a block (images, rows, tiles * cols); zero past the depth."""
    places, exists = number_places(arch, memory.shape[1], first, tiles, rows)
    numbers = np.take(memory.reshape(len(memory), -1, arch.cols), places, axis=1)
    if not exists.all():
        numbers[:, ~exists] = 0
    return numbers.reshape(len(memory), -1, tiles * arch.cols)


def write_numbers(arch, memory, first, tiles, rows, numbers):
    """Put `numbers` (images, rows, tiles * cols) there; nothing past the depth."""
    places, exists = number_places(arch, memory.shape[1], first, tiles, rows)
    numbers = numbers.reshape(len(memory), -1, arch.cols)
    if not exists.all():
        places, numbers = places[exists], numbers[:, exists]
    memory.reshape(len(memory), -1, arch.cols)[:, places] = numbers


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
