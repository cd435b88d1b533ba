# amaranth: UnusedElaboratable=no
"""FETCH and its AXI4 port before random memories: every word, every cycle, every error."""

import dataclasses
import random

import pytest
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.sim import Simulator

from bivit.hw.arch import Arch, ArchError
from bivit.hw.blocks.checks import ErrorCode
from bivit.hw.blocks.fetch import FetchUnit, MemoryTiming, Timer, estimate, port_beats
from bivit.hw.blocks.read_port import ReadPort, axi_read_signature
from bivit.hw.encoding import encode
from bivit.hw.isa import INSTRUCTION, Opcode
from bivit.hw.memories import constant_memories, constant_order, fetched_memories

BASE = 0x4567_8000


def arch_of(**parameters):
    return Arch(**{"name": "test", "rows": 2, "cols": 3, "lanes": 16, "weights": "streamed",
                   "program_depth": 16, "port_burst": 8, "port_reads": 3, "port_timeout": 64}
                | parameters)


class System(wiring.Component):
    """The unit and its port, as the accelerator connects them."""

    def __init__(self, arch):
        self.fetch, self.port = FetchUnit(arch), ReadPort(arch)
        super().__init__({"instr": In(stream.Signature(INSTRUCTION)), "clear": In(1),
                          "m_axi": Out(axi_read_signature(arch))})

    def elaborate(self, platform):
        from amaranth.hdl import ResetInserter
        m = Module()
        m.submodules.fetch = ResetInserter(self.clear)(self.fetch)
        m.submodules.port = self.port
        connect(m, flipped(self.instr), self.fetch.instr)
        connect(m, self.fetch.burst, self.port.burst)
        connect(m, self.port.m_axi, flipped(self.m_axi))
        m.d.comb += [self.port.clear.eq(self.clear), self.port.base.eq(BASE + 0xABC)]
        m.d.comb += [getattr(self.fetch, name).eq(getattr(self.port, name))
                     for name in ("beat_valid", "beat_data", "beat_error", "alive")]
        return m


class Memory:
    """External memory: one cycle at a time, at the read channels of the port.

    `wrong` is the number of a beat with an error; from beat `silent` on nothing comes; `length`:
    number of a burst, and the beats that it has more than asked for.
    """

    def __init__(self, arch, image, timing, *, p_wait=0.0, wrong=None, silent=None,
                 length=(None, 0)):
        self.arch, self.image, self.timing = arch, image, timing
        self.p_wait, self.wrong, self.silent = p_wait, wrong, silent
        self.length = length
        self.random = random.Random(5)
        self.queue, self.bursts, self.beats = [], 0, 0
        self.cycle, self.last = 0, -timing.interval
        self.offered, self.present = None, None
        self.lengths = []

    def drive(self, ctx, axi):
        """Set the answers of this cycle."""
        timing = self.timing
        ready = False
        if ctx.get(axi.arvalid):
            request = tuple(ctx.get(getattr(axi, name))
                            for name in ("araddr", "arlen", "arsize", "arburst"))
            if self.offered is None:
                self.offered = request, self.cycle
            assert self.offered[0] == request, "an address changed before it was taken"
            ready = (self.cycle >= self.offered[1] + self._stall(timing.addresses, self.bursts)
                     and self.random.random() >= self.p_wait and not self._is_silent())
        else:
            assert self.offered is None, "an address was withdrawn"
        ctx.set(axi.arready, ready)
        if self.present is None and self.queue and not self._is_silent():
            start, data, last = self.queue[0]
            due = max(self.last + timing.interval, start) + self._stall(timing.beats, self.beats)
            if self.cycle >= due and self.random.random() >= self.p_wait:
                self.present = data, last
        ctx.set(axi.rvalid, self.present is not None)
        if self.present is not None:
            ctx.set(axi.rdata, self.present[0])
            ctx.set(axi.rlast, self.present[1])
            ctx.set(axi.rresp, 2 * (self.beats == self.wrong))

    def settle(self, ctx, axi):
        """Take what was handed over in this cycle."""
        if ctx.get(axi.arvalid) and ctx.get(axi.arready):
            self._take(*self.offered[0])
        if self.present is not None and ctx.get(axi.rready):
            self.queue.pop(0)
            self.last, self.present, self.beats = self.cycle, None, self.beats + 1
        self.cycle += 1

    def _take(self, address, length, size, kind):
        beat_bytes, count = self.arch.port_bits // 8, length + 1
        assert (1 << size, kind) == (beat_bytes, 1)
        assert address // 4096 == (address + count * beat_bytes - 1) // 4096
        assert count <= self.arch.port_burst
        count += self.length[1] * (self.bursts == self.length[0])
        first, rest = divmod(address - BASE, beat_bytes)
        assert not rest
        for index in range(count):
            start = self.cycle + self.timing.latency if index == 0 else 0
            self.queue.append((start, self.image[first + index], index + 1 == count))
        self.lengths.append(count)
        assert len({number for number, entry in enumerate(self.queue)
                    if entry[2]}) <= self.arch.port_reads
        self.bursts, self.offered = self.bursts + 1, None

    def _is_silent(self):
        return self.silent is not None and self.beats >= self.silent

    @staticmethod
    def _stall(trace, number):
        return trace[number % len(trace)] if trace else 0


