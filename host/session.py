"""Requests to a board, one at a time, and what becomes of them on a line that may fail."""

import time

from bivit.compiler.ir.errors import UserError
from bivit.hw.board.protocol import (
    ANSWER,
    FrameReader,
    Kind,
    Status,
    frame_bytes,
    next_sequence,
)

__all__ = ["ATTEMPTS", "NoAnswer", "Refused", "Session", "TIMEOUT"]

ATTEMPTS = 8
"""How often a request is sent, and an image begun."""
TIMEOUT = 0.25
"""Seconds without an answer, besides the time on the line, after which a request is sent again."""
LONGEST = 8
"""Each time it waits twice as long, up to so many times ``TIMEOUT``."""

_ANSWER_BYTES = 1060  # the longest answer with every byte escaped
REASONS = {
    Status.UNKNOWN: "it does not know this request",
    Status.LENGTH: "the request has a wrong length",
    Status.SEQUENCE: "it expects another sequence number: it was restarted, or another host "
                     "speaks to it",
    Status.ORDER: "data or results are asked for out of order",
    Status.EMPTY: "no network is loaded",
    Status.FIXED: "its weights are in the bitstream and cannot be loaded",
    Status.MACHINE: "the accelerator stopped with an error",
    Status.STALLED: "the accelerator takes no data",
}


class NoAnswer(UserError):
    """A board that does not answer; the message is one sentence."""


class Refused(UserError):
    """A request that the board refused.

    Attributes
    ----------
    status : int
    """

    def __init__(self, kind: Kind, status: int, detail: int = 0):
        reason = REASONS.get(status, f"status {status}, which this bivit does not know")
        if status == Status.MACHINE:
            reason += f" (code {detail & 0xFF} at instruction {detail >> 16})"
        super().__init__(f"the board refused {kind.name}: {reason}")
        self.status = status


class Session:
    """Speaks to the board at the other end of a port.

    Parameters
    ----------
    port
        Something with ``write(data)``, ``read(seconds)`` (what comes in that time, as soon as
        something comes; nothing means that the time is over) and ``baud``.
    timeout : float
        Instead of ``TIMEOUT``.
    attempts : int
        Instead of ``ATTEMPTS``.

    Attributes
    ----------
    repeated : int
        Requests that were sent again.
    """

    def __init__(self, port, *, timeout: float = TIMEOUT, attempts: int = ATTEMPTS):
        self._port, self._timeout, self.attempts = port, timeout, attempts
        self._sequence, self._reader = 0, FrameReader()
        self.repeated = 0

    def request(self, kind: Kind, *words: int) -> tuple[int, ...]:
        """Send a request until it is answered; the words after the status.

        Raises
        ------
        NoAnswer
        Refused
        """
        self._sequence = next_sequence(self._sequence)
        frame = frame_bytes(kind, self._sequence, words)
        seconds = self._timeout + 10 * (len(frame) + _ANSWER_BYTES) / self._port.baud
        for attempt in range(self.attempts):
            self.repeated += attempt > 0
            self._port.write(frame)
            answer = self._answer(kind, seconds * min(1 << attempt, LONGEST))
            if answer:
                status, *values = answer
                if status != Status.OK:
                    raise Refused(kind, status, *values[:1])
                return tuple(values)
        raise NoAnswer(f"the board does not answer {kind.name}, sent {self.attempts} times")

    def _answer(self, kind, seconds):
        """The words of the answer to the last request, None if there is none in time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            data = self._port.read(left)
            if not data:
                return None
            for frame in self._reader.feed(data):
                if (frame.kind, frame.sequence) == (kind | ANSWER, self._sequence):
                    return frame.words
        return None
