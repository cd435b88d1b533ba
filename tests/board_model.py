"""A board in Python: what it answers to bytes on the line, with a machine that adds up."""

import zlib

from bivit.hw.blocks.registers import ADDRESSES, ID
from bivit.hw.board.identity import identity
from bivit.hw.board.protocol import (
    ANSWER,
    DATA_WORDS,
    LOGITS,
    PAYLOAD_WORDS,
    FrameReader,
    Kind,
    Status,
    frame_bytes,
    next_sequence,
)
from bivit.hw.memories import constant_order

__all__ = ["BoardModel", "logits_of"]

CLOCK_HZ, BAUD = 4_000_000, 1_000_000
MASK = (1 << 32) - 1


def logits_of(data: bytes, count: int) -> list[int]:
    """What the machine makes of an image."""
    return [(zlib.crc32(data, index) + index) & MASK for index in range(count)]


class BoardModel:
    """What `docs/boards.md` says of a board, one request at a time.

    Parameters
    ----------
    arch : Arch
    network : int
        Hash of the network in ROM.
    count : int
        Logits of an image.
    slow : int
        RESULTs that are answered without logits first.
    fails : set of int
        Numbers of the runs (from 0) that end with an error of the machine.
    """

    def __init__(self, arch, *, network=0, count=10, slow=0, fails=()):
        self.arch, self.network, self.count = arch, network, count
        self.slow, self.fails, self.runs = slow, set(fails), 0
        self.memories = {}
        self.reader, self.answer, self.sequence, self.synced = FrameReader(), b"", 0, False
        self.open = self.whole = False
        self.target, self.bytes, self.total, self.number, self.logits = None, b"", 0, 0, []

    def feed(self, data: bytes) -> bytes:
        """What the board says while it hears `data`."""
        return b"".join(self.request(frame) for frame in self.reader.feed(data))

    def request(self, frame) -> bytes:
        """The answer to a whole frame."""
        identify = frame.kind == Kind.IDENTIFY
        if self.synced and not identify and frame.sequence == self.sequence:
            return self.answer
        in_order = identify or self.synced and frame.sequence == next_sequence(self.sequence)
        self.synced, self.sequence = in_order, frame.sequence
        words = self.execute(frame) if in_order else [Status.SEQUENCE, 0]
        self.answer = frame_bytes(frame.kind | ANSWER, frame.sequence, words)
        return self.answer

    def execute(self, frame):
        """Words of the answer."""
        if frame.kind not in list(Kind):
            return [Status.UNKNOWN, 0]
        kind, words = Kind(frame.kind), frame.words
        fits = (2 <= len(words) <= DATA_WORDS + 1 if kind is Kind.DATA
                else len(words) == PAYLOAD_WORDS[kind])
        return getattr(self, kind.name.lower())(*words) if fits else [Status.LENGTH, 0]

    def identify(self):
        own = identity(self.arch, clock_hz=CLOCK_HZ, baud=BAUD, network=self.network)
        return [Status.OK, *own]

    def read(self, address):
        values = {ADDRESSES["ID"]: ID}
        return [Status.OK, values.get(address, 0)]

    def image(self, number, length):
        self.number, self.target = number, "image"
        if self.arch.weights == "loaded" and not self.network:
            self._begin(0)
            return [Status.EMPTY, 0]
        return self._begin(length)

    def memory(self, number, length):
        if self.arch.weights == "rom":
            return [Status.FIXED, 0]
        self.network = 0
        if number >= len(constant_order):
            self._begin(0)
            return [Status.UNKNOWN, 0]
        self.target = constant_order[number]
        return self._begin(length)

    def _begin(self, length):
        self.bytes, self.total, self.whole = b"", length, False
        self.open = bool(length) and length % 4 == 0
        return [Status.OK] if self.open else [Status.LENGTH, 0]

    def data(self, position, *words):
        if not self.open or position != len(self.bytes):
            return [Status.ORDER, len(self.bytes)]
        if position + 4 * len(words) > self.total:
            return [Status.LENGTH, 0]
        self.bytes += b"".join(word.to_bytes(4, "little") for word in words)
        if len(self.bytes) == self.total:
            self.open = False
            if self.target == "image":
                self.runs += 1
                self.whole, self.logits = True, logits_of(self.bytes, self.count)
                self.given, self.waited = 0, 0
            else:
                self.memories[self.target] = self.bytes
        return [Status.OK, len(self.bytes), zlib.crc32(self.bytes)]

    def result(self, number):
        if not self.whole or number != self.number:
            return [Status.ORDER, self.number]
        if self.runs - 1 in self.fails:
            self.open = self.whole = False
            return [Status.MACHINE, 1]
        head = [Status.OK, number, zlib.crc32(self.bytes), self.given]
        if self.waited < self.slow:
            self.waited += 1
            return [*head, 0]
        some = self.logits[self.given:self.given + LOGITS]
        self.given += len(some)
        self.whole = self.given < self.count
        return [*head, *some, int(not self.whole)]

    def commit(self, low, high):
        if self.arch.weights == "rom":
            return [Status.FIXED, 0]
        self.network = low | high << 32
        return [Status.OK]
