"""The unit FETCH: words of constant memories from external memory, and when they come."""

import collections
import dataclasses
import functools

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from bivit.hw.arch import Arch
from bivit.hw.blocks.checks import ErrorCode
from bivit.hw.blocks.read_port import burst_layout
from bivit.hw.blocks.sequencer import InstructionQueue
from bivit.hw.encoding import layout_of
from bivit.hw.isa import FORMATS, INSTRUCTION, ConstantMemory, Opcode
from bivit.hw.memories import beats_per_word, constant_memories, constant_order, fetched_memories

__all__ = ["FetchUnit", "MemoryTiming", "Timer", "estimate", "port_beats"]

_FIELDS = FORMATS[Opcode.FETCH]
_SETUP = 2
"""Cycles from the pop of an instruction until it asks for its first burst."""


def port_beats(arch: Arch, memory: str) -> int:
    """Beats of the port that hold one word of a constant memory."""
    return beats_per_word(constant_memories(arch)[memory].width, arch.port_bits)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemoryTiming:
    """A memory behind the port, as ``docs/memory.md`` states it.

    Parameters
    ----------
    latency : int
        Cycles from the address of a burst to its first beat, at least 1.
    interval : int
        Cycles from a beat to the next, at least 1.
    write_latency : int
        Cycles from the address and the last beat of a written burst to its answer, at least 1.
    beats, addresses : tuple of int
        Trace of stalls: cycles by which the n-th beat, and the n-th address, come later; from the
        start again behind the end. Read and written ones are counted apart.
    """

    latency: int = 32
    interval: int = 1
    write_latency: int = 16
    beats: tuple[int, ...] = ()
    addresses: tuple[int, ...] = ()


class Timer:
    """When the instructions of FETCH are done, one after the other.

    Parameters
    ----------
    arch : Arch
    memory : MemoryTiming
    """

    def __init__(self, arch: Arch, memory: MemoryTiming):
        self.arch, self.memory = arch, memory
        self._taken = -1  # cycle in which the memory took the last address
        self._beat = -memory.interval  # cycle of the last beat
        self._last = collections.deque(maxlen=arch.port_reads)  # last beats of bursts
        self._beats = self._bursts = 0

    def run(self, pop: int, fields: dict[str, int]) -> tuple[int, int]:
        """Occupancy and completion of the next instruction, popped in cycle `pop`."""
        memory = constant_order[fields["memory"]]
        first, left = fields["ext_addr"], fields["words"] * port_beats(self.arch, memory)
        asked = pop + _SETUP
        while left:
            beats = min(left, self.arch.port_burst - first % self.arch.port_burst)
            asked = max(asked, self._taken + 1)
            if len(self._last) == self.arch.port_reads:
                asked = max(asked, self._last[0] + 1)
            self._burst(asked, beats)
            first, left = first + beats, left - beats
        return asked + 1 - pop, self._beat + 1 - pop

    def _burst(self, asked, beats):
        memory = self.memory
        self._taken = asked + 1 + self._stall(memory.addresses, self._bursts)
        self._beat = max(self._beat + memory.interval, self._taken + memory.latency)
        self._beat += self._stall(memory.beats, self._beats)
        if memory.beats:
            for beat in range(self._beats + 1, self._beats + beats):
                self._beat += memory.interval + self._stall(memory.beats, beat)
        else:
            self._beat += (beats - 1) * memory.interval
        self._last.append(self._beat)
        self._beats, self._bursts = self._beats + beats, self._bursts + 1

    @staticmethod
    def _stall(trace, number):
        return trace[number % len(trace)] if trace else 0


def estimate(arch: Arch, opcode: Opcode, fields: dict[str, int]) -> tuple[int, int]:
    """Occupancy and completion alone, behind the default memory: what a scheduler can plan with."""
    assert opcode is Opcode.FETCH
    return _estimate(arch, fields["memory"], fields["words"],
                     fields["ext_addr"] % arch.port_burst)


@functools.lru_cache(maxsize=1 << 16)
def _estimate(arch, memory, words, start):
    """The same, from what it depends on; `start` within a burst."""
    timing = MemoryTiming()
    beats = words * port_beats(arch, constant_order[memory])
    in_flight = arch.port_reads * arch.port_burst
    occupancy = _SETUP + max(0, beats - in_flight) * timing.interval + 1
    fields = {"memory": memory, "words": words, "ext_addr": start}
    return occupancy, Timer(arch, timing).run(0, fields)[1]


