"""Designs of the front, built: cycles and bits in RTL, resources by synthesis."""

import tempfile
from pathlib import Path

from bivit.compiler.build import compile
from bivit.compiler.ir import checkpoint
from bivit.explore.networks import prepare, variant_of
from bivit.explore.space import Space
from bivit.hw.arch import Arch
from bivit.hw.devices import RESOURCES
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
        is not known; ``passed``: every bit of the images and every cycle is as predicted.
    """
    found = []
    for index, record in enumerate(records):
        progress(index, len(records), f"design {record['number']}: RTL")
        build = folder / f"design-{record['number']}"
        run = simulate_design(record, space, build)
        progress(index, len(records), f"design {record['number']}: synthesis")
        used = _synthesised(build, record["design"]["device"])
        figures = [{"name": "cycles", "predicted": _per_image(record),
                    "measured": run.cycles_per_image}]
        figures += [{"name": name, "predicted": record[name], "measured": used[name]}
                    for name in RESOURCES]
        figures += [{"name": "LUTs of the array's elements", "predicted": record["array_luts"],
                     "measured": None}] if record["luts"] is None else []
        found.append({"number": record["number"], "folder": str(build), "figures": figures,
                      "mismatches": run.mismatches, "passed": _passed(run, record)})
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


def _synthesised(build, device):
    """Resources of a build folder on a device, by Yosys."""
    from bivit.compiler.build import load_build
    from bivit.hw.flow import accelerator_design, synthesise

    design = accelerator_design(load_build(build).arch, (build / "accelerator.v").read_text())
    result = synthesise(design, device, place=False)
    return {name: row["used"] for name, row in result["resources"].items()}
