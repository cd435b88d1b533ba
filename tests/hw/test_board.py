# amaranth: UnusedElaboratable=no

"""The board's side of the line, pin to pin, against its model in Python."""

import random
import zlib

import pytest
from amaranth.sim import Simulator

from bivit.hw.blocks.registers import ADDRESSES, ID, LOAD_INDEX_BITS
from bivit.hw.board.link import BoardLink
from bivit.hw.board.protocol import (
    ANSWER,
    DATA_WORDS,
    ESCAPE,
    FLAG,
    FrameReader,
    Kind,
    Status,
    frame_bytes,
    next_sequence,
)
from bivit.hw.board.uart import UartReceiver, UartTransmitter
from bivit.hw.targets import TARGETS
from board_model import BAUD, CLOCK_HZ, BoardModel, logits_of

BIT = CLOCK_HZ // BAUD
NETWORK = 0x7E7D_0123_4567_89AB
PATIENCE = 500


class Machine:
    """The machine's side of registers and streams, a cycle at a time."""

    def __init__(self, count=10, *, stuck=False, error=0):
        self.count, self.stuck, self.error = count, stuck, error
        self.reset()
        self.memories, self.select = {}, None

    def reset(self):
        self.running, self.taken, self.out, self.failed = False, b"", [], False

    def write(self, address, value):
        if address == ADDRESSES["LOAD_SELECT"]:
            self.beats, self.select = divmod(value, 1 << LOAD_INDEX_BITS)
        elif value == 2:
            self.reset()
        else:
            self.running, self.select = True, None

    def read(self, address):
        status = self.running | self.failed << 2
        return {ADDRESSES["ID"]: ID, ADDRESSES["STATUS"]: status,
                ADDRESSES["ERROR"]: self.error}.get(address, 0)

    def beat(self, data, last):
        self.taken += data.to_bytes(4, "little")
        if not last:
            return
        if self.select is not None:
            assert len(self.taken) == 4 * self.beats
            self.memories[self.select] = self.taken
        elif self.error:
            self.running, self.failed = False, True
        else:
            self.out = logits_of(self.taken, self.count)

    async def run(self, ctx, dut):
        axil, rng = dut.axil, random.Random(1)
        for ready in (axil.awready, axil.wready, axil.arready):
            ctx.set(ready, 1)
        while True:
            ctx.set(dut.beats_in.ready, not self.stuck and rng.random() < 0.5)
            ctx.set(dut.beats_out.valid, bool(self.out))
            if self.out:
                ctx.set(dut.beats_out.payload, {"data": self.out[0], "last": len(self.out) == 1})
            (_, _, write, to, value, read, source, valid, ready, beat, given, taken
             ) = await ctx.tick().sample(
                axil.awvalid, axil.awaddr, axil.wdata, axil.arvalid, axil.araddr,
                dut.beats_in.valid, dut.beats_in.ready, dut.beats_in.payload,
                dut.beats_out.valid, dut.beats_out.ready)
            if given and taken:
                self.out.pop(0)
                self.running = bool(self.out)
            if valid and ready:
                self.beat(beat.data, beat.last)
            ctx.set(axil.bvalid, write)
            ctx.set(axil.rvalid, read)
            if write:
                self.write(to, value)
            if read:
                ctx.set(axil.rdata, self.read(source))


async def say(ctx, pin, data):
    """Bytes onto the line."""
    for byte in data:
        for bit in (0, *(byte >> index & 1 for index in range(8)), 1):
            ctx.set(pin, bit)
            await ctx.tick().repeat(BIT)


