"""Designs of the front, built: cycles and bits in RTL, resources by synthesis."""

import tempfile
from pathlib import Path

from bivit.compiler.build import compile
from bivit.compiler.ir import checkpoint
from bivit.explore.networks import prepare, variant_of
from bivit.explore.space import Space
from bivit.hw.arch import Arch
from bivit.hw.devices import DEVICES
from bivit.hw.memory_resources import memory_block_ram
from bivit.sim.report import cycles_per_image
from bivit.sim.simulate import simulate

__all__ = ["confirm_designs", "simulate_design"]

_IMAGES = 2
"""Batches that are simulated."""


def confirm_designs(records: list[dict], space: Space, folder: Path, progress) -> list[dict]:
    """Build, simulate and synthesise designs.

    Parameters
    ----------
    folder : path
        ``design-NUMBER`` in it are the build folders.

    Returns
    -------
    list of dict
        ``number``; ``figures``: of each its ``name``, ``predicted`` and ``measured``, None where it
        is not known; ``too_small``: what the device has too little of, or None; ``passed``: every
        bit of the images and every cycle is as predicted, and the device is large enough.
    """
    found = []
    for index, record in enumerate(records):
        def tell(text, index=index, record=record):
            progress(index, len(records), f"design {record['number']}: {text}")

        tell("RTL")
        build = folder / f"design-{record['number']}"
        run = simulate_design(record, space, build)
        used, too_small = _synthesised(build, record, tell)
        measured = {"cycles": run.cycles_per_image, **used}
        predicted = record | {"cycles": _per_image(record)}
        found.append({"number": record["number"], "folder": str(build),
                      "figures": [{"name": name, "predicted": predicted[name], "measured": number}
                                  for name, number in measured.items()],
                      "mismatches": run.mismatches, "too_small": too_small,
                      "passed": _passed(run, record) and too_small is None})
    progress(len(records), len(records), "confirmed")
    return found


def _passed(run, record):
    return not run.mismatches and run.cycles_per_image == _per_image(record)


def _per_image(record):
    return cycles_per_image(record["cycles"], record["design"].get("batch", 1))


def simulate_design(record: dict, space: Space, build: Path):
    """Compile a design and run it in RTL, every bit of two images checked.

    Returns
    -------
    bivit.sim.simulate.SimulationReport
    """
    from bivit.sim.images import DIGIT_SHAPE, calibration_images, held_out_digits

    graph = prepare(variant_of(record["design"], space)).graph
    arch = Arch(name=f"design-{record['number']}", **record["target"])
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "network.safetensors"
        checkpoint.save(graph, file)
        compile(file, arch, build, batch=record["design"].get("batch", 1), overwrite=True)
    images = _IMAGES * record["design"].get("batch", 1)
    if tuple(graph.input_shape) == DIGIT_SHAPE:
        pixels, _ = held_out_digits(graph.input_shape, images)
    else:
        pixels = calibration_images(graph.input_shape)[:images].numpy()
    return simulate(build, pixels, engine="rtl", check=True)


def _synthesised(build, record, tell):
    """Resources of a build folder by Yosys, of what is counted by rule those of its units; and
    what the device has too little of."""
    from bivit.compiler.build import load_build
    from bivit.hw.flow import accelerator_design, synthesise

    arch, device = load_build(build).arch, record["design"]["device"]
    design = accelerator_design(arch, (build / "accelerator.v").read_text())
    result = synthesise(design, device, place=False,
                        progress=lambda done, total, text: tell(text))
    found, units = {name: row["used"] for name, row in result["resources"].items()}, result["units"]
    if record["luts"] is None and record["array_luts"] is not None:
        found["array_luts"] = units["array"]["luts"]
    if record["block_ram"] is None:
        found["memory_block_ram"] = sum(units.get(name, {}).get("block_ram", 0) for name in
                                        memory_block_ram(arch, DEVICES[device].family))
    return found, result["too_small"]
