"""Instructions of the units beside the array: pixels in, LayerNorm, views, the result."""

import numpy as np

from bivit.compiler.ir import numeric
from bivit.compiler.layout import bit_positions, plain_chunks
from bivit.compiler.structures import Address, CompileError, Observe, Operation, Rows, Stored
from bivit.compiler.verify import CODE_PLANES
from bivit.compiler.words import scale_words
from bivit.hw.isa import ASource, Opcode

__all__ = ["Patches", "load", "norm", "output", "select"]


class Patches:
    """Pixels in IMEM: a ring of blocks, each loaded when it is first needed.

    The row of a patch is that of the token it becomes, so `prefix` rows come before the first.
    """

    def __init__(self, tiler, node, prefix, readers):
        self.tiler, self.node, self.loaded = tiler, node, 0
        arch, (tokens, pixels) = tiler.arch, tiler.types[node.name].shape
        self.pixels, k_words = pixels, -(-pixels // arch.lanes)
        self.rows = Rows(tokens, prefix % arch.rows)
        self.blocks = list(self.rows.blocks(arch.rows))
        room = arch.imem_depth // (CODE_PLANES * k_words)
        needed = 2 if readers == 1 else len(self.blocks)
        self.ring = max(min(room, len(self.blocks)), min(needed, len(self.blocks)))
        base = tiler.region(node.name, "imem", self.ring * CODE_PLANES * k_words, node.name)
        self.stored = Stored(base, self.rows, CODE_PLANES * k_words, ASource.IMEM, k_words,
                             np.arange(pixels))

    def at(self, block: int) -> Address:
        """Address of a block, after loading it."""
        tiler = self.tiler
        while self.loaded <= block:
            index, low, high, _, _ = self.blocks[self.loaded]
            tiler.emit(Opcode.LOAD, tiler.layer(self.node.name, "patchify"),
                       dst_addr=self.stored.at(index % self.ring), row=low, tokens=high - low,
                       pixels=self.pixels, k_words=self.stored.k_words,
                       last=int(index + 1 == len(self.blocks)))
            self.loaded += 1
        return self.stored.at(block % self.ring)


def load(tiler, operation: Operation) -> None:
    """Prepare the patches: blocks are loaded when a product asks for them."""
    readers = [other for other in tiler.operations
               if other.inputs.get("a") == operation.name]
    prefixes = {tiler.nodes[other.nodes["rescale"]].attributes.get("prefix", 0)
                for other in readers}
    if len(prefixes) > 1:
        raise CompileError(f"layer {operation.name}: its patches become tokens behind "
                           f"{' and '.join(map(str, sorted(prefixes)))} others; use one prefix")
    tiler.patches = Patches(tiler, tiler.nodes[operation.name], *prefixes, len(readers))
    tiler.stored[operation.name] = tiler.patches.stored


def norm(tiler, operation: Operation) -> None:
    """NORM_BITS or NORM_CODES for every block."""
    arch, node = tiler.arch, tiler.nodes[operation.name]
    source, channels = tiler.stored[operation.inputs["source"]], tiler.types[node.name].shape[1]
    chunks = plain_chunks(arch, channels)
    k_words = -(-len(chunks) // arch.chunks_per_word)
    codes = node.op == "norm_codes"
    block_words = k_words * (CODE_PLANES if codes else 1)
    blocks = list(source.rows.blocks(arch.rows))
    base = tiler.region(node.name, "xmem", block_words * len(blocks), node.name)
    stored = Stored(base, source.rows, block_words, ASource.XMEM, k_words,
                    bit_positions(arch, chunks))
    tiler.stored[node.name] = stored
    first, second = ("scale", "bias") if codes else ("k", "kind")
    params = tiler.segment(f"{node.name}/norm", "norm",
                           scale_words(arch, node.tensors[first], node.tensors[second], chunks),
                           node.name)
    extra = {}
    if codes:
        extra = {"shift": numeric.RESCALE_SHIFTS.index(node.attributes["shift"]),
                 "k_words": k_words}
    for block, low, high, begin, end in blocks:
        tiler.emit(Opcode.NORM_CODES if codes else Opcode.NORM_BITS,
                   tiler.layer(node.name, node.op),
                   Observe(node.name, None, (begin, end), (0, channels), low),
                   src_addr=source.at(block), n_tiles=len(chunks), channels=channels,
                   groups=-(-high // arch.post_rows), param_addr=params,
                   dst_addr=stored.at(block), eps=node.attributes["eps"], **extra)


def select(tiler, operation: Operation) -> None:
    """One token of numbers: a view, no instruction."""
    source = tiler.stored[operation.inputs["source"]]
    token = tiler.nodes[operation.name].attributes["token"]
    block, row = divmod(source.rows.offset + token, tiler.arch.rows)
    tiler.stored[operation.name] = Stored(source.at(block), Rows(1, row), source.block_words)


def output(tiler, operation: Operation) -> None:
    """Numbers of the last value to the stream, and the end."""
    name = operation.inputs["source"]
    source, count = tiler.stored[name], tiler.types[name].shape[1]
    layer = tiler.layer(operation.name, "output")
    tiler.emit(Opcode.OUTPUT, layer, src_addr=source.at(0), row=source.rows.offset, count=count)
    tiler.emit(Opcode.HALT, layer)


def number_words(arch, channels: int) -> int:
    """RESID words of a block."""
    return -(-channels // arch.cols) * arch.drain_cycles
