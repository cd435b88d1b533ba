"""Bytes of the line to words of a request, words of an answer to bytes (``docs/boards.md``)."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import crc, data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bivit.hw.board.protocol import ESCAPE, ESCAPE_BIT, FLAG, MAX_WORDS
from bivit.hw.board.uart import RECEIVED

__all__ = ["HEAD", "FrameReceiver", "FrameSender", "line_crc"]

HEAD = data.StructLayout({"kind": 8, "sequence": 8, "length": 16})
"""First word of a frame."""


def line_crc():
    """The CRC of frames and images, a byte a cycle."""
    return crc.catalog.CRC32_ISO_HDLC(data_width=8).create()


class FrameReceiver(wiring.Component):
    """Gathers a frame; holds it, and hears nothing, until it is released.

    Members
    -------
    i : bytes
    full : a frame arrived whole
    head : its first word
    release : listen again, from the next FLAG on
    address : of a word of the payload
    word : a cycle later
    """

    def __init__(self):
        super().__init__({
            "i": In(RECEIVED),
            "full": Out(1), "head": Out(HEAD), "release": In(1),
            "address": In(range(MAX_WORDS)), "word": Out(32),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.crc = check = line_crc()
        m.submodules.memory = memory = Memory(shape=32, depth=MAX_WORDS, init=[])
        read, write = memory.read_port(), memory.write_port()
        inside, escaped, taken, ended = Signal(), Signal(), Signal(), Signal()
        byte = Signal(8)
        shift = Signal(32)
        count = Signal(range(4 * (MAX_WORDS + 2) + 2))  # bytes so far, the last value: too many
        last_count = 4 * (MAX_WORDS + 2) + 1
        heard = self.i.valid & ~self.full
        m.d.comb += [
            read.addr.eq(self.address), self.word.eq(read.data),
            byte.eq(Mux(escaped, self.i.byte ^ ESCAPE_BIT, self.i.byte)),
            ended.eq(heard & (self.i.byte == FLAG)),
            taken.eq(heard & inside & ~ended & (escaped | (self.i.byte != ESCAPE))),
            check.data.eq(byte), check.valid.eq(taken), check.start.eq(ended),
            write.addr.eq((count >> 2) - 1), write.data.eq(Cat(shift[8:], byte)),
            write.en.eq(taken & (count[:2] == 3) & (count >= 4) & (count < 4 * (MAX_WORDS + 1))),
        ]
        with m.If(taken):
            m.d.sync += [shift.eq(write.data), escaped.eq(0)]
            with m.If(count != last_count):
                m.d.sync += count.eq(count + 1)
            with m.If(count == 3):
                m.d.sync += self.head.eq(write.data)
        with m.Elif(heard):
            m.d.sync += escaped.eq(1)
        with m.If(heard & (self.i.byte == ESCAPE) & escaped):
            m.d.sync += inside.eq(0)
        with m.If(ended):
            whole = inside & ~escaped & check.match_detected
            m.d.sync += [inside.eq(1), escaped.eq(0), count.eq(0),
                         self.full.eq(whole & (count == (self.head.length << 2) + 8))]
        with m.If(heard & self.i.broken):
            m.d.sync += inside.eq(0)
        with m.If(self.release):
            m.d.sync += [self.full.eq(0), inside.eq(0), count.eq(0), escaped.eq(0)]
        return m


class FrameSender(wiring.Component):
    """Keeps the words of an answer and sends them, any number of times.

    Members
    -------
    clear : begin a new answer
    i : its words, at most ``MAX_WORDS``
    kind, sequence : of the answer
    send : send what is there; taken while not `busy`
    busy : not everything is with the UART
    o : bytes
    """

    def __init__(self):
        super().__init__({
            "clear": In(1), "i": In(stream.Signature(32)), "kind": In(8), "sequence": In(8),
            "send": In(1), "busy": Out(1), "o": Out(stream.Signature(8)),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.crc = check = line_crc()
        m.submodules.memory = memory = Memory(shape=32, depth=MAX_WORDS, init=[])
        read, write = memory.read_port(), memory.write_port()
        length = Signal(range(MAX_WORDS + 1))
        position = Signal(range(MAX_WORDS + 2))  # of the next word: payload, then the CRC
        word = Signal(32)
        in_word = Signal(2)
        special, sent = Signal(), Signal()
        byte = word[:8]
        head = Cat(self.kind, self.sequence, length, Const(0, 16 - len(length)))
        m.d.comb += [
            self.i.ready.eq(length != MAX_WORDS),
            write.addr.eq(length), write.data.eq(self.i.p),
            write.en.eq(self.i.valid & self.i.ready),
            read.addr.eq(position),
            special.eq((byte == FLAG) | (byte == ESCAPE)),
            sent.eq(self.o.valid & self.o.ready), check.data.eq(byte),
        ]
        with m.If(write.en):
            m.d.sync += length.eq(length + 1)
        with m.If(self.clear):
            m.d.sync += length.eq(0)

        def after_byte():
            m.d.comb += check.valid.eq(1)
            m.d.sync += [in_word.eq(in_word + 1), word.eq(word >> 8)]
            with m.If(in_word != 3):
                m.next = "BYTE"
            with m.Elif(position == length + 1):
                m.next = "CLOSE"
            with m.Else():
                m.next = "WORD"

        with m.FSM() as states:
            m.d.comb += self.busy.eq(~states.ongoing("IDLE"))
            with m.State("IDLE"):
                m.d.comb += check.start.eq(1)
                m.d.sync += [position.eq(0), in_word.eq(0), word.eq(head)]
                with m.If(self.send):
                    m.next = "OPEN"
            with m.State("OPEN"):
                m.d.comb += [self.o.valid.eq(1), self.o.p.eq(FLAG)]
                with m.If(sent):
                    m.next = "BYTE"
            with m.State("WORD"):
                m.d.sync += [position.eq(position + 1),
                             word.eq(Mux(position == length, check.crc, read.data))]
                m.next = "BYTE"
            with m.State("BYTE"):
                m.d.comb += [self.o.valid.eq(1), self.o.p.eq(Mux(special, ESCAPE, byte))]
                with m.If(sent):
                    with m.If(special):
                        m.next = "ESCAPED"
                    with m.Else():
                        after_byte()
            with m.State("ESCAPED"):
                m.d.comb += [self.o.valid.eq(1), self.o.p.eq(byte ^ ESCAPE_BIT)]
                with m.If(sent):
                    after_byte()
            with m.State("CLOSE"):
                m.d.comb += [self.o.valid.eq(1), self.o.p.eq(FLAG)]
                with m.If(sent):
                    m.next = "IDLE"
        return m