class FetchUnit(wiring.Component):
    """Runs FETCH: asks for bursts, puts beats together to words, writes them.

    The next instruction is popped when all bursts of the one before are asked for; beats come in
    the order of the bursts. After an error nothing moves until a reset.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    instr : ``In(stream.Signature(INSTRUCTION))``
    done : a pulse for each completed instruction, with its last write
    error, error_counter : ``Out``
        Code, and program counter of the instruction that waits.
    burst : ``Out(stream.Signature(burst_layout(arch)))``
        To :class:`bivit.hw.blocks.read_port.ReadPort`.
    beat_valid, beat_data, beat_error, alive : ``In``
        From there.
    <name>_we, <name>_addr, <name>_data : write port of each memory that is fetched; `we` is a mask
    """

    def __init__(self, arch: Arch):
        self.arch, self.sizes = arch, fetched_memories(arch)
        ports = {}
        for name, size in self.sizes.items():
            ports |= {f"{name}_we": Out(size.width), f"{name}_addr": Out(size.address_bits),
                      f"{name}_data": Out(size.width)}
        super().__init__({
            "instr": In(stream.Signature(INSTRUCTION)),
            "done": Out(1),
            "error": Out(ErrorCode), "error_counter": Out(INSTRUCTION["counter"].shape),
            "burst": Out(stream.Signature(burst_layout(arch))),
            "beat_valid": In(1), "beat_data": In(arch.port_bits), "beat_error": In(1),
            "alive": In(1),
            **ports,
        })

    def elaborate(self, platform):
        m = Module()
        arch = self.arch
        # Instructions whose words are not all there: each but the last has a burst in flight.
        entry = data.StructLayout({"memory": _FIELDS["memory"], "address": _FIELDS["const_addr"],
                                   "words": _FIELDS["words"],
                                   "counter": INSTRUCTION["counter"].shape})
        m.submodules.waiting = waiting = InstructionQueue(width=entry.size,
                                                          depth=arch.port_reads + 1)
        word = data.View(layout_of(Opcode.FETCH), self.instr.p.word)
        pushed = data.View(entry, waiting.i.payload)
        pop, stopped = Signal(), Signal()
        m.d.comb += [
            pop.eq(self.instr.valid & self.instr.ready), stopped.eq(self.error != ErrorCode.NONE),
            waiting.i.valid.eq(pop),
            pushed.memory.eq(word.memory), pushed.address.eq(word.const_addr),
            pushed.words.eq(word.words), pushed.counter.eq(self.instr.p.counter),
        ]
        self._ask(m, word, pop, stopped)
        self._receive(m, waiting, data.View(entry, waiting.o.payload), stopped)
        self._watch(m, waiting, data.View(entry, waiting.o.payload), stopped)
        return m

    def _beats(self, m, memory, name):
        """Beats of a word of `memory`."""
        counts = {ConstantMemory[name.upper()]: port_beats(self.arch, name) for name in self.sizes}
        beats = Signal(range(max(counts.values()) + 1), name=name)
        with m.Switch(memory):
            for number, count in counts.items():
                with m.Case(number):
                    m.d.comb += beats.eq(count)
        return beats

    def _ask(self, m, word, pop, stopped):
        """Bursts of the present instruction."""
        longest = self.arch.port_burst
        memory, words = Signal(_FIELDS["memory"]), Signal(_FIELDS["words"])
        beats = self._beats(m, memory, "asked_word_beats")
        first = Signal(_FIELDS["ext_addr"])
        left = Signal(_FIELDS["words"] + len(beats))
        setup, active = Signal(), Signal()
        to_boundary = Signal(range(longest + 1))
        m.d.comb += [
            self.instr.ready.eq(~setup & ~active & ~stopped),
            self.burst.valid.eq(active & ~stopped),
            self.burst.p.first.eq(first),
            to_boundary.eq(longest - first[:(longest - 1).bit_length()]),
            self.burst.p.beats.eq(to_boundary),
        ]
        with m.If(left < to_boundary):
            m.d.comb += self.burst.p.beats.eq(left)
        with m.If(self.burst.valid & self.burst.ready):
            m.d.sync += [first.eq(first + self.burst.p.beats), left.eq(left - self.burst.p.beats),
                         active.eq(left != self.burst.p.beats)]
        with m.If(setup):
            m.d.sync += [setup.eq(0), active.eq(1), left.eq(words * beats)]
        with m.If(pop):
            m.d.sync += [setup.eq(1), memory.eq(word.memory), words.eq(word.words),
                         first.eq(word.ext_addr)]

    def _receive(self, m, waiting, head, stopped):
        """Beats to words, and words to memories."""
        beats = self._beats(m, head.memory, "given_word_beats")
        most = 2 ** len(beats) - 1
        position, written = Signal(range(most + 1)), Signal(_FIELDS["words"])
        parts = [Signal(self.arch.port_bits, name=f"part_{number}", reset_less=True)
                 for number in range(max(port_beats(self.arch, name) for name in self.sizes))]
        write, final = Signal(), Signal()
        memory, address = Signal(_FIELDS["memory"]), Signal(_FIELDS["const_addr"])
        take, whole, last = Signal(), Signal(), Signal()
        m.d.comb += [
            take.eq(self.beat_valid & ~stopped),
            whole.eq(take & (position + 1 == beats)),
            last.eq(whole & (written + 1 == head.words)),
            waiting.o.ready.eq(last),
            self.done.eq(final),
        ]
        m.d.sync += [write.eq(whole), final.eq(last)]
        with m.If(take):
            m.d.sync += position.eq(position + 1)
            for number, part in enumerate(parts):
                with m.If(position == number):
                    m.d.sync += part.eq(self.beat_data)
        with m.If(whole):
            m.d.sync += [position.eq(0), written.eq(written + 1), memory.eq(head.memory),
                         address.eq(head.address + written)]
        with m.If(last):
            m.d.sync += written.eq(0)
        for name, size in self.sizes.items():
            inside = Signal(name=f"write_{name}")
            m.d.comb += [
                inside.eq(write & (memory == ConstantMemory[name.upper()])),
                getattr(self, f"{name}_we").eq(inside.replicate(size.width)),
                getattr(self, f"{name}_addr").eq(address),
                getattr(self, f"{name}_data").eq(Cat(parts)),
            ]

    def _watch(self, m, waiting, head, stopped):
        """Errors of the memory: what it says, and that it says nothing."""
        silent = Signal(range(self.arch.port_timeout + 1))
        with m.If(~waiting.o.valid | self.alive):
            m.d.sync += silent.eq(0)
        with m.Elif(silent != self.arch.port_timeout):
            m.d.sync += silent.eq(silent + 1)
        with m.If(~stopped & waiting.o.valid):
            with m.If(self.beat_valid & self.beat_error):
                m.d.sync += self.error.eq(ErrorCode.MEMORY_ERROR)
            with m.Elif(silent == self.arch.port_timeout):
                m.d.sync += self.error.eq(ErrorCode.MEMORY_SILENT)
            m.d.sync += self.error_counter.eq(head.counter)
