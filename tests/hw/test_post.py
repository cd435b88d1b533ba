"""Post-processing against NumPy: exact memories and minima at each done pulse, exact cycles."""

import random

import numpy as np
import pytest
from amaranth.hdl import Value
from amaranth.sim import Simulator

from bivit.compiler.ir.numeric import RESCALE_SHIFTS
from bivit.hw.blocks.post import PARAM_LEAD, Mode, PostProcessing, latency
from bivit.hw.isa import AddSource, Destination
from post_model import ARCHS, Memories, pack, unpack


def random_instruction(arch, rng, mode, tag):
    """Fields of an instruction that keeps inside the memories."""
    n_tiles = rng.randint(1, 4)
    fields = {"mode": mode, "tag": tag, "n_tiles": n_tiles, "param_addr": rng.randint(0, 12)}
    if mode == Mode.BITS:
        dst = rng.choice(list(Destination))
        places = arch.blocks_per_key_word if dst == Destination.V else arch.chunks_per_word
        return fields | {
            "largest": rng.choice([16, 16, (1 << arch.count_bits) - 1]),
            "dst": dst, "dst_addr": rng.randint(0, 11), "dst_pos": rng.choice(
                [0, rng.randrange(places)]), "dst_stride": rng.randint(1, 6),
            "dst_col": rng.randrange(arch.blocks_per_key_group),
            "rows": rng.randint(1, arch.rows), "pv_addr": rng.randint(0, 4),
            "pv_first": rng.randint(0, 1) if dst == Destination.V else 0,
            "use_pv": rng.randint(0, 1) if dst != Destination.V else 0}
    if mode == Mode.SCORE:
        return fields | {"slot": 0, "keys": rng.randint(1, n_tiles * arch.keys_per_group)}
    a_planes, b_planes = rng.choice([(1, 1), (1, 1), (2, 1), (2, 3), (5, 1)])
    row_lo = rng.choice([0, rng.randrange(arch.rows)])
    largest = min((1 << arch.count_bits) - 1, (1 << 27) // ((1 << a_planes) * (1 << b_planes)))
    terms = rng.randint(1, largest)
    resid_addr, add_src = rng.randint(0, 20), rng.choice(list(AddSource))
    return fields | {
        "a_planes": a_planes, "b_planes": b_planes, "resid_addr": resid_addr, "add_src": add_src,
        "add_addr": rng.choice([resid_addr, 32]) if add_src == AddSource.RESID else
        rng.randint(0, 16),
        "row_lo": row_lo, "row_hi": rng.choice([arch.rows, rng.randint(row_lo + 1, arch.rows)]),
        "base": terms * ((1 << a_planes) - 1) * ((1 << b_planes) - 1), "largest": terms,
        "shift": rng.randrange(4),
        "sat": rng.choice([arch.resid_bits, rng.randint(1, arch.resid_bits)])}


def passes_of(arch, fields):
    """Record of each pass of an instruction, as the issue unit makes them."""
    shifts = [(i + j) for i in range(fields.get("a_planes", 1))
              for j in range(fields.get("b_planes", 1))]
    numbers = {name: int(getattr(value, "value", value)) for name, value in fields.items()}
    own = {name: numbers.get(name, 0) for name in (
        "mode", "tag", "dst", "dst_col", "rows", "use_pv", "pv_first", "slot", "add_src", "row_lo",
        "row_hi", "base", "shift", "sat")}
    full = arch.keys_per_group
    for tile in range(fields["n_tiles"]):
        chunk = fields.get("dst_pos", 0) + tile
        transposed = fields.get("dst") == Destination.V
        start = fields.get("dst_addr", 0)
        for number, shift in enumerate(shifts):
            yield own | {
                "tile": tile, "first_tile": tile == 0, "plane_first": number == 0,
                "plane_last": number == len(shifts) - 1, "plane_shift": shift,
                "last_pass": tile == fields["n_tiles"] - 1 and number == len(shifts) - 1,
                "param_addr": fields["param_addr"] + tile,
                "dst_addr": (start + tile * fields["dst_stride"] if transposed
                             else start + chunk // arch.chunks_per_word),
                "dst_pos": (fields["dst_pos"] if transposed else chunk % arch.chunks_per_word),
                "pv_addr": fields.get("pv_addr", 0) + tile,
                "valid_cols": min(max(fields.get("keys", 0) - tile * full, 0), full),
                "resid_addr": fields.get("resid_addr", 0) + tile * arch.drain_cycles,
                "add_addr": fields.get("add_addr", 0) + tile * arch.drain_cycles}


class Bench:
    """Feeds passes at the minimal spacing and checks every done pulse."""

    def __init__(self, arch, seed):
        self.arch = arch
        self.rng = np.random.default_rng(seed)
        self.memories, self.model = (Memories(arch, np.random.default_rng(seed))
                                     for _ in range(2))
        self.instructions, self.records, self.counts = [], {}, {}
        self.done = {}
        self.cycle = PARAM_LEAD
        self.slot, self.slot_done = 0, {}

    def add(self, fields, *, wait=False):
        """Append an instruction; with `wait` its first PV read follows all done pulses so far."""
        if wait and self.done:
            self.cycle = max(self.cycle, max(self.done) + 2)
        if fields["mode"] == Mode.SCORE:
            self.slot = (self.slot + 1) % self.arch.score_slots
            fields = fields | {"slot": self.slot}
            self.cycle = max(self.cycle, self.slot_done.get(self.slot, 0))
        index, counts = len(self.instructions), []
        drain = self.arch.drain_cycles if fields["mode"] == Mode.ACC else 1
        for record in passes_of(self.arch, fields):
            counts.append(self.rng.integers(
                fields.get("smallest", 0),
                fields.get("largest", (1 << self.arch.count_bits) - 1) + 1,
                (self.arch.rows, self.arch.cols)))
            self.records[self.cycle - PARAM_LEAD] = record
            self.counts[self.cycle] = counts[-1]
            self.cycle += drain
        self.done[self.cycle - 1 + latency(self.arch)] = index
        if fields["mode"] == Mode.SCORE:
            self.slot_done[self.slot] = max(self.done)
        self.instructions.append((fields, counts))

    async def testbench(self, ctx):
        dut, memories = self.dut, self.memories
        reads = {name: [0, 0] for name in ("thr", "scale", "pos", "resid")}
        finished, check_minima, writers = 0, None, set()
        for cycle in range(max(self.done) + 2):
            record = self.records.get(cycle)
            ctx.set(dut.pass_valid, record is not None)
            if record is not None:
                ctx.set(dut.pass_, record)
            else:
                ctx.set(Value.cast(dut.pass_), int.from_bytes(self.rng.bytes(32)) >> 64)
            noise = self.rng.integers(0, 1 << self.arch.count_bits,
                                      self.arch.rows * self.arch.cols)
            ctx.set(Value.cast(dut.counts), pack(
                self.counts.get(cycle, noise).ravel(), self.arch.count_bits))
            for name, pipeline in reads.items():
                ctx.set(Value.cast(getattr(dut, f"{name}_data")), pipeline[0])
                address = ctx.get(getattr(dut, f"{name}_addr"))
                depth = len(getattr(memories, name))
                pipeline[:] = [pipeline[1], memories.word(name, min(address, depth - 1))]
            if check_minima is not None:
                got = ctx.get(Value.cast(dut.minima[check_minima]))
                assert got == pack(self.model.minima[check_minima], self.arch.count_bits)
                check_minima = None
            if self._write(ctx, dut):
                assert ctx.get(dut.tag) == self.instructions[finished][0]["tag"]
                writers.add(finished)
            assert ctx.get(dut.done) == (cycle in self.done), cycle
            if cycle in self.done:
                fields, counts = self.instructions[finished]
                self.model.run(fields, counts)
                for name in ("hmem", "bmem", "resid"):
                    expected, got = getattr(self.model, name), getattr(memories, name)
                    assert np.array_equal(expected, got), (name, finished, fields)
                assert (finished in writers) == (fields["mode"] != Mode.SCORE)
                if fields["mode"] == Mode.SCORE:
                    check_minima = fields["slot"]
                finished += 1
            await ctx.tick()
        assert finished == len(self.instructions)
        for (slot, tile), expected in self.model.scores.items():
            ctx.set(dut.score_addr, slot * self.arch.score_tiles + tile)
            await ctx.tick().repeat(2)
            assert ctx.get(Value.cast(dut.score_data)) == pack(expected.ravel(),
                                                               self.arch.count_bits)

    def _write(self, ctx, dut):
        """Apply the write ports of this cycle; whether there was a write."""
        wrote = False
        for name, address in (("hmem", dut.hmem_addr), ("bmem", dut.bmem_addr),
                              ("resid", dut.resid_write_addr)):
            enable = ctx.get(getattr(dut, f"{name}_we"))
            if not enable:
                continue
            wrote = True
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


def needs_wait(fields):
    """Whether an instruction reads what another wrote."""
    return bool(fields.get("use_pv")) or fields.get("add_src") == AddSource.RESID


@pytest.mark.parametrize("name", ARCHS)
@pytest.mark.parametrize("mode", [*Mode, None])
def test_random_instructions(name, mode):
    """One mode, or all mixed, with no idle cycle but where a result is read."""
    arch, rng = ARCHS[name], random.Random(f"{name}/{mode}")
    bench = Bench(arch, seed=1)
    for number in range(30):
        fields = random_instruction(arch, rng, rng.choice(list(Mode)) if mode is None else mode,
                                    tag=1000 + number)
        bench.add(fields, wait=needs_wait(fields))
    bench.run()


def bits(**fields):
    """Fields of an instruction with mode BITS, thresholds and counts close to each other."""
    return {"mode": Mode.BITS, "largest": 16, "n_tiles": 1, "param_addr": 0,
            "dst": Destination.HMEM, "dst_addr": 0, "dst_pos": 0, "dst_stride": 1, "dst_col": 0,
            "rows": 1, "use_pv": 0, "pv_first": 0, "pv_addr": 0} | fields


@pytest.mark.parametrize("name", ARCHS)
def test_ones_of_values_follow_each_other(name):
    """One tile, block after block: PV is read and written in every cycle; then it is used."""
    arch = ARCHS[name]
    bench = Bench(arch, seed=2)
    for block in range(arch.blocks_per_key_word):
        bench.add(bits(dst=Destination.V, dst_pos=block, rows=arch.rows - block % 2,
                       pv_first=int(block == 0), pv_addr=3, param_addr=block, tag=block))
    bench.add(bits(use_pv=1, pv_addr=3, param_addr=9, tag=99), wait=True)
    bench.run()


@pytest.mark.parametrize("name", ["tiny", "ragged"])
def test_blocks_share_a_group_of_keys(name):
    """Each block clears and writes its own columns."""
    arch = ARCHS[name]
    assert arch.blocks_per_key_group == 2
    bench = Bench(arch, seed=3)
    for block in range(2):
        bench.add(bits(dst=Destination.K, dst_col=block, n_tiles=arch.chunks_per_word, tag=block))
    before = bench.memories.bmem[0].copy()
    bench.run()
    after, full = bench.memories.bmem[0], arch.keys_per_group
    assert np.array_equal(after[full:], before[full:])
    assert not np.array_equal(after[:full], before[:full])


@pytest.mark.parametrize("name", ["odd", "flat"])
def test_extreme_parameters(name):
    """The largest and smallest dot products, with the largest scale and biases."""
    arch = ARCHS[name]
    bench = Bench(arch, seed=4)
    terms, number = 4128, 0
    for shift in range(len(RESCALE_SHIFTS)):
        for planes, counts, src, sat in ((8, terms, AddSource.NONE, arch.resid_bits),
                                         (1, 0, AddSource.POS, arch.resid_bits),
                                         (1, 0, AddSource.POS, 2), (1, 0, AddSource.NONE, 1)):
            bench.add({"mode": Mode.ACC, "n_tiles": 1, "param_addr": 0, "a_planes": planes,
                       "b_planes": planes, "resid_addr": 2 * number, "add_src": src,
                       "add_addr": number, "row_lo": 0, "row_hi": arch.rows,
                       "base": terms * 255 * 255, "smallest": counts, "largest": counts,
                       "shift": shift, "sat": sat, "tag": number})
            number += 1
    bench.run()


@pytest.mark.parametrize("name", ARCHS)
def test_saturation_starts_at_the_first_number_out_of_range(name):
    """One more than the largest number, one less than the smallest, and those themselves."""
    arch = ARCHS[name]
    bench = Bench(arch, seed=5)
    for memories in (bench.memories, bench.model):
        memories.scale[:4] = 0
        memories.bias[:4] = np.array([[-256], [256], [0], [127]])
        for sat in range(1, arch.resid_bits + 1):
            memories.pos[2 * sat - 2:2 * sat, :] = np.array(
                [-(1 << (sat - 1)), (1 << (sat - 1)) - 1]).reshape(2, 1, 1)
    for sat in range(1, arch.resid_bits + 1):
        for number in range(4):
            bench.add({"mode": Mode.ACC, "n_tiles": 1, "param_addr": number, "a_planes": 1,
                       "b_planes": 1, "resid_addr": (4 * sat + number) % 32,
                       "add_src": AddSource.POS, "add_addr": 2 * sat - 2 + number % 2,
                       "row_lo": 0, "row_hi": min(arch.rows, arch.post_rows), "base": 1000,
                       "largest": 1000 % (1 << arch.count_bits), "shift": sat % 4, "sat": sat,
                       "tag": number})
    bench.run()