async def hear(ctx, pin, patience):
    """Bytes from the line until a frame ends, or nothing comes for so many cycles."""
    found, waited = bytearray(), 0
    while waited < patience and found.count(FLAG) < 2:
        _, _, level = await ctx.tick().sample(pin)
        waited += 1
        if level:
            continue
        await ctx.tick().repeat(BIT // 2)
        byte = 0
        for index in range(9):
            await ctx.tick().repeat(BIT - 1)
            _, _, level = await ctx.tick().sample(pin)
            byte |= level << index
        assert byte >> 8, "no stop bit"
        found.append(byte & 0xFF)
        waited = 0
    return bytes(found)


def exchange(arch, script, machine):
    """What the board says after each piece of `script`."""
    dut = BoardLink(arch, clock_hz=CLOCK_HZ, baud=BAUD, patience=PATIENCE, network=NETWORK)
    answers = []

    async def host(ctx):
        ctx.set(dut.uart_rx, 1)
        await ctx.tick().repeat(20)
        for piece in script:
            await say(ctx, dut.uart_rx, piece)
            due = FrameReader().feed(piece)
            answers.append(await hear(ctx, dut.uart_tx, 5000 if due else 200))

    async def device(ctx):
        await machine.run(ctx, dut)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(device, background=True)
    simulator.add_testbench(host)
    simulator.run()
    return answers


def numbered(requests, start=0):
    """Frames of requests (kind, words) with numbers in order."""
    frames, sequence = [], start
    for kind, *words in requests:
        frames.append(frame_bytes(kind, sequence, words))
        sequence = next_sequence(sequence)
    return frames


def words_of(data, count):
    return [int.from_bytes(data[4 * index:4 * index + 4], "little") for index in range(count)]


def test_uart_there_and_back():
    sent = bytes([0x00, 0xFF, 0x7E, 0x55, 0x01, 0x80])
    transmitter, heard = UartTransmitter(bit_cycles=5), []

    async def host(ctx):
        for byte in sent:
            ctx.set(transmitter.i.valid, 1)
            ctx.set(transmitter.i.payload, byte)
            await ctx.tick().until(transmitter.i.ready)
        ctx.set(transmitter.i.valid, 0)

    receiver = UartReceiver(bit_cycles=5)

    async def line(ctx):
        ctx.set(receiver.rx, 1)
        cycles = 0
        while len(heard) < len(sent):
            _, _, level, got = await ctx.tick().sample(transmitter.tx, receiver.o)
            ctx.set(receiver.rx, level)
            if got.valid:
                assert not got.broken
                heard.append(got.byte)
            cycles += 1
        assert cycles < len(sent) * 10 * 5 + 10  # without gaps

    from amaranth.hdl import Module
    m = Module()
    m.submodules += [transmitter, receiver]
    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(host)
    simulator.add_testbench(line)
    simulator.run()
    assert bytes(heard) == sent


@pytest.mark.parametrize("bit_cycles", [3, 0, 4.0])
def test_wrong_bit(bit_cycles):
    with pytest.raises(ValueError, match="^a bit must last at least 4 cycles, not "):
        UartReceiver(bit_cycles=bit_cycles)
    with pytest.raises(ValueError, match="^a bit must last at least 4 cycles, not "):
        UartTransmitter(bit_cycles=bit_cycles)


@pytest.mark.parametrize("target", ["tiny", pytest.param("odd", marks=pytest.mark.slow)])
def test_requests_refusals_and_repetitions(target):
    arch = TARGETS[target]
    data = bytes(range(96, 160))  # FLAG and ESCAPE among them
    words = words_of(data, 16)
    requests = [
        (Kind.READ, 0), (Kind.IDENTIFY,), (Kind.READ, 0), (Kind.READ,), (99, 1),
        (Kind.RESULT, 0), (Kind.DATA, 0, 1), (Kind.MEMORY, 9, 8), (Kind.IMAGE, 5, 64),
        (Kind.MEMORY, 1, 6), (Kind.MEMORY, 1, 64), (Kind.DATA, 0, *words),
        (Kind.COMMIT, 0x7E, 7), (Kind.IDENTIFY,), (Kind.IMAGE, 5, 0), (Kind.IMAGE, 6, 64),
        (Kind.DATA, 4, *words), (Kind.DATA, 0, *words[:3]), (Kind.RESULT, 6),
        (Kind.DATA, 12, *words), (Kind.DATA, 12, *words[3:]), (Kind.DATA, 64, 1),
        (Kind.RESULT, 5), (Kind.RESULT, 6), (Kind.RESULT, 6),
    ]
    script = numbered(requests, start=250)
    script.insert(7, script[6])                          # doubled
    script.insert(20, script[19])
    flipped = bytes([*script[3][:5], script[3][5] ^ 1, *script[3][6:]])
    script[3:3] = [b"\x00\x7e\x7d\x7e", script[3][:-3] + b"\x7e", flipped,  # short, wrong CRC
                   bytes([FLAG, ESCAPE, ESCAPE, FLAG])]
    machine, model = Machine(), BoardModel(arch, network=NETWORK if target == "tiny" else 0)
    answers = exchange(arch, script, machine)
    expected = [model.feed(piece) for piece in script]
    assert [FrameReader().feed(answer) for answer in answers] == [
        FrameReader().feed(answer) for answer in expected]
    assert answers == expected
    assert answers[3:7] == [b""] * 4
    found = [FrameReader().feed(answer)[0].words for answer in answers if answer]
    assert found[-2] == (Status.OK, 6, zlib.crc32(data), 0, *logits_of(data, 10), 1)
    if target == "odd":
        assert machine.memories == {1: data}


def test_many_logits_and_long_data_and_a_frame_that_is_too_long():
    arch, count = TARGETS["tiny"], 130
    rng = random.Random(3)
    words = [rng.getrandbits(32) for _ in range(DATA_WORDS + 1)]
    script = numbered([
        (Kind.IDENTIFY,), (Kind.IMAGE, 0xFFFFFFFF, 4 * len(words)),
        (Kind.DATA, 0, *words[:DATA_WORDS]), (Kind.DATA, 4 * DATA_WORDS, *words[DATA_WORDS:]),
        *[(Kind.RESULT, 0xFFFFFFFF)] * 3])
    script.insert(1, bytes([FLAG]) + bytes(525))
    model = BoardModel(arch, network=NETWORK, count=count)
    assert exchange(arch, script, Machine(count)) == [model.feed(piece) for piece in script]


@pytest.mark.parametrize("machine, wanted", [
    (Machine(stuck=True), (Status.STALLED, 0)), (Machine(error=5), (Status.MACHINE, 5))])
def test_machine_that_stops(machine, wanted):
    script = numbered([(Kind.IDENTIFY,), (Kind.IMAGE, 1, 8), (Kind.DATA, 0, 1, 2),
                       (Kind.RESULT, 1), (Kind.RESULT, 1), (Kind.IDENTIFY,)])
    answers = exchange(TARGETS["tiny"], script, machine)
    found = [FrameReader().feed(answer)[0] for answer in answers]
    statuses = [(frame.words[0], frame.words[-1]) for frame in found]
    assert wanted in statuses[2:4]
    assert statuses[4] == (Status.ORDER, 1)
    assert found[5].words[0] == Status.OK and found[5].kind == Kind.IDENTIFY | ANSWER
