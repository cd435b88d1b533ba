"""Random networks from graph to simulated bits, compared with NumPy at every observation point."""


import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bivit.compiler.batch import one_by_one
from bivit.compiler.fuse import inner_nodes, live_nodes
from bivit.compiler.ir import checkpoint
from bivit.compiler.ir.graph import OBSERVED_KINDS
from bivit.compiler.passes import lower
from bivit.hw.targets import TARGETS
from bivit.sim.compare import compare
from bivit.sim.iss import InstructionSimulator
from bivit.sim.observe import RESULTS, observations
from bivit.sim.stream import batch_streams
from both_engines import check_engines
from graphs import random_image, random_vit_graph
from network_graphs import random_headwise_graph, random_pyramid_graph, random_window_graph

TARGET_NAMES = ("tiny", "odd", "zynq-7020")
RTL_NAMES = ("tiny", "odd", pytest.param("zynq-7020", marks=pytest.mark.slow))
MOVING_OPS = ("patchify", "select", "gather", "tile_channels")


@st.composite
def networks(draw):
    """Arguments of `random_vit_graph`: 1 to 4 layers, 1 to 3 heads, 1 to 40 tokens."""
    patch, class_token = draw(st.integers(1, 4)), draw(st.booleans())
    height = draw(st.integers(1, 6))
    width = draw(st.integers(1, (40 - class_token) // height))
    heads = draw(st.integers(1, 3))
    return {
        "seed": draw(st.integers(0, 2**32 - 1)),
        "depth": draw(st.integers(1, 4)),
        "embed_dim": draw(st.integers(1, 70)),
        "num_heads": heads,
        "head_dim": draw(st.integers(1, 40)),
        "image_shape": (draw(st.integers(1, 3)), height * patch, width * patch),
        "patch_size": patch,
        "mlp_dim": draw(st.integers(1, 90)),
        "num_classes": draw(st.integers(1, 12)),
        "class_token": class_token,
    }


@st.composite
def pyramids(draw):
    """Arguments of `random_pyramid_graph`."""
    side, ratio = draw(st.sampled_from(((2, 1), (2, 2), (4, 1), (4, 2), (4, 4), (6, 3))))
    return {"side": side, "ratio": ratio, "copies": draw(st.integers(1, 3)),
            "merge": draw(st.booleans()), **draw(widths())}


@st.composite
def windows(draw):
    """Arguments of `random_window_graph`."""
    side, window = draw(st.sampled_from(((2, 1), (3, 3), (4, 2), (4, 4), (6, 2), (6, 3))))
    return {"side": side, "window": window, "mlp": draw(st.sampled_from(("codes", "bits"))),
            "mode": draw(st.sampled_from(("relative", "absolute", "limit", "all"))),
            **draw(widths())}


@st.composite
def headwise(draw):
    """Arguments of `random_headwise_graph`."""
    return {"side": draw(st.integers(1, 5)), "zeros": draw(st.booleans()),
            "keys": draw(st.sampled_from(("heads", "gathered"))), **draw(widths(least=2))}


@st.composite
def widths(draw, least=1):
    """Seed, heads and channels."""
    heads = draw(st.integers(1, 3))
    return {"seed": draw(st.integers(0, 2**32 - 1)), "heads": heads,
            "width": heads * draw(st.integers(least, 14))}


def graphs():
    """Random graphs of the other kinds of networks."""
    return st.one_of(*(arguments.map(lambda given, make=make: make(**given))
                       for make, arguments in ((random_pyramid_graph, pyramids()),
                                               (random_window_graph, windows()),
                                               (random_headwise_graph, headwise()))))


def observation_table(program):
    """The part of the manifest that observations need."""
    return {"observations": program.observations,
            "executed": [instruction.description() for instruction in program.executed]}


def numpy_reference(graph, names, images):
    """Observed tensors of all images, by name; nothing that is computed may be missing."""
    types, live, inner = graph.infer(), live_nodes(graph), inner_nodes(graph)
    assert set(names) >= {node.name for node in graph.nodes
                          if types[node.name].kind in OBSERVED_KINDS and node.op not in MOVING_OPS
                          and node.name in live - inner}
    values = [graph.evaluate(image) for image in images]
    return {node.name: np.stack([value[node.name] for value in values])
            for node in graph.nodes if node.name in names}


def check_on_iss(graph, program, images):
    """Compare every observation point and the logits with NumPy."""
    patch_size = next(node.attributes["patch_size"] for node in graph.nodes
                      if node.op == "patchify")
    table = observation_table(program)
    observe = [pc for pc, entry in enumerate(table["executed"])
                if entry.keys() & set(RESULTS)]
    simulator = InstructionSimulator(program.arch, program.words, program.constants,
                                     program.external)
    streams = batch_streams(images, patch_size, program.batch)
    result = simulator.run(streams, observe=observe)
    expected = numpy_reference(graph, [entry["name"] for entry in program.observations], images)
    found = {name: one_by_one(value, program.batch)[:len(images)] for name, value in
             observations(table, result.observed, len(streams)).items()}
    count, first = compare(found, expected)
    assert count == 0, str(first)
    logits = expected[graph.nodes[-1].name].reshape(len(images), -1)
    assert np.array_equal(result.logits.reshape(-1, logits.shape[1])[:len(images)], logits)


KINDS = {"transformers": networks().map(lambda given: random_vit_graph(**given)),
         "others": graphs()}


def random_images(graph):
    """Two images for a network."""
    return np.stack([random_image((5, i), graph.input_shape) for i in range(2)])


def many(examples, graph):
    """Settings and the strategy of a test over random networks."""
    def decorate(test):
        return settings(max_examples=examples, deadline=None, derandomize=True, database=None,
                        suppress_health_check=list(HealthCheck))(given(graph=graph)(test))
    return decorate


def iss_test(kind):
    """A test of 20 random networks on each target."""
    @many(20, KINDS[kind])
    def test(target, graph):
        check_on_iss(graph, lower(graph, TARGETS[target]), random_images(graph))
    return pytest.mark.parametrize("target", TARGET_NAMES)(test)


def simulate_everywhere(target, graph, folder):
    """Build a random network, run both engines, check each against PyTorch at every point."""
    checkpoint.save(graph, folder / "net.safetensors")
    check_engines(folder / "net.safetensors", target, folder / "build", random_images(graph))


def rtl_test(kind, examples):
    """A test of `examples` random networks on a target; 67 examples on 3 targets make 201."""
    @many(examples, KINDS[kind])
    def test(target, tmp_path, graph):
        simulate_everywhere(target, graph, tmp_path)
    return pytest.mark.parametrize("target", RTL_NAMES)(test)


test_random_transformers_on_the_instruction_set_simulator = iss_test("transformers")
test_other_random_networks_on_the_instruction_set_simulator = iss_test("others")
test_random_transformers_in_rtl = rtl_test("transformers", 7)
test_other_random_networks_in_rtl = rtl_test("others", 5)
test_many_random_transformers_in_rtl = pytest.mark.slow(rtl_test("transformers", 67))
test_many_other_random_networks_in_rtl = pytest.mark.slow(rtl_test("others", 40))
