"""Words of RESID or VMEM to external memory, and when they are there."""

import collections

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from bivit.hw.arch import Arch
from bivit.hw.blocks.checks import ErrorCode
from bivit.hw.blocks.fetch import MemoryTiming, port_beats
from bivit.hw.blocks.read_port import burst_layout
from bivit.hw.encoding import layout_of
from bivit.hw.isa import FORMATS, NumberSource, Opcode
from bivit.hw.memories import MEM_LATENCY, memories

__all__ = ["STORED_AS", "Storer", "Timer", "estimate", "store_members"]

STORED_AS = "pos"
"""The constant memory whose words, and so their beats, are those of RESID."""

_FIELDS = FORMATS[Opcode.STORE]
_SETUP, _LOAD_CYCLES = 2, MEM_LATENCY + 1


class Timer:
    """When the instructions of STORE are done, one after the other.

    Parameters
    ----------
    arch : Arch
    memory : MemoryTiming
    """

    def __init__(self, arch: Arch, memory: MemoryTiming):
        self.arch, self.memory = arch, memory
        self._pushed = self._taken = -1  # of the last beat and the last burst
        self._written = -memory.interval
        self._answered = collections.deque([-1], maxlen=arch.port_reads)
        self._beats = self._bursts = 0

    def run(self, pop: int, fields: dict[str, int]) -> tuple[int, int]:
        """Occupancy and completion of the next instruction, popped in cycle `pop`."""
        longest, in_word = self.arch.port_burst, port_beats(self.arch, STORED_AS)
        first, left = fields["ext_addr"], fields["words"] * in_word
        asked, word, position = pop + _SETUP, pop + 1 + _LOAD_CYCLES, 0
        while left:
            beats = min(left, longest - first % longest)
            asked = max(asked, self._pushed + 1, self._taken + 1)
            if len(self._answered) == self.arch.port_reads:
                asked = max(asked, self._answered[0] + 1)
            self._taken = asked + 1 + self._stall(self.memory.addresses, self._bursts)
            for beat in range(beats):
                start = max(self._pushed + 1, self._written, asked + 1 if beat == 0 else 0)
                if position % in_word == 0:
                    if position:
                        word = max(self._pushed + 1, word + _LOAD_CYCLES)
                    start = max(start, word)
                self._write(start)
                position += 1
            self._answered.append(max(max(self._taken, self._written) + self.memory.write_latency,
                                      self._answered[-1] + 1))
            self._bursts += 1
            first, left = first + beats, left - beats
        return (self._answered[-1] + 1 - pop,) * 2

    def _write(self, start):
        self._pushed = start
        self._written = max(start + 1, self._written + self.memory.interval)
        self._written += self._stall(self.memory.beats, self._beats)
        self._beats += 1

    @staticmethod
    def _stall(trace, number):
        return trace[number % len(trace)] if trace else 0


def estimate(arch: Arch, fields: dict[str, int]) -> tuple[int, int]:
    """Occupancy and completion alone, behind the default memory: what a scheduler can plan with."""
    return Timer(arch, MemoryTiming()).run(0, fields)


def store_members(arch: Arch) -> dict:
    """The error, and what goes to the write port and comes from it, of a :class:`Storer`."""
    return {"error": Out(ErrorCode),
            "burst": Out(stream.Signature(burst_layout(arch))),
            "beat": Out(stream.Signature(arch.port_bits)),
            "answered": In(1), "wrong": In(1), "alive": In(1)}


