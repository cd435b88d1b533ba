# amaranth: UnusedElaboratable=no
"""STORE and its AXI4 port before random memories: every word, every cycle, every error."""

import random

import pytest
from amaranth.hdl import Cat, Module, Mux, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.sim import Simulator

from bivit.hw.arch import Arch
from bivit.hw.blocks.checks import ErrorCode
from bivit.hw.blocks.fetch import MemoryTiming, port_beats
from bivit.hw.blocks.store import STORED_AS, Storer, Timer, estimate
from bivit.hw.blocks.write_port import WritePort, axi_write_signature
from bivit.hw.encoding import encode
from bivit.hw.isa import Opcode
from bivit.hw.memories import memories

BASE = 0x4567_8000


def arch_of(**parameters):
    return Arch(**{"name": "test", "rows": 2, "cols": 3, "lanes": 16, "weights": "streamed",
                   "program_depth": 16, "port_burst": 8, "port_reads": 3, "port_timeout": 64}
                | parameters)


ARCHES = [arch_of(port_bits=16), arch_of(port_bits=32, port_burst=1), arch_of(port_bits=64),
          arch_of(port_bits=128, port_burst=256, port_reads=1), arch_of(port_reads=16)]
TIMINGS = [MemoryTiming(write_latency=1), MemoryTiming(write_latency=37),
           MemoryTiming(write_latency=5, interval=3),
           MemoryTiming(write_latency=2, interval=2, beats=(0, 3, 0, 0, 7, 1),
                        addresses=(4, 0, 0, 9, 30))]


