"""What a board says it is: hashes of target and network."""

import dataclasses
import hashlib
import json

from bivit.hw.arch import Arch
from bivit.hw.board.protocol import MAX_WORDS, VERSION, Identity

__all__ = ["identity", "network_hash", "target_hash"]

_BYTES = 8


def target_hash(arch: Arch) -> int:
    """First 8 bytes of the SHA-256 of a target's parameters."""
    return _hash(json.dumps(dataclasses.asdict(arch), sort_keys=True).encode())


def network_hash(arch: Arch, memories: dict[str, list[int]]) -> int:
    """First 8 bytes of the SHA-256 of a target and the words of its constant memories by name."""
    content = {"target": dataclasses.asdict(arch),
               "memories": {name: [f"{word:x}" for word in words]
                            for name, words in memories.items()}}
    return _hash(json.dumps(content, sort_keys=True).encode())


def identity(arch: Arch, *, clock_hz: int, baud: int, network: int = 0) -> Identity:
    """What the board of a target answers to IDENTIFY."""
    target, half = target_hash(arch), (1 << 32) - 1
    return Identity(
        protocol=VERSION, max_words=MAX_WORDS,
        target_low=target & half, target_high=target >> 32,
        network_low=network & half, network_high=network >> 32,
        geometry=arch.rows | arch.cols << 16, lanes=arch.lanes, clock_hz=clock_hz, baud=baud,
        loaded=int(arch.weights == "loaded"))


def _hash(content):
    return int.from_bytes(hashlib.sha256(content).digest()[:_BYTES], "little")
