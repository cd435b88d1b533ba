"""A program of the compiler on the instruction-set simulator, against NumPy at every point."""

import numpy as np

from bivit.compiler.passes import lower
from bivit.hw.arch import Arch
from bivit.sim.iss import InstructionSimulator
from bivit.sim.observe import RESULTS, observations
from bivit.sim.stream import image_stream
from graphs import random_image

__all__ = ["SQUARE", "verify"]

SQUARE = Arch(name="square", rows=8, cols=8, lanes=64, tile_rows=4, tile_cols=4, post_rows=3,
              pop_stages=2)
"""As many rows as columns, in row groups of which the last one is not full."""


def verify(graph, arch, images=2):
    """Every observation point and the logits; gives the program."""
    program = lower(graph, arch)
    manifest = {"executed": [i.description() for i in program.executed],
                "observations": program.observations}
    observed = [pc for pc, entry in enumerate(manifest["executed"])
                if entry.keys() & set(RESULTS)]
    pixels = [random_image((5, i), graph.input_shape) for i in range(images)]
    size = next(n for n in graph.nodes if n.op == "patchify").attributes["patch_size"]
    run = InstructionSimulator(arch, program.words, program.constants, program.external).run(
        [image_stream(image, size) for image in pixels], observe=observed, batch=1)
    found = observations(manifest, run.observed, images)
    for index, image in enumerate(pixels):
        expected = graph.evaluate(image)
        for name, tensor in found.items():
            assert np.array_equal(tensor[index], expected[name]), name
        assert (run.logits[index] == expected[graph.nodes[-1].name][0]).all()
    return program
