"""The table of cycles: every cycle accounted for, causes as the waits say."""

import random

import pytest

from bivit.compiler.expand import expand
from bivit.hw.encoding import encode
from bivit.hw.isa import UNIT_OF, Opcode, Unit
from bivit.hw.targets import TARGETS
from bivit.sim.accounting import CAUSES, product_slots
from bivit.sim.cycles import simulate_cycles
from bivit.sim.frame import frame_of
from bivit.sim.limits import limit_text
from bivit.sim.report import analyse, report
from looped_programs import looped_program
from programs import random_program

NAMES = ("a", "b", "c", "d")
BINARY, EIGHT, NUMBERS, OTHER = range(4)


def entry(layer, rows=None, cols=None):
    """An entry of the manifest's table of instructions."""
    observe = rows and {"rows": [3, 3 + rows], "cols": [5, 5 + cols], "pieces": None}
    return {"layer": layer, "observe": observe, "observe_bits": None}


def layers(macs):
    """A binary layer, one on 8-bit operands, one without products, one of another unit."""
    return [{"name": name, "op": "linear", "binary": name == "a", "macs": number}
            for name, number in zip(NAMES, (macs, 200, 0, 0), strict=True)]


def analysed(arch, program, entries, macs, length):
    frame = frame_of(arch, expand(arch, program), layers(macs), entries, {"a": length})
    return frame, analyse(frame, product_slots(frame))


@pytest.mark.parametrize("make", [
    lambda rng, arch: random_program(rng, arch, length=60),
    lambda rng, arch: looped_program(rng, arch, longest=200)], ids=["straight", "loops"])
@pytest.mark.parametrize("target", ["tiny", "odd", "zynq-7020"])
@pytest.mark.parametrize("seed", range(5))
def test_every_cycle_has_one_cause(target, seed, make):
    rng, arch = random.Random(seed), TARGETS[target]
    program = make(rng, arch)
    instructions = [executed[:2] for executed in expand(arch, program).instructions]
    length = arch.lanes - 3
    entries, macs = [], 0
    for opcode, fields in instructions:
        layer = rng.choice((BINARY, EIGHT, NUMBERS)) if UNIT_OF.get(opcode) is Unit.MM else OTHER
        rows = cols = None
        if layer == BINARY and opcode is not Opcode.MM_SCORE and rng.random() < 0.8:
            rows, cols = rng.randint(1, arch.rows), rng.randint(1, fields["n_tiles"] * arch.cols)
            macs += (rows * cols * length
                     * fields.get("a_planes", 1) * fields.get("b_planes", 1))
        entries.append(entry(layer, rows, cols))
    repeated = macs // 3
    frame, result = analysed(arch, program, entries, macs - repeated, length)
    for kind, cycles in (("array_cycles", result["cycles_per_image"]),
                         ("spent", result["binary_cycles"])):
        assert set(result[kind]) == set(CAUSES)
        assert sum(result[kind].values()) == pytest.approx(cycles)
        assert min(result[kind].values()) >= 0
        assert result[kind]["useful"] == (macs - repeated) / arch.macs_per_cycle
        assert result[kind]["repeated"] >= repeated / arch.macs_per_cycle
    assert result["cycles_per_image"] == simulate_cycles(arch, program).cycles
    assert sum(row["instructions"] for row in result["layers"]) == len(instructions) - 1
    for row in result["layers"]:
        if row["spent"]:
            assert sum(row["spent"].values()) == pytest.approx(row["busy"])
    if macs:
        assert result["demands"][result["limit"]] == max(result["demands"].values())
        assert result["demands"]["array"] <= result["binary_cycles"]


@pytest.mark.parametrize("planes, words, limit", [(1, 1, "arithmetic lanes"), (2, 1, "vector"),
                                                  (1, 9, "array")])
def test_the_limit_is_what_has_to_work_longest(planes, words, limit):
    arch = TARGETS["zynq-7020"]  # two cycles to drain a pass
    product = dict(n_tiles=40, k_words=words, a_planes=1, b_planes=1, sat=15, row_hi=1)
    program = [encode(Opcode.MM_ACC, **product),
               *[encode(Opcode.NORM_BITS, n_tiles=20 * planes ** 3, channels=8, groups=1, eps=1)
                 ] * (planes - 1), encode(Opcode.MM_ACC, **product), encode(Opcode.HALT)]
    entries = [entry(BINARY, 1, 8), *[entry(OTHER)] * (planes - 1), entry(BINARY, 1, 8)]
    timing = simulate_cycles(arch, program)
    _, result = analysed(arch, program, entries, 16 * 50, 50)
    expected = {"array": 2 * 40 * words, "arithmetic lanes": 2 * 40 * 2}
    if planes > 1:
        expected["vector"] = timing.occupancy[1]
    assert result["demands"] == expected and result["limit"] == limit
    assert limit in limit_text(result) and "%" in limit_text(result)