class Storer(wiring.Component):
    """Runs STORE: asks for bursts, reads words, hands on their beats, waits for the answers.

    After an error nothing moves until a reset.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    start, fields : take an instruction
    last : every burst is answered
    done : a pulse when it is
    error : ``Out``
    address : of the word that is read
    resid_data, vmem_data : two cycles later
    burst, beat : ``Out``
        To :class:`bivit.hw.blocks.write_port.WritePort`.
    answered, wrong, alive : ``In``
        From there.
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        sizes = memories(arch)
        super().__init__({
            "start": In(1),
            "fields": In(layout_of(Opcode.STORE)),
            "last": Out(1),
            "done": Out(1),
            "address": Out(16),
            "resid_data": In(sizes["resid"].width),
            "vmem_data": In(sizes["vmem"].width),
            **store_members(arch),
        })

    def elaborate(self, platform):
        m = Module()
        busy, stopped = Signal(), Signal()
        asked, ends = Signal(), Signal()
        m.d.comb += [stopped.eq(self.error != ErrorCode.NONE), self.last.eq(~busy)]
        m.d.sync += self.done.eq(ends)
        self._ask(m, stopped, asked)
        self._send(m, stopped)
        # Bursts that are not answered, and whether there will be more.
        waiting = Signal(range(self.arch.port_reads + 1))
        begin = self.burst.valid & self.burst.ready
        m.d.comb += ends.eq(self.answered & asked & (waiting == 1))
        m.d.sync += waiting.eq(waiting + begin - self.answered)
        with m.If(ends):
            m.d.sync += busy.eq(0)
        with m.If(self.start):
            m.d.sync += busy.eq(1)
        self._watch(m, busy, stopped)
        return m

    def _ask(self, m, stopped, asked):
        """Bursts of the instruction; `asked` when there are no more."""
        arch, longest = self.arch, self.arch.port_burst
        in_word = port_beats(arch, STORED_AS)
        first, words = Signal(_FIELDS["ext_addr"]), Signal(_FIELDS["words"])
        left = Signal(range((1 << _FIELDS["words"]) * in_word))
        setup, active = Signal(), Signal()
        to_boundary = Signal(range(longest + 1))
        m.d.comb += [
            asked.eq(~setup & ~active),
            self.burst.valid.eq(active & ~stopped),
            self.burst.p.first.eq(first),
            to_boundary.eq(longest - first[:(longest - 1).bit_length()]),
            self.burst.p.beats.eq(Mux(left < to_boundary, left, to_boundary)),
        ]
        with m.If(self.burst.valid & self.burst.ready):
            m.d.sync += [first.eq(first + self.burst.p.beats), left.eq(left - self.burst.p.beats),
                         active.eq(left != self.burst.p.beats)]
        with m.If(setup):
            m.d.sync += [setup.eq(0), active.eq(1), left.eq(words * in_word)]
        with m.If(self.start):
            m.d.sync += [setup.eq(1), words.eq(self.fields.words), first.eq(self.fields.ext_addr)]

    def _send(self, m, stopped):
        """Words to beats, the address of the next word ahead."""
        bits, in_word = self.arch.port_bits, port_beats(self.arch, STORED_AS)
        from_vmem = Signal()
        left = Signal(_FIELDS["words"])            # words that were not read
        in_word_left = Signal(range(in_word + 1))  # beats of the present one
        word = Signal(in_word * bits, reset_less=True)
        age = Signal(range(MEM_LATENCY + 1))       # cycles since the address came
        sent = Signal()
        m.d.comb += [
            sent.eq(self.beat.valid & self.beat.ready),
            self.beat.valid.eq((in_word_left != 0) & ~stopped),
            self.beat.payload.eq(word[:bits]),
        ]
        with m.If(age != MEM_LATENCY):
            m.d.sync += age.eq(age + 1)
        with m.If(sent):
            m.d.sync += [word.eq(word >> bits), in_word_left.eq(in_word_left - 1)]
        empty = (in_word_left == 0) | ((in_word_left == 1) & sent)
        with m.If(empty & (left != 0) & (age == MEM_LATENCY)):
            m.d.sync += [
                word.eq(Mux(from_vmem, self.vmem_data, self.resid_data)),
                in_word_left.eq(in_word), left.eq(left - 1),
                self.address.eq(self.address + 1), age.eq(0),
            ]
        with m.If(self.start):
            m.d.sync += [self.address.eq(self.fields.src_addr), left.eq(self.fields.words),
                         from_vmem.eq(self.fields.src == NumberSource.VMEM), age.eq(0)]

    def _watch(self, m, busy, stopped):
        """Errors of the memory: what it says, and that it says nothing."""
        silent = Signal(range(self.arch.port_timeout + 1))
        with m.If(~busy | self.alive):
            m.d.sync += silent.eq(0)
        with m.Elif(silent != self.arch.port_timeout):
            m.d.sync += silent.eq(silent + 1)
        with m.If(~stopped & busy):
            with m.If(self.answered & self.wrong):
                m.d.sync += self.error.eq(ErrorCode.MEMORY_ERROR)
            with m.Elif(silent == self.arch.port_timeout):
                m.d.sync += self.error.eq(ErrorCode.MEMORY_SILENT)
