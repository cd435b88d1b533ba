"""Orders of channels in words: chunks along K, heads, tiles, and runs of tiles."""

import dataclasses
import functools
import itertools

import numpy as np

from bivit.compiler.structures import CompileError, Form
from bivit.hw.arch import Arch

__all__ = ["Run", "bit_positions", "head_chunks", "head_of", "key_form", "pieces_of",
           "plain_chunks", "query_form", "runs", "value_form"]


@dataclasses.dataclass(frozen=True)
class Run:
    """Tiles that one instruction can write: full but for the last, in the order of channels.

    Parameters
    ----------
    chunk : int
        Chunk position of the first tile.
    tile : int
        Number of tiles that come before, in all runs.
    tiles : tuple of (first channel, count)
    """

    chunk: int
    tile: int
    tiles: tuple[tuple[int, int], ...]

    @property
    def channels(self) -> tuple[int, int]:
        """First channel, channel behind the last."""
        return self.tiles[0][0], sum(self.tiles[-1])


def plain_chunks(arch: Arch, channels: int, first: int = 0):
    """Chunks of consecutive channels."""
    return tuple((first + start, min(arch.cols, channels - start))
                 for start in range(0, channels, arch.cols))


def head_chunks(arch: Arch, heads: int, chunks):
    """Heads behind each other, each padded to whole words, all to equally many.

    `chunks` are those of all channels; no chunk belongs to two heads.
    """
    own = [[] for _ in range(heads)]
    width = sum(chunks[-1]) // heads
    for first, count in chunks:
        own[first // width].append((first, count))
    sizes = {-(-len(head) // arch.chunks_per_word) for head in own}
    if len(sizes) > 1:
        raise CompileError(f"heads of {width} channels are cut into different numbers of words, "
                           "because other layers cut these channels elsewhere; make the heads a "
                           f"multiple of {arch.cols} channels wide")
    words = sizes.pop()
    padded = [(0, 0)] * (words * arch.chunks_per_word)
    placed = [head + padded[len(head):] for head in own]
    placed[-1] = own[-1]
    return tuple(chunk for head in placed for chunk in head)


def query_form(arch: Arch, heads: int, chunks) -> Form:
    """Queries: heads on whole words."""
    return Form("rows", head_chunks(arch, heads, chunks))


def key_form(arch: Arch, heads: int, chunks, windows: int) -> Form:
    """Keys: heads on whole words."""
    return Form("keys", head_chunks(arch, heads, chunks), heads, windows)


def value_form(heads: int, chunks, windows: int, zeros=()) -> Form:
    """Values: the tiles of all heads, behind each other."""
    return Form("values", tuple(chunks), heads, windows, zeros if any(zeros) else ())


def head_of(form: Form) -> tuple[int, ...]:
    """The head of every chunk, that of the one before for an empty chunk."""
    width, found = sum(max(form.chunks)) // form.heads, []
    for first, count in form.chunks:
        found.append(first // width if count else found[-1])
    return tuple(found)


def runs(arch: Arch, chunks, limit: int, breaks=()) -> tuple[Run, ...]:
    """Split chunks where something is missing between them, and after `limit` tiles.

    `breaks` are chunk positions where a new run must start.
    """
    return _runs(arch.cols, tuple(chunks), limit, frozenset(breaks))


@functools.lru_cache(1024)
def _runs(cols, chunks, limit, breaks):
    """Blocks of tokens are all cut in the same way."""
    result, tiles = [], []
    for position, (first, count) in enumerate(chunks):
        if not count:
            continue
        if (tiles and result[-1][0] + len(tiles) == position and len(tiles) < limit
                and position not in breaks and tiles[-1][1] == cols and sum(tiles[-1]) == first):
            tiles.append((first, count))
        else:
            tiles = [(first, count)]
            result.append((position, tiles))
    before = itertools.accumulate((len(tiles) for _, tiles in result), initial=0)
    return tuple(Run(chunk, tile, tuple(tiles))
                 for (chunk, tiles), tile in zip(result, before, strict=False))


def bit_positions(arch: Arch, chunks) -> np.ndarray:
    """Position along K of every channel of `chunks`, in the order of channels."""
    positions = {}
    for chunk, (first, count) in enumerate(chunks):
        word, place = divmod(chunk, arch.chunks_per_word)
        positions |= {first + i: word * arch.lanes + place * arch.cols + i for i in range(count)}
    return np.array([positions[channel] for channel in range(len(positions))], np.int64)


def pieces_of(arch: Arch, chunks):
    """Pieces of an :class:`Observe` of whole chunks, None where channels follow each other."""
    if all(count == arch.cols for _, count in chunks[:-1]):
        return None
    return tuple((tile * arch.cols, first, count) for tile, (first, count) in enumerate(chunks))
