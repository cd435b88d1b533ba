"""The whole machine: units, memories and registers behind AXI ports."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from bivit.hw.arch import Arch
from bivit.hw.blocks.array import SystolicArray
from bivit.hw.blocks.checks import ErrorCode, units_of
from bivit.hw.blocks.constant_loader import ConstantLoader
from bivit.hw.blocks.fetch import FetchUnit
from bivit.hw.blocks.load import LoadUnit
from bivit.hw.blocks.matmul import MatmulIssue
from bivit.hw.blocks.memory import Ram, Rom
from bivit.hw.blocks.post import PostProcessing
from bivit.hw.blocks.read_port import ReadPort, axi_read_signature
from bivit.hw.blocks.registers import Registers, axi_lite_signature
from bivit.hw.blocks.sequencer import Sequencer
from bivit.hw.blocks.softmax import SoftmaxThreshold
from bivit.hw.blocks.stem import StemUnit
from bivit.hw.blocks.vector import VectorUnit
from bivit.hw.blocks.write_port import WritePort, axi_write_signature
from bivit.hw.emit import emit, place
from bivit.hw.isa import ASource, BSource, Unit
from bivit.hw.memories import (
    BEAT_BITS,
    constant_memories,
    fetched_memories,
    loaded_memories,
    memories,
    write_granularity,
)

__all__ = ["Accelerator", "accelerator_verilog"]


def accelerator_verilog(arch: Arch) -> str:
    """Verilog of a target: the module ``accelerator`` and every distinct block below it."""
    return emit(Accelerator(arch), "accelerator")


class Accelerator(wiring.Component):
    """The accelerator with conventional AXI port names, ``clk`` and ``rst``.

    Writing 2 to CTRL drops all that is in flight, in the input and output streams too: afterwards
    the host begins the input stream with the first beat of a frame (or packet) again.

    Parameters
    ----------
    arch : Arch
    contents : mapping of str to sequence of int
        Words of the constant memories of a `rom` target in Amaranth's simulator. Verilog reads
        ``rom/<name>.hex`` instead.

    Members
    -------
    s_axil_* : AXI4-Lite slave, the registers
    s_axis_* : AXI4-Stream in, pixels or the packets of LOAD_SELECT
    m_axis_* : AXI4-Stream out
    m_axi_* : AXI4, of a `streamed` target
    """

    def __init__(self, arch: Arch, contents=None):
        self.arch, self.contents = arch, contents
        lite = axi_lite_signature().flip().members
        external = _axi_members(arch) if fetched_memories(arch) else {}
        super().__init__({
            **{f"s_axil_{name}": member for name, member in lite.items()},
            "s_axis_tdata": In(BEAT_BITS), "s_axis_tlast": In(1),
            "s_axis_tvalid": In(1), "s_axis_tready": Out(1),
            "m_axis_tdata": Out(BEAT_BITS), "m_axis_tlast": Out(1),
            "m_axis_tvalid": Out(1), "m_axis_tready": In(1),
            **{f"m_axi_{name}": member for name, member in external.items()},
        })

    def elaborate(self, platform):
        m = Module()
        arch = self.arch
        registers = place(m, platform, "registers", Registers())
        reset = Signal(name="machine_reset")
        m.d.comb += reset.eq(registers.reset)

        def unit(name, component):
            return place(m, platform, name, component, reset=reset)

        sequencer = unit("sequencer", Sequencer(arch))
        load = unit("load", StemUnit(arch) if arch.stem_macs else LoadUnit(arch))
        issue = unit("issue", MatmulIssue(arch))
        array = unit("array", SystolicArray(arch))
        post = unit("post", PostProcessing(arch))
        softmax = unit("softmax", SoftmaxThreshold(arch))
        vector = unit("vector", VectorUnit(arch))
        loader = unit("loader", ConstantLoader(arch)) if loaded_memories(arch) else None
        units = {Unit.LOAD: load, Unit.MM: issue, Unit.SOFTMAX: softmax, Unit.VEC: vector}
        if Unit.FETCH in units_of(arch):
            units[Unit.FETCH] = unit("fetch", FetchUnit(arch))
            self._connect_memory(m, platform, registers, units[Unit.FETCH], vector)

        self._connect_registers(m, registers, sequencer, loader)
        self._connect_streams(m, load, vector, loader)
        self._connect_units(m, sequencer, units, post, loader)
        for name in ("a", "b", "valid", "first", "last"):
            m.d.comb += getattr(array, name).eq(getattr(issue, name))
        for name in ("score_addr", "score_data", "minima"):
            source, sink = (softmax, post) if name == "score_addr" else (post, softmax)
            m.d.comb += getattr(sink, name).eq(getattr(source, name))
        m.d.comb += [
            post.counts.eq(array.counts),
            post.pass_valid.eq(issue.pass_valid), post.pass_.eq(issue.pass_),
            load.clear.eq(0),
        ]
        constants = {
            "program": (sequencer.program_addr, sequencer.program_data),
            "weight": (issue.b_addr, issue.b_data[BSource.WEIGHT.value]),
            "thr": (post.thr_addr, post.thr_data),
            "scale": (post.scale_addr, post.scale_data),
            "norm": (vector.norm_addr, vector.norm_data),
            "pos": (post.pos_addr, post.pos_data),
            "bend": (post.bend_addr, post.bend_data),
            "bias": (post.bias_addr, post.bias_data),
        }
        write_ports = {
            "xmem": (vector.xmem_we, vector.xmem_addr, vector.xmem_data),
            "hmem": (post.hmem_we, post.hmem_addr, post.hmem_data),
            "pmem": (softmax.pmem_we, softmax.pmem_addr, softmax.pmem_data),
            "bmem": (post.bmem_we, post.bmem_addr, post.bmem_data),
            "resid": (post.resid_we, post.resid_write_addr, post.resid_write_data),
            "vmem": (vector.vmem_we, vector.vmem_write_addr, vector.vmem_write_data),
            "kmem": (vector.kmem_we, vector.kmem_addr, vector.kmem_data),
        }
        read_ports = {
            **{source.name.lower(): [(issue.a_addr, issue.a_data[source.value])]
               for source in ASource if source is not ASource.IMEM},
            **{source.name.lower(): [(issue.b_addr, issue.b_data[source.value])]
               for source in (BSource.BMEM, BSource.KMEM)},
            **{name: [(getattr(unit, f"{name}_addr"), getattr(unit, f"{name}_data"))
                      for unit in (post, vector)] for name in ("resid", "vmem")},
        }
        read_ports["xmem"].append((vector.xmem_read_addr, vector.xmem_read_data))
        read_ports["hmem"].append((vector.hmem_addr, vector.hmem_data))
        if arch.stem_macs:  # operand A reads zeros from IMEM
            constants |= {name: (getattr(load, f"{name}_addr"), getattr(load, f"{name}_data"))
                          for name in ("stem", "stem_scale")}
            write_ports["smem"] = load.smem_we, load.smem_write_addr, load.smem_write_data
            read_ports["smem"] = [(post.smem_addr, post.smem_data)]
        else:
            write_ports["imem"] = load.imem_we, load.imem_addr, load.imem_data
            read_ports["imem"] = [(issue.a_addr, issue.a_data[ASource.IMEM.value])]
        self._constants(m, platform, loader, units.get(Unit.FETCH), constants)
        for name, write in write_ports.items():
            self._ram(m, platform, name, write, read_ports[name])
        _observe(m, "obs_busy", sequencer.busy)
        _observe(m, "obs_frames_left", sequencer.frames_left)
        for name, tag in (("post", post.tag), ("softmax", softmax.tag), ("vec", vector.tag)):
            _observe(m, f"obs_{name}_tag", tag)
        return m

    def _connect_registers(self, m, registers, sequencer, loader):
        for name, member in axi_lite_signature().flip().members.items():
            own, inner = getattr(self, f"s_axil_{name}"), getattr(registers.s_axil, name)
            m.d.comb += inner.eq(own) if member.flow is In else own.eq(inner)
        m.d.comb += [sequencer.start.eq(registers.start), sequencer.frames.eq(registers.frames)]
        for name in ("busy", "finished", "error_code", "error_tag", "cycles"):
            m.d.comb += getattr(registers, name).eq(getattr(sequencer, name))
        for name in ("run", "stall", "idle"):
            m.d.comb += [getattr(registers, name)[unit].eq(getattr(sequencer, name)[unit])
                         for unit in Unit]
        if loader is not None:
            m.d.comb += [
                loader.select_valid.eq(registers.load),
                loader.select_index.eq(registers.load_select),
                loader.select_beats.eq(registers.load_beats),
                loader.clear.eq(0),
                registers.load_busy.eq(loader.busy),
            ]

    def _connect_streams(self, m, load, vector, loader):
        """Beats go to the constant loader while it is busy, else to LOAD."""
        takers = [load] if loader is None else [load, loader]
        loading = 0 if loader is None else loader.busy
        for taker in takers:
            m.d.comb += [
                taker.s_axis.payload.data.eq(self.s_axis_tdata),
                taker.s_axis.payload.last.eq(self.s_axis_tlast),
                taker.s_axis.valid.eq(self.s_axis_tvalid & (~loading if taker is load else loading)
                                      if loader is not None else self.s_axis_tvalid),
            ]
        ready = load.s_axis.ready
        if loader is not None:
            ready = Mux(loading, loader.s_axis.ready, ready)
        m.d.comb += [
            self.s_axis_tready.eq(ready),
            self.m_axis_tdata.eq(vector.m_axis.payload.data),
            self.m_axis_tlast.eq(vector.m_axis.payload.last),
            self.m_axis_tvalid.eq(vector.m_axis.valid),
            vector.m_axis.ready.eq(self.m_axis_tready),
        ]

    def _connect_memory(self, m, platform, registers, fetch, vector):
        """The ports are outside the machine's reset: what they asked for still comes."""
        read = place(m, platform, "read_port", ReadPort(self.arch))
        write = place(m, platform, "write_port", WritePort(self.arch))
        for port, unit, names in ((read, fetch, ("beat_valid", "beat_data", "beat_error", "alive")),
                                  (write, vector, ("answered", "wrong", "alive"))):
            m.d.comb += [port.clear.eq(registers.reset), port.base.eq(registers.memory_base)]
            m.d.comb += [getattr(unit, name).eq(getattr(port, name)) for name in names]
            connect(m, unit.burst, port.burst)
            for name, member in port.m_axi.signature.members.items():
                own, inner = getattr(self, f"m_axi_{name}"), getattr(port.m_axi, name)
                m.d.comb += inner.eq(own) if member.flow is In else own.eq(inner)
        connect(m, vector.beat, write.beat)

    def _connect_units(self, m, sequencer, units, post, loader):
        load_counter = Signal(16)
        for unit, block in units.items():
            instructions = sequencer.units[unit]
            connect(m, instructions, block.instr)
            done = (post if unit is Unit.MM else block).done
            pop = instructions.valid & instructions.ready
            m.d.comb += sequencer.done[unit].eq(done)
            _observe(m, f"obs_{unit.name.lower()}_pop", pop)
            _observe(m, f"obs_{unit.name.lower()}_pop_tag", instructions.payload.tag)
            _observe(m, f"obs_{unit.name.lower()}_done", done)
            if unit is Unit.LOAD:
                with m.If(pop):
                    m.d.sync += load_counter.eq(instructions.payload.counter)
        m.d.comb += [sequencer.unit_error.as_value().eq(units[Unit.LOAD].error),
                     sequencer.unit_error_tag.eq(load_counter)]
        if fetch := units.get(Unit.FETCH):
            vector = units[Unit.VEC]
            with m.If(units[Unit.LOAD].error == 0):
                with m.If(fetch.error != ErrorCode.NONE):
                    m.d.comb += [sequencer.unit_error.eq(fetch.error),
                                 sequencer.unit_error_tag.eq(fetch.error_counter)]
                with m.Else():
                    m.d.comb += [sequencer.unit_error.eq(vector.error),
                                 sequencer.unit_error_tag.eq(vector.error_counter)]
        if loader is not None:
            with m.If(loader.error != 0):
                m.d.comb += [sequencer.unit_error.as_value().eq(loader.error),
                             sequencer.unit_error_tag.eq(0)]

    def _constants(self, m, platform, loader, fetch, ports):
        writers = (dict.fromkeys(loaded_memories(self.arch), loader)
                   | dict.fromkeys(fetched_memories(self.arch), fetch))
        for name, (width, depth) in constant_memories(self.arch).items():
            address, value = ports[name]
            if name not in writers:
                rom = place(m, platform, f"{name}_rom", Rom(
                    width=width, depth=depth, file=f"rom/{name}.hex",
                    init=tuple((self.contents or {}).get(name, ()))))
                m.d.comb += [rom.read_addr.eq(address), _bits(value).eq(rom.read_data)]
            else:
                write = [getattr(writers[name], f"{name}_{port}")
                         for port in ("we", "addr", "data")]
                self._ram(m, platform, name, write, [(address, value)])

    def _ram(self, m, platform, name, write, reads):
        width, depth = memories(self.arch)[name]
        granularity = write_granularity(self.arch).get(name, width)
        ram = place(m, platform, f"{name}_ram", Ram(
            width=width, depth=depth, granularity=granularity, read_ports=len(reads)))
        we, address, word = (_observe(m, f"{name}_{port}", value)
                             for port, value in zip(("we", "addr", "data"), write, strict=True))
        m.d.comb += [ram.we.eq(Cat(we[::granularity])), ram.write_addr.eq(address),
                     ram.write_data.eq(word)]
        for port, (address, value) in enumerate(reads):
            m.d.comb += [ram.read_addr[port].eq(address), _bits(value).eq(ram.read_data[port])]


def _axi_members(arch):
    return {**axi_read_signature(arch).members, **axi_write_signature(arch).members}


def _bits(value):
    """Plain bits of a port, whatever its layout."""
    return value.as_value() if hasattr(value, "as_value") else value


def _observe(m, name, value):
    """A signal of this name that stays in the Verilog."""
    signal = Signal(len(_bits(value)), name=name, attrs={"keep": 1})
    m.d.comb += signal.eq(_bits(value))
    return signal
