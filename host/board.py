"""A board, as a host sees it: identity, loading, images in and logits out."""

import struct
import time
import zlib

from bivit.compiler.ir.errors import UserError
from bivit.host.session import NoAnswer, Refused, Session
from bivit.hw.board.protocol import DATA_WORDS, VERSION, Identity, Kind, Status

__all__ = ["Board", "ImageRefused", "WrongBoard"]

RESULT_SECONDS = 60.0
"""Time that an image may take in the machine."""
_FINAL = (Status.UNKNOWN, Status.LENGTH, Status.EMPTY, Status.FIXED)


class WrongBoard(UserError):
    """A board whose identity is not the expected one; the message is one sentence."""


class ImageRefused(UserError):
    """An image that got no logits; the message says why."""


class _Disagreement(UserError):
    """Board and host have not seen the same image."""


class Board:
    """A board behind a session.

    Parameters
    ----------
    session : Session
    result_seconds : float
        Time that an image may take in the machine.
    """

    def __init__(self, session: Session, *, result_seconds: float = RESULT_SECONDS):
        self._session, self._result_seconds = session, result_seconds
        self._number = 0

    def identify(self) -> Identity:
        """Who is there; afterwards both sides agree on the next sequence number.

        Raises
        ------
        WrongBoard
            For another protocol.
        """
        words = self._session.request(Kind.IDENTIFY)
        if len(words) != len(Identity._fields) or words[0] != VERSION:
            raise WrongBoard(f"the board speaks version {words[0] if words else 0} of the protocol "
                             f"and this bivit version {VERSION}: make its bitstream again")
        return Identity(*words)

    def read(self, address: int) -> int:
        """A register of the machine."""
        return self._session.request(Kind.READ, address)[0]

    def load(self, memories: list[bytes], network: int, progress=None) -> None:
        """Write the constant memories, in their order, and name the network.

        Parameters
        ----------
        memories : list of bytes
            Words in whole beats; empty ones are left as they are.
        network : int
            Its hash.
        progress : callable (done, total), optional
        """
        done, total = 0, sum(map(len, memories))
        for number, data in enumerate(memories):
            if data:
                self._session.request(Kind.MEMORY, number, len(data))
                self._send(data)
                done += len(data)
                if progress is not None:
                    progress(done, total)
        self._session.request(Kind.COMMIT, network & 0xFFFFFFFF, network >> 32)

    def classify(self, data: bytes, count: int) -> list[int]:
        """The logits of an image.

        Parameters
        ----------
        data : bytes
            Its input stream, in whole beats.
        count : int
            How many logits there are.

        Raises
        ------
        ImageRefused
            After as many attempts as the session makes.
        NoAnswer
            If the board does not even identify itself any more.
        """
        for _ in range(self._session.attempts):
            try:
                return self._image(data, count)
            except (Refused, NoAnswer, _Disagreement) as error:
                reason = error
            if isinstance(reason, Refused) and reason.status in _FINAL:
                break
            self.identify()
        raise ImageRefused(str(reason))

    def _image(self, data, count):
        self._number = (self._number + 1) & 0xFFFFFFFF
        self._session.request(Kind.IMAGE, self._number, len(data))
        self._send(data)
        wanted, logits, end = zlib.crc32(data), [], time.monotonic() + self._result_seconds
        while time.monotonic() < end:
            number, crc, first, *some, last = self._session.request(Kind.RESULT, self._number)
            if (number, crc, first) != (self._number, wanted, len(logits)):
                raise _Disagreement("the board names another image than the one that was sent")
            logits += some
            if last:
                if len(logits) != count:
                    raise _Disagreement(f"the board gives {len(logits)} logits and the network "
                                        f"has {count}")
                return list(struct.unpack(f"<{count}i", struct.pack(f"<{count}I", *logits)))
        raise _Disagreement(f"no logits came in {self._result_seconds:g} s")

    def _send(self, data):
        """All data of an image or a memory, in order."""
        step, crc = 4 * DATA_WORDS, 0
        for start in range(0, len(data), step):
            part = data[start:start + step]
            words = struct.unpack(f"<{len(part) // 4}I", part)
            crc = zlib.crc32(part, crc)
            if self._session.request(Kind.DATA, start, *words) != (start + len(part), crc):
                raise _Disagreement("the board has taken other data than were sent")
