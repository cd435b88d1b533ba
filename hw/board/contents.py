"""What a board is filled with: ROM images in the bitstream, or packets to load."""

import pathlib

from bivit.hw.arch import Arch
from bivit.hw.board.controller import NETWORK_FILE
from bivit.hw.board.identity import network_hash
from bivit.hw.memories import BEAT_BITS, beats_per_word, constant_memories

__all__ = ["packets", "write_roms"]


def packets(arch: Arch, memories: dict[str, list[int]]) -> list[bytes]:
    """The beats of each constant memory, in the order of their numbers."""
    return [b"".join(word.to_bytes(beats_per_word(size.width) * BEAT_BITS // 8, "little")
                     for word in memories[name])
            for name, size in constant_memories(arch).items()]


def write_roms(folder: pathlib.Path, arch: Arch, memories: dict[str, list[int]]) -> None:
    """``rom/*.hex`` below `folder`, with the hash of the network."""
    (folder / "rom").mkdir(parents=True, exist_ok=True)
    for name, words in memories.items():
        (folder / "rom" / f"{name}.hex").write_text("".join(f"{word:x}\n" for word in words))
    (folder / NETWORK_FILE).write_text(f"{network_hash(arch, memories):016x}\n")
