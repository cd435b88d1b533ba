"""The table of cycles: every cycle accounted for, causes as the waits say."""

import random

import pytest

from bivit.compiler.expand import expand
from bivit.hw.isa import UNIT_OF, Opcode, Unit, decode, encode
from bivit.hw.targets import TARGETS
from bivit.sim.cycles import simulate_cycles
from bivit.sim.report import CAUSES, analyse
from programs import random_program

LAYERS = [{"name": "a", "op": "linear", "binary": True, "macs": 3000},
          {"name": "b", "op": "linear", "binary": False, "macs": 200},
          {"name": "c", "op": "norm_bits", "binary": False, "macs": 0}]


@pytest.mark.parametrize("target", ["tiny", "odd", "zynq-7020"])
@pytest.mark.parametrize("seed", range(5))
def test_every_cycle_has_one_cause(target, seed):
    arch, rng = TARGETS[target], random.Random(seed)
    program = random_program(rng, arch, length=60)
    layer_of = [rng.choice((0, 1)) if UNIT_OF.get(decode(word)[0]) is Unit.MM else 2
                for word in program]
    result = analyse(arch, expand(arch, program), LAYERS, layer_of)
    assert set(result["spent"]) == set(CAUSES)
    assert sum(result["spent"].values()) == pytest.approx(result["binary_cycles"])
    assert result["cycles_per_image"] == simulate_cycles(arch, program).cycles
    assert sum(row["instructions"] for row in result["layers"]) == len(program) - 1


def test_waiting_for_the_vector_unit_is_called_so():
    arch = TARGETS["tiny"]
    product = dict(n_tiles=8, k_words=4, rows=1)
    norm = dict(n_tiles=1, channels=4, groups=1, eps=1)
    program = [encode(Opcode.MM_BITS, **product), encode(Opcode.NORM_BITS, **norm),
               encode(Opcode.MM_BITS, **product, wait_vec=1), encode(Opcode.HALT)]
    timing = simulate_cycles(arch, program)
    result = analyse(arch, expand(arch, program), LAYERS, [0, 2, 0])
    assert result["spent"]["vector"] == timing.pop[2] - timing.pop[0] - 32
    assert result["spent"]["pipeline"] == 1 + timing.done[2] - timing.pop[2] - 32
    assert result["spent"]["useful"] == 3000 / (2 * 4 * 16)
    assert result["spent"]["useful"] + result["spent"]["padding"] == 64
    assert result["utilization"] == result["spent"]["useful"] / result["binary_cycles"]
    rest = set(CAUSES) - {"useful", "padding", "vector", "pipeline"}
    assert not any(result["spent"][cause] for cause in rest)


def test_a_wait_already_fulfilled_is_not_blamed():
    arch = TARGETS["tiny"]
    program = [encode(Opcode.NORM_BITS, n_tiles=1, channels=4, groups=1, eps=1),
               *[encode(Opcode.MM_BITS, n_tiles=100, k_words=4, rows=1) for _ in range(2)],
               encode(Opcode.MM_BITS, n_tiles=1, k_words=1, rows=1, wait_vec=1, wait_mm=1),
               encode(Opcode.HALT)]
    result = analyse(arch, expand(arch, program), LAYERS, [2, 0, 0, 0])
    assert result["spent"]["vector"] == 0
    assert result["spent"]["matrix results"] > 0