def random_program(arch, count, seed):
    """FETCHes with words of all memories, and the image."""
    rng = random.Random(seed)
    image = [rng.getrandbits(arch.port_bits) for _ in range(6000)]
    program = []
    for _ in range(count):
        name = rng.choice(list(fetched_memories(arch)))
        words = rng.choice((1, 1, 2, 3, rng.randrange(1, 40)))
        beats = words * port_beats(arch, name)
        program.append({"memory": constant_order.index(name), "words": words,
                        "ext_addr": rng.randrange(len(image) - beats),
                        "const_addr": rng.randrange(200)})
    return program, image


def expected_writes(arch, program, image):
    for fields in program:
        name = constant_order[fields["memory"]]
        count, width = port_beats(arch, name), fetched_memories(arch)[name].width
        for index in range(fields["words"]):
            start = fields["ext_addr"] + index * count
            word = sum(beat << arch.port_bits * number
                       for number, beat in enumerate(image[start:start + count]))
            yield name, fields["const_addr"] + index, word & (1 << width) - 1


def run(arch, program, memory, *, clear_at=None, cycles=20000, p_pop=1.0):
    """Pops, dones and writes; the error and its tag where there was one.

    With `clear_at` the machine is reset in that cycle and the program begins again.
    """
    system = System(arch)
    fetch, axi = system.fetch, system.m_axi
    rng = random.Random(2)
    pops, dones, writes, error = [], [], [], None

    async def testbench(ctx):
        nonlocal error
        for cycle in range(cycles):
            ctx.set(system.clear, cycle == clear_at)
            offered = len(pops) < len(program) and rng.random() < p_pop and cycle != clear_at
            if offered:
                word = encode(Opcode.FETCH, **program[len(pops)])
                ctx.set(system.instr.payload, {"word": word, "counter": len(pops)})
            ctx.set(system.instr.valid, offered)
            memory.drive(ctx, axi)
            for name in fetched_memories(arch):
                if mask := ctx.get(getattr(fetch, f"{name}_we")):
                    width = fetched_memories(arch)[name].width
                    assert mask == (1 << width) - 1
                    writes.append((name, ctx.get(getattr(fetch, f"{name}_addr")),
                                   ctx.get(getattr(fetch, f"{name}_data"))))
            if ctx.get(fetch.done):
                dones.append(cycle)
            if offered and ctx.get(system.instr.ready):
                pops.append(cycle)
            if cycle == clear_at:
                pops.clear(), dones.clear(), writes.clear()
            memory.settle(ctx, axi)
            await ctx.tick()
            if (code := ctx.get(fetch.error)) is not ErrorCode.NONE:
                error = code, ctx.get(fetch.error_counter)
                return
            if len(dones) == len(program) and not memory.queue:
                return
        raise AssertionError("FETCH does not end")

    simulator = Simulator(system)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return pops, dones, writes, error


ARCHES = [arch_of(port_bits=16), arch_of(port_bits=32, port_burst=1), arch_of(port_bits=64),
          arch_of(port_bits=128, port_burst=256, port_reads=1), arch_of(port_reads=16)]
TIMINGS = [MemoryTiming(latency=1), MemoryTiming(latency=37),
           MemoryTiming(latency=5, interval=3),
           MemoryTiming(latency=11, interval=2, beats=(0, 3, 0, 0, 7, 1), addresses=(4, 0, 0, 9))]


@pytest.mark.parametrize("timing", TIMINGS, ids=range(4))
@pytest.mark.parametrize("arch", ARCHES, ids=range(5))
def test_words_and_cycles(arch, timing):
    program, image = random_program(arch, 12, seed=arch.port_bits)
    pops, dones, writes, error = run(arch, program, Memory(arch, image, timing), p_pop=0.7)
    assert error is None
    assert writes == list(expected_writes(arch, program, image))
    timer = Timer(arch, timing)
    free = 0
    for fields, pop, done in zip(program, pops, dones, strict=True):
        assert pop >= free
        occupancy, completion = timer.run(pop, fields)
        free = pop + occupancy
        assert done == pop + completion


def test_instructions_follow_each_other_as_soon_as_they_may():
    arch, timing = arch_of(port_bits=16), MemoryTiming(latency=20, interval=2)
    program, image = random_program(arch, 12, seed=8)
    pops, dones, _, _ = run(arch, program, Memory(arch, image, timing))
    timer, free = Timer(arch, timing), 0
    for fields, pop, done in zip(program, pops, dones, strict=True):
        assert pop == free
        occupancy, completion = timer.run(pop, fields)
        assert done == pop + completion
        free = pop + occupancy


