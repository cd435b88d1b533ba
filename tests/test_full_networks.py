"""Networks of full size: a photograph on the instruction-set simulator against PyTorch."""

import dataclasses

import pytest

from bivit.compiler.ir import checkpoint
from bivit.compiler.passes import lower
from bivit.hw.isa import INSTR_BITS, UNIT_OF, ConstantMemory, Opcode, Unit
from bivit.hw.memories import memories
from bivit.hw.targets import TARGETS
from bivit.models.photographs import photographs
from bivit.models.random_networks import convert_random
from bivit.sim.compare import compare
from bivit.sim.cycles import simulate_cycles
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
FEW = 256
"""Instructions of the programs of DeiT, which are loops."""
QUICK = ("bivit_deit_tiny", "bivit_swin_tiny")


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in FULL])
def test_every_observation_point(name, tmp_path):
    images = photographs((3, 224, 224))[:1]
    convert_random(name, 0, tmp_path / "checkpoint.safetensors", images)
    graph = checkpoint.load(tmp_path / "checkpoint.safetensors")
    arch = dataclasses.replace(LARGE, program_depth=FEW) if "deit" in name else LARGE
    program = lower(graph, arch)
    manifest = {"executed": [i.description() for i in program.executed],
                "observations": program.observations}
    observed = [pc for pc, entry in enumerate(manifest["executed"])
                if entry.keys() & set(RESULTS)]
    patch_size = next(n for n in graph.nodes if n.op == "patchify").attributes["patch_size"]
    simulator = InstructionSimulator(arch, program.words, program.constants)
    run = simulator.run([image_stream(images[0].numpy(), patch_size)], observe=observed, batch=1)
    found = observations(manifest, run.observed, 1)
    expected, logits = Reference(tmp_path, graph).values(images.numpy(), 1, list(found))
    assert compare(found, expected)[0] == 0, compare(found, expected)[1]
    assert (run.logits == logits).all() and len(set(run.logits[0].tolist())) > 500


@pytest.mark.parametrize("name, target", [
    ("bivit_deit_tiny", "zynq-7020-streamed"),
    pytest.param("bivit_deit_tiny", "k26-streamed", marks=pytest.mark.slow),
    *(pytest.param(name, target, marks=pytest.mark.slow) for name, target in (
        ("bivit_deit_small", "k26-streamed"), ("bivit_deit_base", "k26-streamed"),
        ("bivit_swin_tiny", "zcu102-streamed"), ("bivit_swin_small", "zcu102-streamed"),
        ("binaryvit", "alveo-u50-streamed")))])
def test_streamed_targets_hold_networks_of_full_size(name, target, tmp_path):
    """Weights come once a frame; the program of DeiT-Tiny and Small has at most 64 kbit."""
    convert_random(name, 0, tmp_path / "net.safetensors", photographs((3, 224, 224))[:1])
    graph = checkpoint.load(tmp_path / "net.safetensors")
    program = lower(graph, TARGETS[target])
    if name in ("bivit_deit_tiny", "bivit_deit_small"):
        assert len(program.words) * INSTR_BITS <= 1 << 16
    fetched = sum(instruction.fields["words"] for instruction in program.executed
                  if instruction.opcode is Opcode.FETCH
                  and instruction.fields["memory"] == ConstantMemory.WEIGHT.value)
    width = memories(TARGETS[target])["weight"].width
    assert fetched * width < 1.1 * 8 * len(program.external)


@pytest.mark.parametrize("name, depth, utilisation", [
    ("bivit_deit_tiny", 146, 0.95),
    pytest.param("bivit_deit_small", 146, 0.96, marks=pytest.mark.slow),
    pytest.param("bivit_deit_base", 146, 0.97, marks=pytest.mark.slow)])
def test_array_is_busy_from_a_program_of_64_kbit(name, depth, utilisation, tmp_path):
    """Useful products over those that the array could have made, from the first binary layer's
    first to the last one's end."""
    convert_random(name, 0, tmp_path / "net.safetensors", photographs((3, 224, 224))[:1])
    arch = dataclasses.replace(LARGE, rows=8, cols=8, tile_rows=4, tile_cols=4, post_rows=3,
                               pop_stages=2, weight_depth=1 << 24, program_depth=depth)
    program = lower(checkpoint.load(tmp_path / "net.safetensors"), arch)
    report = simulate_cycles(arch, program.words)
    binary = [number for number, instruction in enumerate(program.executed)
              if UNIT_OF.get(instruction.opcode) is Unit.MM
              and program.layers[instruction.layer].binary]
    window = max(report.done[i] for i in binary) - min(report.pop[i] for i in binary)
    macs = sum(layer.macs for layer in program.layers if layer.binary)
    assert len(program.words) * INSTR_BITS <= 1 << 16
    assert macs / arch.macs_per_cycle / window > utilisation
