"""What goes over the line between host and board (``docs/boards.md``)."""

import enum
import struct
import zlib
from typing import NamedTuple

__all__ = ["ANSWER", "BAUD", "DATA_WORDS", "ESCAPE", "ESCAPE_BIT", "FLAG", "Frame", "FrameReader",
           "Identity", "Kind", "LOGITS", "MAX_WORDS", "PAYLOAD_WORDS", "Status", "TOP", "VERSION",
           "frame_bytes", "next_sequence"]

VERSION = 1
"""Of the protocol."""
BAUD = 1_000_000
"""Bits per second of a board's line: a whole number of cycles at 12, 25 and 27 MHz."""
TOP = "board_top"
"""The Verilog module of a board: ``clk``, ``uart_rx``, ``uart_tx``."""
FLAG, ESCAPE, ESCAPE_BIT = 0x7E, 0x7D, 0x20
MAX_WORDS = 128
"""Words of the longest payload."""
DATA_WORDS = MAX_WORDS - 1
"""Words of data in the longest DATA."""
LOGITS = 120
"""Logits in the longest answer to RESULT."""
ANSWER = 0x80
"""What an answer's kind has more than its request's."""


class Kind(enum.IntEnum):
    """Requests."""

    IDENTIFY = 1
    READ = 2
    IMAGE = 3
    MEMORY = 4
    DATA = 5
    RESULT = 6
    COMMIT = 7


class Status(enum.IntEnum):
    """First word of an answer: 0, or why the request was refused."""

    OK = 0
    UNKNOWN = 1
    LENGTH = 2
    SEQUENCE = 3
    ORDER = 4
    EMPTY = 5
    FIXED = 6
    MACHINE = 7
    STALLED = 8


PAYLOAD_WORDS = {Kind.IDENTIFY: 0, Kind.READ: 1, Kind.IMAGE: 2, Kind.MEMORY: 2, Kind.RESULT: 1,
                 Kind.COMMIT: 2}
"""Words that a request has; DATA has a position and 1 to ``DATA_WORDS`` words."""


class Identity(NamedTuple):
    """The words of an answer to IDENTIFY; hashes are two words, the lower one first."""

    protocol: int
    max_words: int
    target_low: int
    target_high: int
    network_low: int
    network_high: int
    geometry: int
    lanes: int
    clock_hz: int
    baud: int
    loaded: int

    @property
    def target(self) -> int:
        """Hash of the target."""
        return self.target_low | self.target_high << 32

    @property
    def network(self) -> int:
        """Hash of the network, 0 if none is loaded."""
        return self.network_low | self.network_high << 32


class Frame(NamedTuple):
    """A frame that arrived whole."""

    kind: int
    sequence: int
    words: tuple[int, ...]


def next_sequence(sequence: int) -> int:
    """The number of the request after the one with this number."""
    return (sequence + 1) & 0xFF


def frame_bytes(kind: int, sequence: int, words=()) -> bytes:
    """A frame as it goes over the line.

    >>> frame_bytes(Kind.IDENTIFY, 0).hex()
    '7e0100000018bd20927e'
    """
    content = struct.pack(f"<{len(words) + 1}I", kind | sequence << 8 | len(words) << 16, *words)
    content += struct.pack("<I", zlib.crc32(content))
    for byte in (ESCAPE, FLAG):
        content = content.replace(bytes([byte]), bytes([ESCAPE, byte ^ ESCAPE_BIT]))
    return bytes([FLAG]) + content + bytes([FLAG])


class FrameReader:
    """Finds the frames in bytes that come in pieces, and drops everything that is no whole one."""

    def __init__(self):
        self._pending = b""
        self._inside = False  # a FLAG was seen

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that end in `data`."""
        *ended, rest = data.split(bytes([FLAG]))
        found = []
        for part in ended:
            frame = _parse(self._pending + part) if self._inside else None
            if frame is not None:
                found.append(frame)
            self._pending, self._inside = b"", True
        if self._inside:
            self._pending += rest
            if len(self._pending) > 2 * 4 * (MAX_WORDS + 2):
                self._pending, self._inside = b"", False
        return found


def _parse(stuffed):
    content, escaped = bytearray(), False
    for byte in stuffed:
        if byte == ESCAPE:
            if escaped:
                return None
            escaped = True
        else:
            content.append(byte ^ ESCAPE_BIT if escaped else byte)
            escaped = False
    if escaped or len(content) < 8 or len(content) % 4 or len(content) > 4 * (MAX_WORDS + 2):
        return None
    head, *words, crc = struct.unpack(f"<{len(content) // 4}I", content)
    if crc != zlib.crc32(content[:-4]) or head >> 16 != len(words):
        return None
    return Frame(head & 0xFF, head >> 8 & 0xFF, tuple(words))