def test_long_bursts_stop_at_4_kib():
    arch = arch_of(port_bits=16, port_burst=256, port_reads=2)
    program = [{"memory": 1, "words": 400, "ext_addr": 1900, "const_addr": 0}]
    image = random_program(arch, 0, seed=1)[1]
    memory = Memory(arch, image, MemoryTiming(latency=3))
    _, _, writes, _ = run(arch, program, memory)
    assert writes == list(expected_writes(arch, program, image))
    assert memory.lengths[0] == 2048 - 1900 and 256 in memory.lengths


@pytest.mark.parametrize("p_wait", [0.2, 0.8])
def test_unknown_stalls_change_no_word(p_wait):
    arch, timing = arch_of(port_bits=32), MemoryTiming(latency=4)
    program, image = random_program(arch, 8, seed=3)
    pops, dones, writes, _ = run(arch, program, Memory(arch, image, timing, p_wait=p_wait))
    assert writes == list(expected_writes(arch, program, image))
    timer = Timer(arch, timing)
    predicted = [timer.run(pop, fields)[1] for pop, fields in zip(pops, program, strict=True)]
    assert all(done >= pop + least for pop, done, least in zip(pops, dones, predicted,
                                                              strict=True))


def test_errors_of_the_memory():
    arch, timing = arch_of(port_bits=16), MemoryTiming(latency=6)
    program, image = random_program(arch, 8, seed=4)
    beats = [fields["words"] * port_beats(arch, constant_order[fields["memory"]])
             for fields in program]
    for wrong in (0, beats[0] - 1, beats[0], sum(beats[:5])):
        waiting = next(number for number in range(8) if sum(beats[:number + 1]) > wrong)
        *_, error = run(arch, program, Memory(arch, image, timing, wrong=wrong))
        assert error == (ErrorCode.MEMORY_ERROR, waiting)
        *_, error = run(arch, program, Memory(arch, image, timing, silent=wrong))
        assert error == (ErrorCode.MEMORY_SILENT, waiting)


@pytest.mark.parametrize("more", [-2, -1, 1, 2])
@pytest.mark.parametrize("reads", [1, 3])
def test_bursts_of_the_wrong_length(reads, more):
    arch, timing = arch_of(port_bits=16, port_reads=reads), MemoryTiming(latency=6)
    program, image = random_program(arch, 8, seed=4)
    quiet = Memory(arch, image, timing)
    run(arch, program, quiet)
    for burst in [number for number, count in enumerate(quiet.lengths) if count > 2][::5]:
        beats = sum(quiet.lengths[:burst + 1]) + min(more, 0) - 1
        waiting = next(number for number in range(8) if sum(
            fields["words"] * port_beats(arch, constant_order[fields["memory"]])
            for fields in program[:number + 1]) > beats)
        *_, error = run(arch, program, Memory(arch, image, timing, length=(burst, more)))
        assert error == (ErrorCode.MEMORY_ERROR, waiting)


@pytest.mark.parametrize("timing", TIMINGS[1:3], ids=range(2))
@pytest.mark.parametrize("clear_at", [3, 4, 30, 61, 150])
def test_reset_drops_what_is_in_flight(timing, clear_at):
    arch = arch_of(port_bits=16)
    program, image = random_program(arch, 8, seed=6)
    memory = Memory(arch, image, timing, p_wait=0.3)
    pops, dones, writes, error = run(arch, program, memory, clear_at=clear_at)
    assert error is None and len(pops) == len(dones) == len(program)
    assert writes == list(expected_writes(arch, program, image))


def test_estimate_is_that_of_a_quiet_port():
    arch = arch_of(port_bits=16)
    for words in (1, 5, 300):
        fields = {"memory": 1, "words": words, "ext_addr": 0, "const_addr": 0}
        occupancy, completion = estimate(arch, Opcode.FETCH, fields)
        exact = Timer(arch, MemoryTiming()).run(0, fields)
        assert completion == exact[1] and 0 < occupancy <= completion


@pytest.mark.parametrize("wrong", [{"port_bits": 24}, {"port_burst": 12}, {"port_burst": 512},
                                   {"port_bits": 128, "port_burst": 512}, {"port_timeout": 8},
                                   {"weights": "elsewhere"}])
def test_ports_that_cannot_be_built(wrong):
    with pytest.raises(ArchError, match=f"{list(wrong)[-1]} must be"):
        arch_of(**wrong)


def test_every_memory_is_fetched_but_the_program():
    assert list(fetched_memories(arch_of())) == [
        name for name in constant_memories(arch_of()) if name != "program"]
    assert not fetched_memories(dataclasses.replace(arch_of(), weights="loaded"))