def test_waiting_for_the_vector_unit_is_called_so():
    arch = TARGETS["tiny"]
    product = dict(n_tiles=8, k_words=4, rows=1)
    norm = dict(n_tiles=1, channels=4, groups=1, eps=1)
    program = [encode(Opcode.MM_BITS, **product), encode(Opcode.NORM_BITS, **norm),
               encode(Opcode.MM_BITS, **product, wait_vec=1), encode(Opcode.HALT)]
    timing = simulate_cycles(arch, program)
    entries = [entry(BINARY, 1, 29), entry(OTHER), entry(BINARY, 2, 32)]
    macs = (1 * 29 + 2 * 32) * 50
    frame, result = analysed(arch, program, entries, macs, 50)
    spent, whole, every = result["spent"], result["array_cycles"], arch.macs_per_cycle
    assert spent["vector"] == timing.pop[2] - timing.pop[0] - 32
    assert (spent["start"], spent["end"]) == (1, timing.done[2] - timing.pop[2] - 32)
    assert spent["useful"] == macs / every
    assert spent["rows"] == 32 * 1 * 4 * 16 / every  # half of the first product
    assert spent["columns"] == 4 * 1 * 3 * 16 / every
    assert spent["lanes"] == (1 * 29 + 2 * 32) * (64 - 50) / every
    assert result["utilization"] == spent["useful"] / result["binary_cycles"]
    named = {"useful", "rows", "columns", "lanes", "vector", "start", "end"}
    assert not any(spent[cause] for cause in set(CAUSES) - named)
    assert whole | {"start": 0, "end": 0} == spent | {"start": 0, "end": 0}
    assert whole["start"] == timing.pop[0] + 1
    assert whole["end"] == timing.cycles - timing.pop[2] - 32 - 1


def test_a_wait_already_fulfilled_is_not_blamed():
    arch = TARGETS["tiny"]
    program = [encode(Opcode.NORM_BITS, n_tiles=1, channels=4, groups=1, eps=1),
               *[encode(Opcode.MM_BITS, n_tiles=100, k_words=4, rows=1) for _ in range(2)],
               encode(Opcode.MM_BITS, n_tiles=1, k_words=1, rows=1, wait_vec=1, wait_mm=1),
               encode(Opcode.HALT)]
    frame, result = analysed(arch, program, [entry(OTHER), *[entry(NUMBERS)] * 3], 0, 1)
    assert result["array_cycles"]["vector"] == 0
    assert result["array_cycles"]["matrix results"] > 0
    assert result["array_cycles"]["numbers alone"] == 801
    assert result["utilization"] is None and not any(result["spent"].values())
    assert frame.steps[3].wait.source == 2 and frame.steps[1].wait.source is None


def test_useful_products_that_nobody_makes_are_a_defect():
    arch = TARGETS["tiny"]
    program = [encode(Opcode.MM_BITS, n_tiles=1, k_words=1, rows=1), encode(Opcode.HALT)]
    with pytest.raises(AssertionError, match="missing"):
        analysed(arch, program, [entry(BINARY, 2, 4)], 2 * 4 * 16 + 1, 16)


def test_padding_of_the_digits_network(digits_build):
    """17 tokens in 3 blocks of 6; 17 keys in score tiles of 6 and words of 64 bits; 8 columns."""
    found = {row["name"]: row for row in report(digits_build)["layers"]}
    assert found["blocks.0.attn.q"]["spent"] == pytest.approx({
        "useful": 96 * 17 / 18, "rows": 96 / 18, "columns": 0, "lanes": 0, "repeated": 0,
        "drain": 0})
    assert found["blocks.0.attn.scores"]["spent"] == pytest.approx({
        "useful": 18 * 17 / 18 * 17 / 24, "rows": 1, "columns": 18 * 17 / 18 * 7 / 24, "lanes": 0,
        "repeated": 0, "drain": 0})
    attend = found["blocks.0.attn.attend"]
    assert attend["length"] == 17
    assert attend["spent"]["lanes"] == pytest.approx(48 * 17 / 18 * 47 / 64)
