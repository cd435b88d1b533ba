"""The sequencer in Amaranth's simulator, with imagined units."""

from amaranth.sim import Simulator

from bivit.hw.arch import Arch
from bivit.hw.blocks.checks import ErrorCode
from bivit.hw.blocks.sequencer import Sequencer
from bivit.hw.encoding import decode
from bivit.hw.isa import FORMATS, UNIT_OF, Unit

__all__ = ["TIMINGS", "Run", "small_arch", "unit_timing"]


def small_arch(*, program_depth=256, queue_depth=3, weights="rom", stem_macs=0):
    return Arch(name="test", rows=4, cols=8, lanes=16, post_rows=2, program_depth=program_depth,
                queue_depth=queue_depth, score_slots=3, score_tiles=6, sums_depth=10,
                weights=weights, stem_macs=stem_macs)


def unit_timing(arch, opcode, fields):
    """What the imagined units take: any numbers that depend on the instruction alone."""
    size = sum(fields[name] for name in FORMATS[opcode])
    occupancy = 1 + size % (1, 1, 7, 40)[size % 4]
    return occupancy, occupancy + 2


TIMINGS = dict.fromkeys(Unit, unit_timing)


class Run:
    """One simulated run with imagined units.

    Of what each unit takes, `pop`, `done` and so on have what belongs to a tag (of the latest
    frame), and `taken` all pops in order.
    """

    def __init__(self, arch, program, *, limit=20000, unit_error_at=None, frames=None):
        self.arch, self.program, self.limit, self.frames = arch, program, limit, frames
        self.taken = {unit: [] for unit in Unit}
        self.unit_error_at = unit_error_at
        self.pop, self.done, self.words, self.counters_of = {}, {}, {}, {}
        self.dut = Sequencer(arch)
        simulator = Simulator(self.dut)
        simulator.add_clock(1e-6)
        simulator.add_testbench(self._testbench)
        simulator.run()

    async def _testbench(self, ctx):
        dut = self.dut
        memory = dict(enumerate(self.program))
        await ctx.tick().repeat(5)
        assert not ctx.get(dut.busy)
        ctx.set(dut.start, 1)
        ctx.set(dut.frames, self.frames or 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        free, ends, addresses, cycle = dict.fromkeys(Unit, 0), {}, [0, 0, 0], 0
        while ctx.get(dut.busy):
            assert cycle < self.limit
            addresses.append(ctx.get(dut.program_addr))
            ctx.set(dut.program_data, memory.get(addresses[-3], 0))
            done = 0
            for unit in Unit:
                ctx.set(dut.units[unit].ready, free[unit] <= cycle)
                done |= ((unit, cycle) in ends) << unit
            ctx.set(dut.done, done)
            if cycle == self.unit_error_at:
                ctx.set(dut.unit_error, ErrorCode.STREAM_LONG)
                ctx.set(dut.unit_error_tag, 77)
            for unit in Unit:
                if ctx.get(dut.units[unit].valid) and free[unit] <= cycle:
                    self._popped(ctx, unit, cycle, free, ends)
            await ctx.tick()
            cycle += 1
        await ctx.tick()  # the counters of the units are complete
        self.cycles = ctx.get(dut.cycles)
        self.finished = ctx.get(dut.finished)
        self.error = ctx.get(dut.error_code), ctx.get(dut.error_tag)
        self.counters = {unit: (ctx.get(dut.run[unit]), ctx.get(dut.stall[unit]),
                                ctx.get(dut.idle[unit])) for unit in Unit}
        assert cycle == self.cycles

    def _popped(self, ctx, unit, cycle, free, ends):
        payload = ctx.get(self.dut.units[unit].payload)
        assert UNIT_OF[decode(payload.word)[0]] == unit
        occupancy, completion = unit_timing(self.arch, *decode(payload.word))
        assert self.frames or payload.tag not in self.pop
        self.taken[unit].append((cycle, payload.tag, payload.counter))
        self.pop[payload.tag], self.words[payload.tag] = cycle, payload.word
        self.counters_of[payload.tag] = payload.counter
        self.done[payload.tag] = cycle + completion
        free[unit] = cycle + occupancy
        ends[unit, cycle + completion] = payload.tag