class System(wiring.Component):
    """The unit, its port, and memories whose words follow from their addresses."""

    def __init__(self, arch):
        self.arch, self.store, self.port = arch, Storer(arch), WritePort(arch)
        super().__init__({"word": In(448), "valid": In(1), "clear": In(1),
                          "m_axi": Out(axi_write_signature(arch))})

    def elaborate(self, platform):
        m = Module()
        store, port = self.store, self.port
        m.submodules.store = ResetInserter(self.clear)(store)
        m.submodules.port = port
        for name in ("burst", "beat"):
            connect(m, getattr(store, name), getattr(port, name))
        m.d.comb += [getattr(store, name).eq(getattr(port, name))
                     for name in ("answered", "wrong", "alive")]
        connect(m, port.m_axi, flipped(self.m_axi))
        m.d.comb += [port.clear.eq(self.clear), port.base.eq(BASE + 0xABC),
                     store.start.eq(self.valid), store.fields.eq(self.word)]
        first, second = Signal(16), Signal(16)
        m.d.sync += [first.eq(store.address), second.eq(first)]
        width = memories(self.arch)["resid"].width
        for number, name in enumerate(("resid", "vmem")):
            word = Cat(second ^ (0x1234 * number + 0x111 * part) for part in range(width // 16 + 1))
            m.d.comb += getattr(store, f"{name}_data").eq(Mux(self.clear, 0, word))
        return m


def word_at(arch, memory, address):
    width = memories(arch)["resid"].width
    parts = sum((address ^ (0x1234 * memory + 0x111 * part & 0xFFFF)) << 16 * part
                for part in range(width // 16 + 1))
    return parts & (1 << width) - 1


class Memory:
    """External memory at the write channels: a dict of beats, and what AXI4 demands.

    `wrong` is the number of a burst that is answered with an error; after `silent` beats nothing is
    taken or answered.
    """

    def __init__(self, arch, timing, *, p_wait=0.0, wrong=None, silent=None):
        self.arch, self.timing, self.p_wait = arch, timing, p_wait
        self.wrong, self.silent = wrong, silent
        self.random, self.beats = random.Random(5), {}
        self.addresses, self.data, self.answers = [], [], []  # bursts, beats, due cycles
        self.cycle, self.taken, self.written, self.bursts = 0, 0, 0, 0
        self.last, self.answered = -timing.interval, -1
        self.offered, self.shown, self.answering = None, None, False

    def _waits(self):
        return (self.random.random() < self.p_wait
                or self.silent is not None and self.written >= self.silent)

    def drive(self, ctx, axi):
        timing = self.timing
        ready = False
        if ctx.get(axi.awvalid):
            request = tuple(ctx.get(getattr(axi, f"aw{name}"))
                            for name in ("addr", "len", "size", "burst"))
            self.offered = self.offered or (request, self.cycle)
            assert self.offered[0] == request, "an address changed before it was taken"
            ready = not self._waits() and self.cycle >= self.offered[1] + self._stall(
                timing.addresses, self.taken)
        else:
            assert self.offered is None, "an address was withdrawn"
        ctx.set(axi.awready, ready)
        ready = False
        if ctx.get(axi.wvalid):
            beat = tuple(ctx.get(getattr(axi, f"w{name}")) for name in ("data", "strb", "last"))
            self.shown = self.shown or (beat, self.cycle)
            assert self.shown[0] == beat, "a beat changed before it was taken"
            due = max(self.shown[1], self.last + timing.interval)
            ready = not self._waits() and self.cycle >= due + self._stall(timing.beats,
                                                                         self.written)
        else:
            assert self.shown is None, "a beat was withdrawn"
        ctx.set(axi.wready, ready)
        if not self.answering and self.answers and not self._waits():
            self.answering = self.cycle >= max(self.answers[0], self.answered + 1)
        ctx.set(axi.bvalid, self.answering)
        ctx.set(axi.bresp, 2 * (self.bursts == self.wrong))

    def settle(self, ctx, axi):
        if ctx.get(axi.awvalid) and ctx.get(axi.awready):
            address, length, size, kind = self.offered[0]
            count, beat_bytes = length + 1, self.arch.port_bits // 8
            assert (1 << size, kind) == (beat_bytes, 1) and count <= self.arch.port_burst
            assert address // 4096 == (address + count * beat_bytes - 1) // 4096
            self.addresses.append((address - BASE, count))
            self.taken, self.offered = self.taken + 1, None
        if ctx.get(axi.wvalid) and ctx.get(axi.wready):
            self.data.append(self.shown[0])
            self.last, self.written, self.shown = self.cycle, self.written + 1, None
        if self.addresses and len(self.data) >= self.addresses[0][1]:
            address, count = self.addresses.pop(0)
            for index in range(count):
                data, strobes, last = self.data.pop(0)
                assert last == (index + 1 == count)
                if strobes:
                    assert strobes == (1 << self.arch.port_bits // 8) - 1
                    self.beats[address // (self.arch.port_bits // 8) + index] = data
            self.answers.append(self.cycle + self.timing.write_latency)
        if self.answering and ctx.get(axi.bready):
            self.answers.pop(0)
            self.answered, self.answering, self.bursts = self.cycle, False, self.bursts + 1
        self.cycle += 1

    @property
    def quiet(self):
        return not (self.addresses or self.data or self.answers or self.offered or self.shown)

    @staticmethod
    def _stall(trace, number):
        return trace[number % len(trace)] if trace else 0


def random_program(arch, count, seed):
    """STOREs to places of their own."""
    rng, at, program = random.Random(seed), 0, []
    for _ in range(count):
        words = rng.choice((1, 1, 2, 3, rng.randrange(1, 30)))
        at += rng.randrange(20)
        program.append({"src": rng.randrange(2), "src_addr": rng.randrange(300), "words": words,
                        "ext_addr": at})
        at += words * port_beats(arch, STORED_AS)
    return program


def expected_beats(arch, program):
    beats, mask = {}, (1 << arch.port_bits) - 1
    for fields in program:
        at = fields["ext_addr"]
        for index in range(fields["words"]):
            word = word_at(arch, fields["src"], fields["src_addr"] + index)
            for _ in range(port_beats(arch, STORED_AS)):
                beats[at], word, at = word & mask, word >> arch.port_bits, at + 1
    return beats


def run(arch, program, memory, *, clear_at=None, cycles=30000, p_pop=1.0):
    """Pops, dones, and the error where there was one; with `clear_at` the machine is
    reset in that cycle and the program begins again."""
    system = System(arch)
    store, rng = system.store, random.Random(2)
    pops, dones, error = [], [], None

    async def testbench(ctx):
        nonlocal error
        for cycle in range(cycles):
            ctx.set(system.clear, cycle == clear_at)
            free = ctx.get(store.last) and cycle != clear_at
            offered = len(pops) < len(program) and rng.random() < p_pop and free
            if offered:
                ctx.set(system.word, encode(Opcode.STORE, **program[len(pops)]))
            ctx.set(system.valid, offered)
            memory.drive(ctx, system.m_axi)
            if ctx.get(store.done):
                dones.append(cycle)
            if offered:
                pops.append(cycle)
            if cycle == clear_at:
                pops.clear(), dones.clear(), memory.beats.clear()
            memory.settle(ctx, system.m_axi)
            await ctx.tick()
            if (code := ctx.get(store.error)) is not ErrorCode.NONE:
                error = code
                return
            if len(dones) == len(program):
                assert memory.quiet
                return
        raise AssertionError("STORE does not end")

    simulator = Simulator(system)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return pops, dones, error


@pytest.mark.parametrize("p_pop", [0.3, 1.0])
@pytest.mark.parametrize("timing", TIMINGS, ids=range(4))
@pytest.mark.parametrize("arch", ARCHES, ids=range(5))
def test_words_and_cycles(arch, timing, p_pop):
    program, memory = random_program(arch, 9, seed=arch.port_bits), Memory(arch, timing)
    pops, dones, error = run(arch, program, memory, p_pop=p_pop)
    assert error is None and memory.beats == expected_beats(arch, program)
    timer, free = Timer(arch, timing), 0
    for fields, pop, done in zip(program, pops, dones, strict=True):
        assert pop == free if p_pop == 1.0 else pop >= free
        occupancy, completion = timer.run(pop, fields)
        free = pop + occupancy
        assert done == pop + completion


@pytest.mark.parametrize("p_wait", [0.2, 0.8])
def test_unknown_stalls_change_no_word(p_wait):
    arch, timing = arch_of(port_bits=32), MemoryTiming(write_latency=4)
    program, memory = random_program(arch, 8, seed=3), Memory(arch, timing, p_wait=p_wait)
    pops, dones, _ = run(arch, program, memory)
    assert memory.beats == expected_beats(arch, program)
    timer = Timer(arch, timing)
    least = [timer.run(pop, fields)[1] for pop, fields in zip(pops, program, strict=True)]
    assert all(done >= pop + cycles for pop, done, cycles in zip(pops, dones, least, strict=True))


def test_errors_of_the_memory():
    arch, timing = arch_of(port_bits=16), MemoryTiming(write_latency=6)
    program = random_program(arch, 8, seed=4)
    for number in (0, 1, 5):
        *_, error = run(arch, program, Memory(arch, timing, wrong=number))
        assert error == ErrorCode.MEMORY_ERROR
        *_, error = run(arch, program, Memory(arch, timing, silent=number))
        assert error == ErrorCode.MEMORY_SILENT


@pytest.mark.parametrize("timing", TIMINGS[1:], ids=range(3))
@pytest.mark.parametrize("clear_at", [3, 4, 5, 6, 30, 61, 150])
def test_reset_ends_what_was_begun(timing, clear_at):
    arch = arch_of(port_bits=16)
    program, memory = random_program(arch, 8, seed=6), Memory(arch, timing, p_wait=0.3)
    pops, dones, error = run(arch, program, memory, clear_at=clear_at)
    assert error is None and len(pops) == len(dones) == len(program)
    assert memory.beats == expected_beats(arch, program)


def test_estimate_is_that_of_a_quiet_port():
    arch, fields = arch_of(port_bits=16), {"words": 9, "ext_addr": 3}
    assert estimate(arch, fields) == Timer(arch, MemoryTiming()).run(0, fields)
