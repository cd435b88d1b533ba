"""What a design is said to cost is what its target costs, compiled from the beginning."""

import pytest

from bivit.compiler.passes import lower
from bivit.explore.compiled import compiled, cut_alike, deciding
from bivit.explore.networks import Prepared
from bivit.hw.arch import Arch
from bivit.sim.cycles import simulate_cycles
from bivit.sim.estimate import predict_cycles
from graphs import random_vit_graph

ARRAY = {"device": "ecp5-85f", "clock": 100.0, "rows": 2, "cols": 4, "lanes": 16}
NETWORKS = {"straight": {"image_shape": (1, 6, 6)},
            "loops": {"image_shape": (1, 20, 20), "embed_dim": 40, "num_heads": 4, "depth": 2}}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("more", [
    {}, {"room": 1.5}, {"weights": "streamed", "port_bits": 32},
    {"weights": "streamed", "port_bits": 32, "constants": 0.4},
    {"weights": "streamed", "port_bits": 32, "constants": 0.05, "imem_depth": 16}], ids=str)
def test_the_target_costs_what_was_said(network, more):
    graph = random_vit_graph(3, **NETWORKS[network])
    target, figures = compiled(ARRAY | more, Prepared(graph))
    again = predict_cycles(graph, Arch(**vars(target)))
    assert (figures["cycles"], figures["instructions"], figures["utilization"]) == (
        again.cycles, again.instructions, again.utilization)
    assert all(getattr(target, f"{name}_depth") >= words for name, words in again.memory.items())
    assert target.program_depth == again.instructions
    assert all(getattr(target, name) == value for name, value in more.items()
               if name.endswith("_depth"))
    if not more:
        assert (again.executed > again.instructions) == (network == "loops")
        assert target.resid_depth == again.memory["resid"]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("more", [{}, {"weights": "streamed", "port_bits": 32}], ids=str)
def test_designs_that_share_their_instructions_cost_what_their_targets_cost(network, more):
    alike = [ARRAY | more | timing for timing in (
        {}, {"tile_rows": 2, "tile_cols": 2}, {"pop_stages": 3}, {"queue_depth": 2},
        {"device": "k26", "clock": 200.0})]
    prepared = Prepared(random_vit_graph(3, **NETWORKS[network]))
    assert len(set(map(cut_alike, alike))) == 1 and len(set(map(deciding, alike))) == len(alike)
    for design in alike:
        target, figures = compiled(design, prepared)
        again = predict_cycles(prepared.graph, Arch(**vars(target)))
        assert (figures["cycles"], figures["instructions"]) == (again.cycles, again.instructions)
    assert cut_alike(ARRAY | {"rows": 4}) != cut_alike(ARRAY)


def test_the_interval_of_a_stem_engine_is_that_of_the_compiled_program():
    graph = random_vit_graph(3, **NETWORKS["loops"])
    target, figures = compiled(ARRAY | {"stem_macs": 8, "device": "k26"}, Prepared(graph))
    arch = Arch(**vars(target))
    first, second, _ = simulate_cycles(arch, lower(graph, arch).words, frames=3).frame_cycles
    assert figures["cycles"] == first and figures["interval"] == second - first < first
