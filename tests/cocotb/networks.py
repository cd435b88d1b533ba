"""The network that runs on the whole machine, and what it must give."""

import dataclasses

import numpy as np

from bivit.compiler.ir.graph import Graph
from bivit.compiler.passes import lower
from bivit.compiler.structures import Program
from bivit.hw.arch import Arch
from bivit.hw.memories import beats_per_word, constant_memories
from bivit.sim.stream import image_stream
from graphs import random_image, random_vit_graph

__all__ = ["Network", "TOP", "arch_of"]

TOP = "accelerator"
PATCH = 2


def arch_of(weights) -> Arch:
    """A small target.

    Parameters
    ----------
    weights : {"rom", "loaded"}
    """
    return Arch(name="cocotb", rows=2, cols=4, lanes=16, tile_rows=1, tile_cols=2, post_rows=1,
                weights=weights, queue_depth=2, score_tiles=4, program_depth=256, weight_depth=256,
                thr_depth=32, scale_depth=32, norm_depth=32, pos_depth=32, imem_depth=64,
                xmem_depth=64, hmem_depth=64, pmem_depth=32, bmem_depth=32, pv_depth=16,
                resid_depth=128)


@dataclasses.dataclass(frozen=True)
class Network:
    """A tiny random vision transformer on a target; always the same."""

    graph: Graph
    program: Program

    @classmethod
    def on(cls, arch):
        """Compiled for `arch`."""
        graph = random_vit_graph(1, embed_dim=10, num_heads=2, mlp_dim=9, num_classes=5,
                                 image_shape=(1, 2, 10), patch_size=PATCH, class_token=False)
        return cls(graph, lower(graph, arch))

    def frame(self, seed) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Beats (data, last) of an image, and those of its logits."""
        image = random_image(seed, self.graph.input_shape)
        pixels = np.frombuffer(image_stream(image, PATCH), "<u4")
        logits = self.graph.evaluate(image)[self.graph.nodes[-1].name].ravel()
        return marked(pixels.tolist()), marked([int(logit) & 0xFFFFFFFF for logit in logits])

    def packets(self, **replaced) -> list[list[tuple[int, int]]]:
        """Beats of the packet of each constant memory; `replaced` are other words by name."""
        words = {**self.program.constants, "program": self.program.words, **replaced}
        return [marked([word >> 32 * beat & 0xFFFFFFFF for word in words[name] or [0]
                        for beat in range(beats_per_word(width))])
                for name, (width, _) in constant_memories(self.program.arch).items()]


def marked(values):
    """Beats of a packet."""
    return [(value, int(index == len(values) - 1)) for index, value in enumerate(values)]
