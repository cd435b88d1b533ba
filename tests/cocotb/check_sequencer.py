"""The sequencer: order, waits and errors, with units that take any time they like."""

import random

import cocotb
from bench import Memory, start
from units import ARCH

from bivit.hw.blocks.checks import ErrorCode, units_of
from bivit.hw.encoding import decode, encode
from bivit.hw.isa import INSTR_BITS, TAG_BITS, UNIT_OF, WAIT_FIELDS, Opcode, Unit
from looped_programs import looped_program, straightened
from programs import WAIT_BITS, random_program

SOFTMAX, OUTPUT, HALT = (encode(Opcode.SOFTMAX, n_tiles=1), encode(Opcode.OUTPUT, count=1),
                         encode(Opcode.HALT))


class Machine:
    """The sequencer with a program and four imagined units.

    Parameters
    ----------
    p_ready : float
        Probability, in each cycle, that a unit takes its next instruction.
    longest : int
        Cycles that an instruction may take.
    """

    def __init__(self, ports, program, *, p_ready, longest):
        self.ports, self.p_ready, self.longest = ports, p_ready, longest
        self.cycle, self.pops, self.dones = 0, {unit: [] for unit in Unit}, {}
        self._due = {unit: [] for unit in Unit}
        Memory(ports, dict(enumerate(program)), [("program_addr", "program_data")])

    async def run(self):
        """From the start pulse until the machine is not busy."""
        ports = self.ports
        ports.set(start=1, done=0, unit_error=0)
        await ports.edge()
        ports.set(start=0)
        while True:
            ready = {unit: random.random() < self.p_ready for unit in Unit}
            ports.set(done=sum(1 << unit for unit in Unit if self._completes(unit)),
                      **{f"units__{unit}__ready": ready[unit] for unit in Unit})
            await ports.edge()
            if not ports.get("busy"):
                return
            for unit in Unit:
                if ready[unit] and ports.get(f"units__{unit}__valid"):
                    self._pop(unit, ports.get(f"units__{unit}__payload"))
            self.cycle += 1

    def _completes(self, unit):
        due = self._due[unit]
        if not due or due[0][0] > self.cycle:
            return False
        self.dones[due.pop(0)[1]] = self.cycle
        return True

    def _pop(self, unit, payload):
        tag = payload >> INSTR_BITS & (1 << TAG_BITS) - 1
        self.pops[unit].append((self.cycle, tag, payload & (1 << INSTR_BITS) - 1))
        earliest = self._due[unit][-1][0] + 1 if self._due[unit] else self.cycle + 1
        self._due[unit].append((max(earliest, self.cycle + random.randint(1, self.longest)), tag))


async def machine(dut, program, **options):
    ports = await start(dut, "sequencer__", start=0, done=0, unit_error=0, unit_error_tag=0)
    return Machine(ports, program, **options)


@cocotb.test(timeout_time=500, timeout_unit="us")
@cocotb.parametrize((("p_ready", "longest"), [(1.0, 1), (0.5, 10), (0.1, 40)]))
async def order_and_waits(dut, p_ready, longest):
    program = random_program(random.Random(9), ARCH, length=ARCH.program_depth - 1)
    await follows(dut, program, p_ready, longest)


@cocotb.test(timeout_time=500, timeout_unit="us")
@cocotb.parametrize((("p_ready", "longest"), [(1.0, 1), (0.5, 10), (0.1, 40)]))
async def loops(dut, p_ready, longest):
    await follows(dut, looped_program(random.Random(9), ARCH, longest=600), p_ready, longest)


async def follows(dut, program, p_ready, longest):
    """Everything that is executed is popped in order, after what it waits for."""
    run = await machine(dut, program, p_ready=p_ready, longest=longest)
    await run.run()
    await run.ports.edge()  # the counters of the units are complete
    ports, sent = run.ports, {unit: [] for unit in Unit}
    popped = {tag: (cycle, word) for unit in Unit for cycle, tag, word in run.pops[unit]}
    executed = straightened(ARCH, program)
    for tag, word in enumerate(executed[:-1]):
        opcode, fields = decode(word)
        cycle, seen = popped[tag]
        assert seen == word & ~WAIT_BITS
        for unit, name in WAIT_FIELDS.items():
            if 0 < fields[name] <= len(sent[unit]):
                assert run.dones[sent[unit][-fields[name]]] < cycle
        sent[UNIT_OF[opcode]].append(tag)
    assert {unit: [tag for _, tag, _ in run.pops[unit]] for unit in Unit} == sent
    assert len(run.dones) == len(executed) - 1
    assert (ports.get("finished"), ports.get("error_code")) == (1, 0)
    assert ports.get("cycles") == run.cycle
    for unit in units_of(ARCH):
        counters = [ports.get(f"{name}__{unit}") for name in ("run", "stall", "idle")]
        assert sum(counters) == run.cycle


@cocotb.test(timeout_time=50, timeout_unit="us")
@cocotb.parametrize((("word", "code"), [
    (0, ErrorCode.OPCODE), (18, ErrorCode.OPCODE),
    (HALT | 1 << INSTR_BITS - 1, ErrorCode.RESERVED),
    (encode(Opcode.RETURN), ErrorCode.STACK), (encode(Opcode.OUTPUT, stage=1), ErrorCode.STAGE),
    (encode(Opcode.OUTPUT), ErrorCode.COUNT),
    (encode(Opcode.LOAD, row=2, tokens=2, pixels=1, k_words=1), ErrorCode.COUNT)]))
async def wrong_instruction_stops(dut, word, code):
    run = await machine(dut, [SOFTMAX, word, OUTPUT], p_ready=0.5, longest=5)
    await run.run()
    assert run.ports.get("error_code") == code.value
    assert run.ports.get("error_tag") == 1
    assert not run.ports.get("finished") and not run.pops[Unit.VEC]
    run.ports.set(start=1)
    for _ in range(10):
        await run.ports.edge()
        assert not run.ports.get("busy")


@cocotb.test(timeout_time=50, timeout_unit="us")
async def error_of_a_unit_stops(dut):
    run = await machine(dut, [SOFTMAX] * 100 + [HALT], p_ready=0.5, longest=5)
    task = cocotb.start_soon(run.run())
    for _ in range(40):
        await run.ports.edge()
    run.ports.set(unit_error=ErrorCode.STREAM_LONG.value, unit_error_tag=77)
    await task
    assert run.ports.get("error_code") == ErrorCode.STREAM_LONG.value
    assert run.ports.get("error_tag") == 77
    assert not run.ports.get("finished") and len(run.pops[Unit.SOFTMAX]) < 50
