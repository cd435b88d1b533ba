"""Orders of channels in words: chunks along K, heads, tiles, and runs of tiles."""

import dataclasses

import numpy as np

from bivit.compiler.structures import Form
from bivit.hw.arch import Arch

__all__ = ["Run", "bit_positions", "head_chunks", "key_form", "packed_heads", "plain_chunks",
           "runs", "value_form"]


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


def packed_heads(arch: Arch, heads: int, channels: int):
    """Heads behind each other, each padded to whole chunks."""
    width = channels // heads
    return tuple(chunk for head in range(heads)
                 for chunk in plain_chunks(arch, width, head * width))


def head_chunks(arch: Arch, heads: int, channels: int):
    """Heads behind each other, each padded to whole words."""
    width = channels // heads
    chunks = []
    for head in range(heads):
        own = plain_chunks(arch, width, head * width)
        padding = -len(own) % arch.chunks_per_word if head + 1 < heads else 0
        chunks += own + ((0, 0),) * padding
    return tuple(chunks)


def key_form(arch: Arch, heads: int, channels: int) -> Form:
    """Keys: heads on whole words."""
    return Form("keys", head_chunks(arch, heads, channels), heads)


def value_form(arch: Arch, heads: int, channels: int) -> Form:
    """Values: the tiles of all heads, behind each other."""
    return Form("values", packed_heads(arch, heads, channels), heads)


def runs(arch: Arch, chunks, limit: int, breaks=()) -> tuple[Run, ...]:
    """Split chunks where something is missing between them, and after `limit` tiles.

    `breaks` are chunk positions where a new run must start.
    """
    result, tile = [], 0
    for position, (first, count) in enumerate(chunks):
        if not count:
            continue
        last = result[-1] if result else None
        if (last and last.chunk + len(last.tiles) == position and len(last.tiles) < limit
                and position not in breaks and last.tiles[-1][1] == arch.cols
                and sum(last.tiles[-1]) == first):
            result[-1] = dataclasses.replace(last, tiles=last.tiles + ((first, count),))
        else:
            result.append(Run(position, tile, ((first, count),)))
        tile += 1
    return tuple(result)


def bit_positions(arch: Arch, chunks) -> np.ndarray:
    """Position along K of every channel of `chunks`, in the order of channels."""
    positions = {}
    for chunk, (first, count) in enumerate(chunks):
        word, place = divmod(chunk, arch.chunks_per_word)
        positions |= {first + i: word * arch.lanes + place * arch.cols + i for i in range(count)}
    return np.array([positions[channel] for channel in range(len(positions))], np.int64)
