"""Networks of full size: a photograph on the instruction-set simulator against PyTorch."""

import dataclasses

import pytest

from bivit.compiler.ir import checkpoint
from bivit.compiler.passes import lower
from bivit.hw.targets import TARGETS
from bivit.models.photographs import photographs
from bivit.models.random_networks import convert_random
from bivit.sim.compare import compare
from bivit.sim.iss import InstructionSimulator
from bivit.sim.observe import RESULTS, observations
from bivit.sim.reference import Reference
from bivit.sim.stream import image_stream
from named_networks import FULL

LARGE = dataclasses.replace(
    TARGETS["k26"], name="large", program_depth=1 << 16, weight_depth=1 << 22, thr_depth=1 << 16,
    scale_depth=1 << 16, norm_depth=1 << 16, pos_depth=1 << 16, bend_depth=1 << 16,
    bias_depth=1 << 18, imem_depth=1 << 14, xmem_depth=1 << 16, hmem_depth=1 << 16,
    pmem_depth=1 << 14, bmem_depth=1 << 16, kmem_depth=1 << 14, pv_depth=1 << 12,
    resid_depth=1 << 16, vmem_depth=1 << 16, sums_depth=1 << 8)
"""The array of k26 with memories in which networks of every size find room."""
QUICK = ("bivit_deit_tiny", "bivit_swin_tiny", "binaryvit")


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in FULL])
def test_every_observation_point(name, tmp_path):
    images = photographs((3, 224, 224))[:1]
    convert_random(name, 0, tmp_path / "checkpoint.safetensors", images)
    graph = checkpoint.load(tmp_path / "checkpoint.safetensors")
    program = lower(graph, LARGE)
    manifest = {"executed": [i.description() for i in program.executed],
                "observations": program.observations}
    observed = [pc for pc, entry in enumerate(manifest["executed"])
                if entry.keys() & set(RESULTS)]
    patch_size = next(n for n in graph.nodes if n.op == "patchify").attributes["patch_size"]
    simulator = InstructionSimulator(LARGE, program.words, program.constants)
    run = simulator.run([image_stream(images[0].numpy(), patch_size)], observe=observed, batch=1)
    found = observations(manifest, run.observed, 1)
    expected, logits = Reference(tmp_path, graph).values(images.numpy(), 1, list(found))
    assert compare(found, expected)[0] == 0, compare(found, expected)[1]
    assert (run.logits == logits).all() and len(set(run.logits[0].tolist())) > 500
