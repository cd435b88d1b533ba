"""Random networks from graph to simulated bits, compared with NumPy at every observation point."""

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bivit.compiler.build import compile
from bivit.compiler.ir import checkpoint
from bivit.compiler.passes import lower
from bivit.hw.targets import TARGETS
from bivit.sim.compare import compare
from bivit.sim.iss import InstructionSimulator
from bivit.sim.observe import observations
from bivit.sim.simulate import simulate
from bivit.sim.stream import image_stream
from graphs import random_image, random_vit_graph

TARGET_NAMES = ("tiny", "odd", "zynq-7020")
UNOBSERVED_OPS = ("patchify", "select")


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


def observation_table(program):
    """The part of the manifest that observations need."""
    return {"observations": program.observations,
            "instructions": [{"observe": instruction.observe
                              and dataclasses.asdict(instruction.observe)}
                             for instruction in program.instructions]}


def numpy_reference(graph, images):
    """Observed tensors of all images, by name."""
    values = [graph.evaluate(image) for image in images]
    names = {node.name for node in graph.nodes if node.op not in UNOBSERVED_OPS
             and graph.infer()[node.name].kind != "dot"}
    return {node.name: np.stack([value[node.name] for value in values])
            for node in graph.nodes if node.name in names}


def check_on_iss(graph, program, images):
    """Compare every observation point and the logits with NumPy."""
    patch_size = next(node.attributes["patch_size"] for node in graph.nodes
                      if node.op == "patchify")
    table = observation_table(program)
    observe = [pc for pc, entry in enumerate(table["instructions"]) if entry["observe"]]
    simulator = InstructionSimulator(program.arch, program.words, program.constants)
    result = simulator.run([image_stream(image, patch_size) for image in images], observe=observe)
    expected = numpy_reference(graph, images)
    count, first = compare(observations(table, result.observed, len(images)), expected)
    assert count == 0, str(first)
    logits = expected[graph.nodes[-1].name].reshape(len(images), -1)
    assert np.array_equal(result.logits, logits)


@pytest.mark.parametrize("target", TARGET_NAMES)
@settings(max_examples=20, deadline=None, derandomize=True, database=None,
          suppress_health_check=list(HealthCheck))
@given(arguments=networks())
def test_random_networks_on_the_instruction_set_simulator(target, arguments):
    graph = random_vit_graph(**arguments)
    images = np.stack([random_image((arguments["seed"], i), graph.input_shape) for i in range(2)])
    check_on_iss(graph, lower(graph, TARGETS[target]), images)


def simulate_everywhere(target, arguments, folder):
    """Build a random network, run both engines, check each against PyTorch at every point."""
    graph = random_vit_graph(**arguments)
    checkpoint.save(graph, folder / "net.safetensors")
    compile(folder / "net.safetensors", target, folder / "build", overwrite=True)
    images = np.stack([random_image((arguments["seed"], i), graph.input_shape) for i in range(2)])
    reports = [simulate(folder / "build", images, engine=engine, observe=2)
               for engine in ("iss", "rtl")]
    for report in reports:
        assert report.mismatches == 0, f"{report.engine}: {report.first_mismatch}"
        assert report.checked and report.observed_images == 2
    assert np.array_equal(reports[0].logits, reports[1].logits)
    assert reports[1].cycles_per_image == reports[1].predicted_cycles_per_image


def rtl_test(examples):
    """A test of `examples` random networks on a target; 67 examples on 3 targets make 201."""
    @settings(max_examples=examples, deadline=None, derandomize=True, database=None,
              suppress_health_check=list(HealthCheck))
    @given(arguments=networks())
    def test(target, tmp_path, arguments):
        simulate_everywhere(target, arguments, tmp_path)
    return pytest.mark.parametrize("target", TARGET_NAMES)(test)


test_random_networks_in_rtl = rtl_test(7)
test_many_random_networks_in_rtl = pytest.mark.slow(rtl_test(67))
