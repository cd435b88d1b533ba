"""The cycle model: when every instruction is dispatched, popped and done, exactly.

One forward pass over the executed sequence composes the timing that each block states next to its
hardware. Cycle 0 is the first cycle in which the machine is busy. Input is always valid and output
always ready.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from bivit.compiler.expand import Execution, frames_of
from bivit.hw.arch import Arch
from bivit.hw.blocks import fetch, matmul, softmax, stem, store, vector
from bivit.hw.blocks.sequencer import (
    END_CYCLES,
    FIRST_DECODE,
    QUEUE_CYCLES,
    REST_CYCLES,
    ROOM_CYCLES,
    WAIT_CYCLES,
)
from bivit.hw.isa import UNIT_OF, WAIT_FIELDS, Opcode, Unit

__all__ = ["CycleReport", "Timing", "executed_cycles", "simulate_cycles", "unit_timings"]

Timing = Callable[[Arch, Opcode, dict[str, int]], tuple[int, int]]
"""Occupancy and completion of an instruction, in cycles from its pop."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CycleReport:
    """When things happen in one run of a program.

    Parameters
    ----------
    cycles : int
        What the CYCLES register shows in the end.
    dispatch, pop, done : list of int
        Cycle of each executed instruction up to HALT, for which all three are the last cycle;
        frame after frame.
    occupancy : list of int
        Cycles from the pop of each instruction to the next possible pop; 0 for HALT.
    frame_cycles : list of int
        What CYCLES shows at the end of each frame, the last of them `cycles`.
    frame_starts : list of int
        Where each frame begins in the lists of instructions.
    busy : dict of Unit to int
        Cycles in which each unit is occupied: what its RUN register shows.
    """

    cycles: int
    dispatch: list[int]
    pop: list[int]
    done: list[int]
    occupancy: list[int]
    frame_cycles: list[int]
    frame_starts: list[int]
    busy: dict[Unit, int]


def unit_timings() -> dict[Unit, Timing]:
    """The timing of each unit but MM and FETCH, and STORE of VEC, where more than one instruction
    counts."""
    return {Unit.LOAD: stem.input_timing, Unit.SOFTMAX: softmax.timing, Unit.VEC: vector.timing}


@dataclasses.dataclass
class _UnitState:
    """What the model remembers of one unit."""

    moved: list[int] = dataclasses.field(default_factory=list)  # into the head of the queue
    done: list[int] = dataclasses.field(default_factory=list)
    popped: int = 0
    free: int = 0  # first cycle in which the unit may pop again
    busy: int = 0
    drain: int = 0  # drain cycles of a pass of the last product
    opcode: Opcode | None = None  # of the instruction before


def simulate_cycles(arch: Arch, program: Sequence[int], *, frames: int = 1,
                    timings: Mapping[Unit, Timing] | None = None,
                    memory: fetch.MemoryTiming | None = None) -> CycleReport:
    """Predict the cycles of a program.

    Parameters
    ----------
    program : list of int
        Encoded instructions; what follows the first HALT does not matter.
    frames : int
        How many frames the start runs.
    timings : mapping, optional
        Replaces the timing of units, MM included.
    memory : MemoryTiming, optional
        External memory of a `streamed` target.

    Raises
    ------
    ValueError
        For a program that the machine stops with an error.
    """
    return executed_cycles(arch, *frames_of(arch, program, frames), timings=timings, memory=memory)


def executed_cycles(arch: Arch, *frames: Execution,
                    timings: Mapping[Unit, Timing] | None = None,
                    memory: fetch.MemoryTiming | None = None) -> CycleReport:
    """The same for frames that were expanded."""
    for execution in frames:
        if execution.error:
            raise ValueError(str(execution.error))
    timings = unit_timings() | dict(timings or {})
    units = [_UnitState() for _ in Unit]
    memory = memory or fetch.MemoryTiming()
    fetches, stores = fetch.Timer(arch, memory), store.Timer(arch, memory)
    dispatched, popped, finished, occupied, starts, ends = [], [], [], [], [], []
    waits = [(state.done, WAIT_FIELDS[unit]) for unit, state in zip(Unit, units, strict=True)]
    timing_of = [timings.get(unit) for unit in Unit]
    for index, execution in enumerate(frames):
        # The last cycle of the instruction before in each stage of the sequencer.
        starts.append(len(popped))
        begin = ends[-1] if ends else 0
        decode, add, time = begin + FIRST_DECODE - 1, begin, begin
        for opcode, fields, _, delay in execution.instructions:
            decode = max(decode + 1 + delay, add)
            add = max(decode + 1, time)
            time = max(add, time) + 1
            needed = 0
            for done, name in waits:
                if 0 < (distance := fields[name]) <= len(done):
                    needed = max(needed, done[-distance] + WAIT_CYCLES)
            if opcode is Opcode.HALT:
                break
            kind = UNIT_OF[opcode]
            unit, timing = units[kind], timing_of[kind]
            if len(unit.moved) >= arch.queue_depth:
                time = max(time, unit.moved[-arch.queue_depth] + ROOM_CYCLES)
            unit.moved.append(max(time + QUEUE_CYCLES, unit.popped))
            ready = max(unit.moved[-1] + 1, unit.free, needed)
            pop = ready
            if timing is vector.timing:
                pop = max(ready, unit.free + vector.settling(arch, unit.opcode, opcode))
                unit.busy += pop - ready
            if opcode is Opcode.STORE:
                occupancy, completion = stores.run(pop, fields)
            elif timing is not None:
                occupancy, completion = timing(arch, opcode, fields)
            elif kind is Unit.FETCH:
                occupancy, completion = fetches.run(pop, fields)
            else:
                counter = matmul.next_counter(unit.drain, pop - unit.free)
                occupancy, completion = matmul.timing(arch, opcode, fields, counter)
                unit.drain = matmul.drain_of(arch, opcode, fields)
            unit.popped, unit.free, unit.opcode = pop, pop + occupancy, opcode
            unit.busy += occupancy
            unit.done.append(pop + completion)
            dispatched.append(time)
            popped.append(pop)
            finished.append(pop + completion)
            occupied.append(occupancy)
        more = index < len(frames) - 1
        ahead = {Unit.LOAD} if arch.stem_macs and more else ()
        time = max(time, *((unit.popped if kind in ahead else unit.done[-1]) + REST_CYCLES
                           for kind, unit in zip(Unit, units, strict=True) if unit.done), 0)
        time += END_CYCLES
        for times in (dispatched, popped, finished):
            times.append(time)
        occupied.append(0)
        ends.append(time + 1)
    return CycleReport(cycles=ends[-1], dispatch=dispatched, pop=popped, done=finished,
                       occupancy=occupied, frame_cycles=ends, frame_starts=starts,
                       busy={unit: units[unit].busy for unit in Unit})
