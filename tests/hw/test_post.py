"""Post-processing against NumPy: exact memories and minima at each done pulse, exact cycles."""

import itertools
import random

import numpy as np
import pytest
from amaranth.hdl import Value
from amaranth.sim import Simulator

from bivit.compiler.ir.numeric import RESCALE_SHIFTS
from bivit.hw.blocks.lanes import STAGES, pass_layout
from bivit.hw.blocks.matmul import drain_of
from bivit.hw.blocks.post import PARAM_LEAD, PostProcessing, latency
from bivit.hw.isa import AddSource, Destination, Opcode
from bivit.hw.memories import score_shape, score_shift
from post_model import ARCHS, READ_PORTS, Memories, pack, pack_fields, unpack
from products import PRODUCTS, most_terms, plain, random_product, records_of

LENGTHS = {Opcode.MM_BITS: 30, Opcode.MM_SCORE: 30, Opcode.MM_ACC: 10, None: 30}
"""Instructions of a random program of one mode, or of all."""


def packed_record(arch, record, rng):
    """A record as the port takes it; fields that its mode does not use hold anything."""
    return pack_fields([(record.get(name, int(rng.integers(0, 1 << field.width))), field.width)
                        for name, field in pass_layout(arch)])


class Bench:
    """Feeds passes at the minimal spacing; checks every cycle of every port, every done pulse."""

    def __init__(self, arch, seed):
        self.arch = arch
        self.rng = np.random.default_rng(seed)
        self.memories, self.model = (Memories(arch, np.random.default_rng(seed))
                                     for _ in range(2))
        self.instructions, self.records, self.counts = [], {}, {}
        self.done, self.writes = {}, {}
        self.cycle = PARAM_LEAD
        self.slot, self.slot_done = 0, {}

    def add(self, opcode, fields, *, least=0, most=None, wait=False):
        """Append an instruction with counts from `least` to `most`.

        With `wait`, its first reads follow all done pulses so far.
        """
        if wait and self.done:
            self.cycle = max(self.cycle, max(self.done) + 2)
        if opcode is Opcode.MM_SCORE:
            self.slot = (self.slot + 1) % self.arch.score_slots
            fields = fields | {"slot": self.slot}
            self.cycle = max(self.cycle, self.slot_done.get(self.slot, 0))
        most = (1 << self.arch.count_bits) - 1 if most is None else most
        tag, counts = len(self.instructions), []
        drain = drain_of(self.arch, opcode, plain(fields))
        for record in records_of(self.arch, opcode, fields, 1000 + tag):
            counts.append(self.rng.integers(least, most + 1, (self.arch.rows, self.arch.cols)))
            self.records[self.cycle - PARAM_LEAD] = packed_record(self.arch, record, self.rng)
            self.counts[self.cycle] = counts[-1]
            self._expect_writes(opcode, record, drain)
            self.cycle += drain
        self.done[self.cycle - 1 + latency(self.arch)] = tag
        if opcode is Opcode.MM_SCORE:
            self.slot_done[self.slot] = max(self.done)
        self.instructions.append((opcode, fields, counts))

    def _expect_writes(self, opcode, record, drain):
        """When a pass writes: each row group of numbers, and the bits behind the last."""
        post_rows, groups = self.arch.post_rows, self.arch.drain_cycles
        if opcode is Opcode.MM_ACC and record["plane_last"]:
            for group in range(groups):
                rows = range(group * post_rows, (group + 1) * post_rows)
                if any(record["row_lo"] <= row < record["row_hi"] for row in rows):
                    cycle = self.cycle + group * (drain // groups) + STAGES
                    self.writes.setdefault(cycle, set()).add("resid")
        if record["to_bits"] and record["plane_last"]:
            memory = "hmem" if record["dst"] == Destination.HMEM.value else "bmem"
            self.writes.setdefault(self.cycle + drain - 1 + STAGES, set()).add(memory)

    async def testbench(self, ctx):
        dut, memories, depth = self.dut, self.memories, self.memories.depth
        reads = {name: [0, 0] for name in READ_PORTS}
        finished, check_minima = 0, None
        for cycle in range(max(self.done) + 2):
            record = self.records.get(cycle)
            ctx.set(dut.pass_valid, record is not None)
            ctx.set(Value.cast(dut.pass_), packed_record(self.arch, {}, self.rng)
                    if record is None else record)
            noise = self.rng.integers(0, 1 << self.arch.count_bits,
                                      self.arch.rows * self.arch.cols)
            ctx.set(Value.cast(dut.counts), pack(
                self.counts.get(cycle, noise).ravel(), self.arch.count_bits))
            for name, pipeline in reads.items():
                ctx.set(Value.cast(getattr(dut, f"{name}_data")), pipeline[0])
                address = ctx.get(getattr(dut, f"{name}_addr"))
                pipeline[:] = [pipeline[1], memories.word(name, min(address, depth(name) - 1))]
            if check_minima is not None:
                got = ctx.get(Value.cast(dut.minima[check_minima]))
                assert got == self._entries(self.model.minima[check_minima])
                check_minima = None
            wrote = self._write(ctx, dut)
            assert wrote == self.writes.get(cycle, set()), (cycle, finished)
            if wrote:
                assert ctx.get(dut.tag) == 1000 + finished
            assert ctx.get(dut.done) == (cycle in self.done), cycle
            if cycle in self.done:
                opcode, fields, counts = self.instructions[finished]
                self.model.run(opcode, fields, counts)
                for name in ("hmem", "bmem", "resid"):
                    expected, got = getattr(self.model, name), getattr(memories, name)
                    assert np.array_equal(expected, got), (name, finished, fields)
                if opcode is Opcode.MM_SCORE:
                    check_minima = fields["slot"]
                finished += 1
            await ctx.tick()
        assert finished == len(self.instructions)
        for (slot, tile), expected in self.model.scores.items():
            ctx.set(dut.score_addr, slot * self.arch.score_tiles + tile)
            await ctx.tick().repeat(2)
            assert ctx.get(Value.cast(dut.score_data)) == self._entries(expected.ravel())

    def _entries(self, scores):
        """Scores as the score buffer keeps them."""
        return pack(scores >> score_shift(self.arch), score_shape(self.arch).width)

    def _write(self, ctx, dut):
        """Apply the write ports of this cycle; the memories that were written."""
        wrote = set()
        for name, address in (("hmem", dut.hmem_addr), ("bmem", dut.bmem_addr),
                              ("resid", dut.resid_write_addr)):
            enable = ctx.get(getattr(dut, f"{name}_we"))
            if not enable:
                continue
            wrote.add(name)
            word = getattr(self.memories, name)[ctx.get(address)]
            width = self.arch.resid_bits if name == "resid" else 1
            data = ctx.get(getattr(dut, f"{name}_write_data" if name == "resid"
                                   else f"{name}_data"))
            masks, numbers = (unpack(value, word.size, width) for value in (enable, data))
            assert set(masks) <= {0, (1 << width) - 1}
            if name == "resid":
                numbers -= (numbers >> (width - 1)) << width
            word[:] = np.where(masks.reshape(word.shape) > 0, numbers.reshape(word.shape), word)
        return wrote

    def run(self):
        self.dut = PostProcessing(self.arch)
        simulator = Simulator(self.dut)
        simulator.add_clock(1e-6)
        simulator.add_testbench(self.testbench)
        simulator.run()


def needs_wait(arch, fields):
    """Whether an instruction of `random_product` reads what another wrote."""
    half = arch.resid_depth // 2
    return bool(fields.get("use_pv") or fields.get("from_pv") or any(
        fields.get(f"{name}_src") == AddSource.RESID and fields[f"{name}_addr"] < half
        for name in ("add", "add2")))


def count_range(arch, opcode, fields, rng):
    """Counts that do not overflow, near the thresholds of many channels."""
    if opcode is Opcode.MM_ACC:
        return {"most": most_terms(arch, fields["a_planes"], fields["b_planes"])}
    return {"most": rng.choice((16, 16, (1 << arch.count_bits) - 1))}


@pytest.mark.parametrize("name", ARCHS)
@pytest.mark.parametrize("opcode", [*PRODUCTS, None])
def test_random_instructions(name, opcode):
    """One mode, or all mixed, with no idle cycle but where a result is read."""
    arch, rng = ARCHS[name], random.Random(f"{name}/{opcode}")
    bench = Bench(arch, seed=1)
    for _ in range(LENGTHS[opcode]):
        chosen = opcode or rng.choice(PRODUCTS)
        fields = random_product(rng, arch, chosen)
        bench.add(chosen, fields, **count_range(arch, chosen, fields, rng),
                  wait=needs_wait(arch, fields))
    bench.run()


def bits(**fields):
    """Fields of MM_BITS."""
    return {"n_tiles": 1, "param_addr": 0, "dst": Destination.HMEM, "dst_addr": 0, "dst_pos": 0,
            "dst_stride": 1, "dst_col": 0, "rows": 1, "use_pv": 0, "pv_first": 0,
            "pv_addr": 0} | fields


def numbers(arch, **fields):
    """Fields of MM_ACC."""
    return bits() | {
        "a_planes": 1, "b_planes": 1, "add_src": AddSource.NONE, "add_addr": 0, "add_tiles": 0,
        "add_phase": 0, "row_lo": 0, "row_hi": arch.rows, "base": 1000, "from_pv": 0, "shift": 0,
        "sat": arch.resid_bits, "bend": 0, "bend_addr": 0, "bend_shift": 0,
        "add2_src": AddSource.NONE, "add2_addr": 0, "to_bits": 0, "thr_addr": 0,
        "bits_addr": 0} | fields


@pytest.mark.parametrize("name", ARCHS)
def test_ones_of_values_follow_each_other(name):
    """One tile, block after block: PV is read and written in every cycle; then it is used."""
    arch = ARCHS[name]
    bench = Bench(arch, seed=2)
    for block in range(arch.blocks_per_key_word):
        bench.add(Opcode.MM_BITS, bits(
            dst=Destination.V, dst_pos=block, rows=arch.rows - block % 2,
            pv_first=int(block == 0), pv_addr=3, param_addr=block), most=16)
    bench.add(Opcode.MM_BITS, bits(use_pv=1, pv_addr=3, param_addr=9), most=16, wait=True)
    bench.add(Opcode.MM_ACC, numbers(arch, from_pv=1, pv_addr=3, param_addr=9, base=123), most=16)
    bench.run()


@pytest.mark.parametrize("name", ["tiny", "ragged"])
def test_blocks_share_a_group_of_keys(name):
    """Each block clears and writes its own columns."""
    arch = ARCHS[name]
    assert arch.blocks_per_key_group == 2
    bench = Bench(arch, seed=3)
    for block in range(2):
        bench.add(Opcode.MM_BITS, bits(dst=Destination.K, dst_col=block,
                                       n_tiles=arch.chunks_per_word), most=16)
    before = bench.memories.bmem[0].copy()
    bench.run()
    after, full = bench.memories.bmem[0], arch.keys_per_group
    assert np.array_equal(after[full:], before[full:])
    assert not np.array_equal(after[:full], before[:full])


@pytest.mark.parametrize("name", ["odd"])
def test_extreme_parameters(name):
    """The largest and smallest dot products, with the largest scale and biases, bent or not."""
    arch = ARCHS[name]
    bench = Bench(arch, seed=4)
    for memories in (bench.memories, bench.model):
        for values, extreme in zip(memories.bend.values(), (0, *[-2**15, 2**23 - 1] * 2),
                                   strict=True):
            values[0] = extreme
    terms, number = 4128, 0
    for shift in range(len(RESCALE_SHIFTS)):
        for planes, count, source, sat in ((8, terms, AddSource.NONE, arch.resid_bits),
                                           (1, 0, AddSource.POS, arch.resid_bits),
                                           (1, 0, AddSource.POS, 2), (1, 0, AddSource.NONE, 1)):
            bench.add(Opcode.MM_ACC, numbers(
                arch, a_planes=planes, b_planes=planes, dst_addr=2 * number % 32, add_src=source,
                add_addr=number, base=terms * 255 * 255, shift=shift, sat=sat, bend=number % 2,
                bend_shift=(number + shift) % 4), least=count, most=count)
            number += 1
    bench.run()


@pytest.mark.parametrize("name", ["tiny", "ragged"])
def test_saturation_starts_at_the_first_number_out_of_range(name):
    """One more than the largest number, one less than the smallest, and those themselves."""
    arch = ARCHS[name]
    bench = Bench(arch, seed=5)
    for memories in (bench.memories, bench.model):
        memories.scale[:4] = 0
        memories.bias_of_scale[:4] = np.array([[-256], [256], [0], [127]])
        for sat in range(1, arch.resid_bits + 1):
            memories.pos[2 * sat - 2:2 * sat, :] = np.array(
                [-(1 << (sat - 1)), (1 << (sat - 1)) - 1]).reshape(2, 1, 1)
    for sat in range(1, arch.resid_bits + 1):
        for number in range(4):
            bench.add(Opcode.MM_ACC, numbers(
                arch, param_addr=number, dst_addr=(4 * sat + number) % 32,
                add_src=AddSource.POS, add_addr=2 * sat - 2 + number % 2,
                row_hi=min(arch.rows, arch.post_rows), shift=sat % 4, sat=sat),
                most=1000 % (1 << arch.count_bits))
    bench.run()


@pytest.mark.parametrize("name", ["flat", "ragged"])
def test_two_addends_meet_a_clipped_number(name):
    """Rescaled numbers far out of range, with the addends that bring them back furthest."""
    arch, half = ARCHS[name], 1 << (ARCHS[name].resid_bits - 1)
    bench = Bench(arch, seed=6)
    for memories in (bench.memories, bench.model):
        memories.scale[:2], memories.bias_of_scale[:2] = np.array([[4], [-4]]), 0
        for addends in (memories.pos, memories.vmem):
            addends[:8], addends[8:16] = -half, half - 1
    for value, word, address, second in itertools.product(
            (2 * half, 3 * half, 4 * half, 8 * half), (0, 1), (0, 8),
            (AddSource.POS, AddSource.VMEM)):
        # The rescaled number is value or -value.
        bench.add(Opcode.MM_ACC, numbers(
            arch, param_addr=word, base=value * 64, add_src=AddSource.POS, add_addr=address,
            add2_src=second, add2_addr=address), most=0)
    bench.run()


def test_numbers_beside_knee_and_threshold():
    """Equal to each, one more and one less."""
    arch, number, step = ARCHS["ragged"], 100, 7
    bench = Bench(arch, seed=7)
    columns = np.arange(arch.cols)
    for memories in (bench.memories, bench.model):
        memories.scale[0], memories.bias_of_scale[0] = 0, number << 8
        knee = number + columns % 3 - 1
        for values, value in zip(memories.bend.values(), (knee, 256, 0, 256, step << 8),
                                 strict=True):
            values[0] = value
        result = np.where(number >= knee, number, number + step)
        memories.thr[0], memories.flip[0] = result + columns // 3 - 1, columns % 2
    bench.add(Opcode.MM_ACC, numbers(arch, bend=1, to_bits=1))
    bench.run()
    assert set(bench.memories.resid[0].ravel()) == {number, number + step}
