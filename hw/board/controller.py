"""Executes the requests of the host: registers, data in, logits out (``docs/boards.md``)."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from bivit.hw.arch import Arch
from bivit.hw.blocks.memory import Rom
from bivit.hw.blocks.output import BEAT
from bivit.hw.blocks.registers import ADDRESSES, LOAD_INDEX_BITS, axi_lite_signature
from bivit.hw.board.framing import HEAD, line_crc
from bivit.hw.board.identity import identity
from bivit.hw.board.protocol import (
    ANSWER,
    DATA_WORDS,
    LOGITS,
    MAX_WORDS,
    PAYLOAD_WORDS,
    Kind,
    Status,
)
from bivit.hw.board.register_port import RegisterPort
from bivit.hw.emit import place
from bivit.hw.memories import constant_order

__all__ = ["Controller", "NETWORK_FILE", "QUIET_CYCLES"]

NETWORK_FILE = "rom/identity.hex"
"""The hash of the network of a `rom` target: one word of 64 bits."""
QUIET_CYCLES = 256
"""Cycles without a logit after which RESULT answers with what it has."""
_LOOK_BITS = 6  # a machine that takes no data is looked at every 64 cycles
_START, _RESET = 1, 2  # what CTRL takes
_BUSY, _ERROR = 0, 2  # bits of STATUS


class Controller(wiring.Component):
    """Takes requests one after the other and answers each.

    Parameters
    ----------
    arch : Arch
    clock_hz, baud : int
        What it says of itself.
    patience : int
        Cycles after which data that the machine does not take are given up.
    network : int
        Hash of the network of a `rom` target in Amaranth's simulator; Verilog reads
        ``NETWORK_FILE``.

    Members
    -------
    full, head, release, address, word : to the FrameReceiver
    clear, words, kind, sequence, send, sending : to the FrameSender
    axil, beats_in, beats_out : to the machine
    """

    def __init__(self, arch: Arch, *, clock_hz: int, baud: int, patience: int, network: int = 0):
        self.arch, self.clock_hz, self.baud = arch, clock_hz, baud
        self.patience, self.network = patience, network
        super().__init__({
            "full": In(1), "head": In(HEAD), "release": Out(1),
            "address": Out(range(MAX_WORDS)), "word": In(32),
            "clear": Out(1), "words": Out(stream.Signature(32)), "kind": Out(8),
            "sequence": Out(8), "send": Out(1), "sending": In(1),
            "axil": Out(axi_lite_signature()),
            "beats_in": Out(stream.Signature(BEAT)), "beats_out": In(stream.Signature(BEAT)),
        })

    def elaborate(self, platform):
        m = Module()
        self._declare(m, platform)
        with m.FSM():
            self._requests(m)
            self._begin(m)
            self._data(m)
            self._result(m)
            self._answers(m)
        return m

    def _declare(self, m, platform):
        """Registers, and what the states share."""
        self._port = place(m, platform, "port", RegisterPort())
        wiring.connect(m, self._port.axil, wiring.flipped(self.axil))
        m.submodules.crc = self._crc = line_crc()
        if self.arch.weights == "rom":
            self._rom = place(m, platform, "network_rom", Rom(
                width=64, depth=2, file=NETWORK_FILE, init=(self.network,)))
            m.d.comb += self._rom.read_addr.eq(0)
        self._synced = Signal()                  # an IDENTIFY was answered
        self._status = Signal(Status)
        self._detail = Signal(32)                # second word of a refusal
        self._said = Signal(range(MAX_WORDS))    # words of the answer so far
        self._index = Signal(range(MAX_WORDS + 1))  # of a word of the request
        self._first = Signal(32)                 # its first word
        self._network = Signal(64)               # hash of what was loaded
        self._number = Signal(32)                # of the image
        self._loading = Signal()                 # data are for a constant memory
        self._open = Signal()                    # data are wanted
        self._whole = Signal()                   # an image is in the machine, logits are to come
        self._total = Signal(32)                 # bytes of data
        self._position = Signal(32)
        self._byte = Signal(2)                   # of the beat, for the CRC
        self._logits = Signal(32)                # of this image so far
        self._timer = Signal(range(max(self.patience, QUIET_CYCLES) + 1))
        self._last = Signal()                    # the last logit is in the answer
        beat = self.beats_in
        data = beat.p.data
        m.d.comb += [self.address.eq(self._index), self._crc.data.eq(
            Array(data[start:start + 8] for start in range(0, len(data), 8))[self._byte])]
        with m.If(beat.valid & beat.ready):
            m.d.sync += beat.valid.eq(0)

    def _refuse(self, m, status, detail=0):
        m.d.sync += [self._status.eq(status), self._detail.eq(detail)]
        m.next = "SAY"

    def _access(self, m, name, value=None):
        """Read a register, or write `value` to it; true in the last cycle."""
        m.d.comb += [self._port.start.eq(1), self._port.address.eq(ADDRESSES[name])]
        if value is not None:
            m.d.comb += [self._port.write.eq(1), self._port.value.eq(value)]
        return self._port.done

    def _requests(self, m):
        """Is it the next request, a repetition of the last one, or none that can be executed?"""
        head, words = self.head, self.head.length
        with m.State("IDLE"):
            m.d.sync += self._index.eq(0)
            with m.If(self.full & (self._index == 0)):
                m.next = "ADDRESS"
        with m.State("ADDRESS"):
            m.d.sync += self._index.eq(1)
            m.next = "CHECK"
        with m.State("CHECK"):
            known, fits = Signal(), Signal()
            with m.Switch(head.kind):
                for kind, length in PAYLOAD_WORDS.items():
                    with m.Case(kind):
                        m.d.comb += [known.eq(1), fits.eq(words == length)]
                with m.Case(Kind.DATA):
                    m.d.comb += [known.eq(1), fits.eq((words >= 2) & (words <= DATA_WORDS + 1))]
            identify = head.kind == Kind.IDENTIFY
            m.d.sync += self._first.eq(self.word)
            with m.If(self._synced & ~identify & (head.sequence == self.sequence)):
                m.next = "SEND"
            with m.Else():
                in_order = identify | self._synced & (head.sequence == (self.sequence + 1)[:8])
                m.d.comb += self.clear.eq(1)
                m.d.sync += [
                    self.kind.eq(head.kind | ANSWER), self.sequence.eq(head.sequence),
                    self._synced.eq(in_order), self._status.eq(Status.OK), self._said.eq(0),
                ]
                with m.If(~in_order):
                    self._refuse(m, Status.SEQUENCE)
                with m.Elif(~known):
                    self._refuse(m, Status.UNKNOWN)
                with m.Elif(~fits):
                    self._refuse(m, Status.LENGTH)
                with m.Else():
                    m.next = "EXECUTE"

    def _begin(self, m):
        """The requests without data: `word` is now the second word."""
        loaded = self.arch.weights == "loaded"
        no_length = (self.word == 0) | (self.word[:2] != 0)
        begin = [self._total.eq(self.word), self._position.eq(0), self._whole.eq(0),
                 self._open.eq(1)]
        with m.State("EXECUTE"), m.Switch(self.head.kind):
            with m.Case(Kind.READ):
                m.next = "READ"
            with m.Case(Kind.IMAGE):
                m.d.sync += [*begin, self._loading.eq(0), self._number.eq(self._first),
                             self._logits.eq(0)]
                m.next = "RESET"
                with m.If(no_length):
                    m.d.sync += self._open.eq(0)
                    self._refuse(m, Status.LENGTH)
                if loaded:
                    with m.If(self._network == 0):
                        m.d.sync += self._open.eq(0)
                        self._refuse(m, Status.EMPTY)
            with m.Case(Kind.MEMORY):
                if loaded:
                    m.d.sync += [*begin, self._loading.eq(1), self._network.eq(0)]
                    m.next = "RESET"
                    with m.If(self._first >= len(constant_order)):
                        m.d.sync += self._open.eq(0)
                        self._refuse(m, Status.UNKNOWN)
                    with m.Elif(no_length):
                        m.d.sync += self._open.eq(0)
                        self._refuse(m, Status.LENGTH)
                else:
                    self._refuse(m, Status.FIXED)
            with m.Case(Kind.COMMIT):
                if loaded:
                    m.d.sync += [self._network[:32].eq(self._first),
                                 self._network[32:].eq(self.word)]
                    m.next = "SAY"
                else:
                    self._refuse(m, Status.FIXED)
            with m.Case(Kind.DATA):
                m.next = "BEAT"
                with m.If(~self._open | (self._first != self._position)):
                    self._refuse(m, Status.ORDER, self._position)
                with m.Elif(self._position + ((self.head.length - 1) << 2) > self._total):
                    self._refuse(m, Status.LENGTH)
            with m.Case(Kind.RESULT):
                m.next = "SAY"
                with m.If(~self._whole | (self._first != self._number)):
                    self._refuse(m, Status.ORDER, self._number)
            with m.Default():
                m.next = "SAY"
        with m.State("READ"):
            m.d.comb += [self._port.start.eq(1), self._port.address.eq(self._first)]
            with m.If(self._port.done):
                m.next = "SAY"
        with m.State("RESET"):
            m.d.sync += self.beats_in.valid.eq(0)
            with m.If(self._access(m, "CTRL", _RESET)):
                m.next = "START"
        with m.State("START"):
            m.d.comb += self._crc.start.eq(1)
            m.d.comb += [
                self._port.start.eq(1), self._port.write.eq(1),
                self._port.address.eq(Mux(self._loading, ADDRESSES["LOAD_SELECT"],
                                          ADDRESSES["CTRL"])),
                self._port.value.eq(Mux(
                    self._loading, Cat(self._first[:LOAD_INDEX_BITS], self._total[2:]), _START)),
            ]
            with m.If(self._port.done):
                m.next = "SAY"

    def _data(self, m):
        """Words of DATA to the input stream and into the CRC."""
        beat = self.beats_in
        with m.State("BEAT"):
            m.d.sync += [
                beat.valid.eq(1), beat.p.data.eq(self.word),
                beat.p.last.eq(self._position + 4 == self._total),
                self._index.eq(self._index + 1), self._byte.eq(0), self._timer.eq(self.patience),
            ]
            m.next = "OFFER"
        with m.State("OFFER"):
            m.d.sync += self._timer.eq(self._timer - 1)
            with m.If(~beat.valid | beat.ready):
                m.next = "SUM"
            with m.Elif(self._timer == 0):
                m.d.sync += [beat.valid.eq(0), self._open.eq(0)]
                self._refuse(m, Status.STALLED)
            with m.Elif(self._timer[:_LOOK_BITS] == 0):
                m.next = "LOOK"
        with m.State("LOOK"), m.If(self._access(m, "STATUS")):
            m.next = "OFFER"
            with m.If(self._port.result[_ERROR]):
                m.next = "ERROR"
        with m.State("SUM"):
            m.d.comb += self._crc.valid.eq(1)
            m.d.sync += self._byte.eq(self._byte + 1)
            with m.If(self._byte == 3):
                m.d.sync += self._position.eq(self._position + 4)
                m.next = "BEAT"
                with m.If(self._index == self.head.length):
                    m.next = "SUMMED"
        with m.State("SUMMED"):
            with m.If(self._position == self._total):
                m.d.sync += [self._open.eq(0), self._whole.eq(~self._loading)]
            m.next = "SAY"

    def _result(self, m):
        """Logits into the answer, as many as come."""
        beat, words = self.beats_out, self.words
        with m.State("LOGITS"):
            m.d.comb += [words.valid.eq(beat.valid), words.p.eq(beat.p.data),
                         beat.ready.eq(words.ready)]
            m.d.sync += self._timer.eq(self._timer - 1)
            with m.If(beat.valid & words.ready):
                m.d.sync += [self._logits.eq(self._logits + 1), self._said.eq(self._said + 1),
                             self._timer.eq(QUIET_CYCLES)]
                with m.If(beat.p.last):
                    m.d.sync += self._timer.eq(self.patience)
                    m.next = "FINISH"
                with m.Elif(self._said == LOGITS - 1):
                    m.next = "CLOSE"
            with m.Elif(self._timer == 0):
                m.next = "WORKING"
        with m.State("WORKING"), m.If(self._access(m, "STATUS")):
            m.next = "CLOSE"
            with m.If(self._port.result[_ERROR] | ~self._port.result[_BUSY]):
                m.next = "ERROR"
        with m.State("FINISH"):
            with m.If(self._timer != 0):
                m.d.sync += self._timer.eq(self._timer - 1)
            with m.If(self._access(m, "STATUS")):
                with m.If(self._port.result[_ERROR]):
                    m.next = "ERROR"
                with m.Elif(~self._port.result[_BUSY]):
                    m.d.sync += [self._last.eq(1), self._whole.eq(0)]
                    m.next = "CLOSE"
                with m.Elif(self._timer == 0):
                    m.d.comb += self.clear.eq(1)
                    m.d.sync += [self._whole.eq(0), self._said.eq(0)]
                    self._refuse(m, Status.STALLED)
        with m.State("CLOSE"):
            m.d.comb += [words.valid.eq(1), words.p.eq(self._last)]
            m.next = "SEND"
        with m.State("ERROR"), m.If(self._access(m, "ERROR")):
            m.d.comb += self.clear.eq(1)
            m.d.sync += [self._open.eq(0), self._whole.eq(0), self._said.eq(0),
                         self.beats_in.valid.eq(0)]
            self._refuse(m, Status.MACHINE, self._port.result)

    def _answers(self, m):
        """The words of an answer, and its way."""
        ok = self._status
        answers = {
            Kind.IDENTIFY: self._identity(), Kind.READ: [self._port.result],
            Kind.DATA: [self._position, self._crc.crc],
            Kind.RESULT: [self._number, self._crc.crc, self._logits],
        }
        with m.State("SAY"):
            last = Signal()
            m.d.comb += [self.words.valid.eq(1), last.eq(1), self.words.p.eq(ok)]
            m.d.sync += self._said.eq(self._said + 1)
            with m.If(ok != Status.OK):
                m.d.comb += last.eq(self._said != 0)
                with m.If(self._said != 0):
                    m.d.comb += self.words.p.eq(self._detail)
            with m.Else(), m.Switch(self.head.kind):
                for kind, values in answers.items():
                    with m.Case(kind):
                        values = Array([Const(Status.OK), *values])
                        m.d.comb += [self.words.p.eq(values[self._said]),
                                     last.eq(self._said == len(values) - 1)]
            with m.If(last):
                m.next = "SEND"
                with m.If((self.head.kind == Kind.RESULT) & (ok == Status.OK)):
                    m.d.sync += [self._said.eq(0), self._last.eq(0), self._timer.eq(QUIET_CYCLES)]
                    m.next = "LOGITS"
        with m.State("SEND"):
            m.d.comb += self.send.eq(1)
            m.next = "SENDING"
        with m.State("SENDING"), m.If(~self.sending):
            m.d.comb += self.release.eq(1)
            m.next = "IDLE"

    def _identity(self):
        """The words of IDENTIFY."""
        words = identity(self.arch, clock_hz=self.clock_hz, baud=self.baud)
        network = self._network if self.arch.weights == "loaded" else self._rom.read_data
        return [*words._replace(network_low=network[:32], network_high=network[32:])]
