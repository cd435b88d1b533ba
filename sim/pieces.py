"""Pieces of bits behind each other along the lanes of words."""

from bivit.sim.memory_state import word_index

__all__ = ["place_pieces"]

_POSITIONS = 256
"""A position is a field of 8 bits."""


def place_pieces(memory, address, position, bits, width):
    """Write pieces of `width` bits behind each other, from a place in a word on.

    A piece at position 0 clears the rest of its word.

    Parameters
    ----------
    memory : array (images, depth, rows, lanes)
        May be a view of some rows.
    address, position : int
        Word and place in it of the first piece.
    bits : array (images, rows, count * width)
    width : int
    """
    per_word = memory.shape[-1] // width
    count, done = bits.shape[-1] // width, 0
    if position >= per_word:  # such pieces have no place, until the position wraps to 0
        done, position = _POSITIONS - position, 0
    while done < count:
        here = min(per_word - position, count - done)
        index = word_index(memory.shape[1], address & 0xFFFF)
        if index is not None:
            word, end = memory[:, index], (position + here) * width
            if position == 0:
                word[..., end:] = 0
            word[..., position * width:end] = bits[..., done * width:(done + here) * width]
        done, position, address = done + here, 0, address + 1
