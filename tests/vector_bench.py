"""The vector unit between its memories, fed with a program."""

import dataclasses

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory, MemoryData
from amaranth.sim import Simulator

from bivit.hw.blocks.vector import VectorUnit
from bivit.hw.encoding import encode
from bivit.hw.memories import memories

READS = {"resid": ("resid_addr", "resid_data"), "vmem": ("vmem_addr", "vmem_data"),
         "norm": ("norm_addr", "norm_data"), "xmem": ("xmem_read_addr", "xmem_read_data"),
         "hmem": ("hmem_addr", "hmem_data")}
WRITES = {"xmem": ("xmem_we", "xmem_addr", "xmem_data"),
          "vmem": ("vmem_we", "vmem_write_addr", "vmem_write_data"),
          "kmem": ("kmem_we", "kmem_addr", "kmem_data")}
FIRST_TAG = 100
"""Tag of the first instruction of a program."""


@dataclasses.dataclass
class Trace:
    """What a run showed: cycles of pops and dones, writes, beats, and the memories in the end.

    `writes` are (cycle, tag, memory, address).
    """

    pops: list = dataclasses.field(default_factory=list)
    dones: list = dataclasses.field(default_factory=list)
    writes: list = dataclasses.field(default_factory=list)
    beats: list = dataclasses.field(default_factory=list)
    words: dict = dataclasses.field(default_factory=dict)


class Bench(wiring.Component):
    """The unit and its memories.

    Parameters
    ----------
    arch : Arch
    contents : dict of str to list of int
        Words of each memory.
    """

    def __init__(self, arch, contents):
        self.unit, self.arch = VectorUnit(arch), arch
        self.contents = {}
        for name, words in contents.items():
            size = memories(arch)[name]
            self.contents[name] = MemoryData(shape=size.width, depth=size.depth, init=words)
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.unit = self.unit
        for name, contents in self.contents.items():
            memory = m.submodules[name] = Memory(contents)
            if name in READS:
                address, word = (getattr(self.unit, port) for port in READS[name])
                port, data = memory.read_port(), Signal(len(word), name=f"{name}_output")
                m.d.sync += data.eq(port.data)
                m.d.comb += [port.addr.eq(address), word.eq(data)]
            if name in WRITES:
                mask, address, word = (getattr(self.unit, port) for port in WRITES[name])
                port = memory.write_port(granularity=1)
                m.d.comb += [port.en.eq(mask), port.addr.eq(address), port.data.eq(word)]
        return m


def run(arch, contents, program, *, waits=(), ready=lambda cycle: True):
    """Feed `program`, (opcode, fields) each, without gaps; the :class:`Trace`.

    Parameters
    ----------
    waits : set of int
        Instructions that come only when all before them are done.
    ready : callable
        Whether the output stream is taken in a cycle.
    """
    bench, trace = Bench(arch, contents), Trace()
    unit = bench.unit

    async def testbench(ctx):
        cycle = 0
        while len(trace.dones) < len(program):
            assert cycle < 100 * 1000, "the unit hangs"
            index = len(trace.pops)
            valid = index < len(program) and (index not in waits or len(trace.dones) == index)
            if valid:
                opcode, fields = program[index]
                ctx.set(unit.instr.payload,
                        {"word": encode(opcode, **fields), "tag": FIRST_TAG + index})
            ctx.set(unit.instr.valid, valid)
            ctx.set(unit.m_axis.ready, ready(cycle))
            assert ctx.get(unit.busy) == (index > len(trace.dones))
            if ctx.get(unit.m_axis.valid) and ctx.get(unit.m_axis.ready):
                beat = ctx.get(unit.m_axis.payload)
                trace.beats.append((beat.data, beat.last))
            for name, (mask, address, _) in WRITES.items():
                if ctx.get(getattr(unit, mask)):
                    trace.writes.append((cycle, ctx.get(unit.tag), name,
                                         ctx.get(getattr(unit, address))))
            if ctx.get(unit.done):
                trace.dones.append(cycle)
            if valid and ctx.get(unit.instr.ready):
                trace.pops.append(cycle)
            await ctx.tick()
            cycle += 1
        assert not ctx.get(unit.busy)
        for name, contents in bench.contents.items():
            trace.words[name] = [ctx.get(contents[index]) for index in range(contents.depth)]

    simulator = Simulator(bench)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return trace
