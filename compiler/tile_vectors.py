"""Instructions of the units beside the array: pixels in, LayerNorm, views, the result."""

import dataclasses

import numpy as np

from bivit.compiler.ir import numeric
from bivit.compiler.ir.numeric import CODE_BITS
from bivit.compiler.ir.operation import images_of
from bivit.compiler.layout import bit_positions, pieces_of, query_form
from bivit.compiler.post import number_words
from bivit.compiler.structures import Address, CompileError, Observe, Operation, Rows, Stored
from bivit.hw.isa import ASource, NumberSource, Opcode

__all__ = ["Patches", "load", "norm", "output", "view"]


class Patches:
    """Pixels in IMEM: a ring of blocks, each loaded when it is first needed.

    The row of a patch is that of the token it becomes, so `prefix` rows come before the first.
    """

    def __init__(self, tiler, node, prefix, readers):
        self.tiler, self.node, self.loaded = tiler, node, 0
        arch, (tokens, pixels) = tiler.arch, tiler.types[node.name].shape
        self.pixels, k_words = pixels, -(-pixels // arch.lanes)
        self.rows = Rows(tokens, prefix % arch.rows, tiler.layouts.segments[node.name])
        self.blocks = list(self.rows.blocks(arch.rows))
        room = arch.imem_depth // (CODE_BITS * k_words)
        needed = 2 if readers == 1 else len(self.blocks)
        self.ring = max(min(room, len(self.blocks)), min(needed, len(self.blocks)))
        base = tiler.region(node.name, "imem", self.ring * CODE_BITS * k_words, node.name)
        self.stored = Stored(base, self.rows, CODE_BITS * k_words, ASource.IMEM, k_words,
                             np.arange(pixels))

    @property
    def stay(self) -> bool:
        """Whether all of them stay until the end."""
        return self.ring == len(self.blocks)

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
    """Prepare the patches: blocks are loaded when a product asks for them, or by the engine."""
    if tiler.arch.stem_macs:
        return
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
    """LayerNorm to bits, codes or numbers for every block, of all channels or head by head."""
    arch, node = tiler.arch, tiler.nodes[operation.name]
    source, chunks = tiler.stored[operation.inputs["source"]], tiler.layouts.chunks[node.name]
    heads = node.attributes.get("num_heads", 1)
    stored, opcode, extra = _norm_result(tiler, node, source, chunks, heads)
    tiler.stored[node.name] = stored
    words = tiler.words
    segment = tiler.segment(
        f"{node.name}/norm", "norm",
        words.norm_kinds(node.tensors["k"], node.tensors["kind"], chunks) if "k" in node.tensors
        else words.scale(node.tensors["scale"], node.tensors["bias"], chunks), node.name)
    width = sum(chunks[-1]) // heads
    for block, low, high, begin, end in source.rows.blocks(arch.rows):
        tiler.iteration, first = tiler.turn(source.rows, block), 0
        for head in range(heads):
            own = [chunk for chunk in chunks if chunk[0] // width == head]
            start = head * (stored.k_words // heads)
            tiler.emit(opcode, tiler.layer_of(node.name),
                       Observe(node.name, None, (begin, end), (own[0][0], sum(own[-1])), low,
                               pieces_of(arch, own)),
                       src=source.source, src_addr=source.at(block, first * arch.drain_cycles),
                       n_tiles=len(own), channels=width,
                       span=(len(own) - 1) * arch.cols + own[-1][1],
                       groups=arch.drain_cycles if source.filled else -(-high // arch.post_rows),
                       param_addr=segment.plus(first),
                       dst_addr=stored.at(block, start), eps=node.attributes["eps"], **extra)
            first += len(own)


def _norm_result(tiler, node, source, chunks, heads):
    """Where the result of a LayerNorm lies, its opcode, and the fields that only it has."""
    arch, rows, filled = tiler.arch, source.rows, source.filled
    blocks = rows.segments * rows.segment_blocks(arch.rows)
    extra = {}
    if "shift" in node.attributes:
        extra["shift"] = numeric.RESCALE_SHIFTS.index(node.attributes["shift"])
    if node.op == "norm_numbers":
        words = number_words(arch, chunks)
        base = tiler.region(node.name, "vmem", blocks * words, node.name)
        stored = Stored(base, rows, words, NumberSource.VMEM, chunks=chunks, filled=filled)
        return stored, Opcode.NORM_NUMBERS, extra | {"sat": node.attributes["bits"]}
    if heads > 1:
        chunks = query_form(arch, heads, chunks).chunks
    k_words = -(-len(chunks) // arch.chunks_per_word)
    planes, opcode = 1, Opcode.NORM_BITS
    if node.op == "norm_codes":
        planes, opcode, extra["k_words"] = CODE_BITS, Opcode.NORM_CODES, k_words
    base = tiler.region(node.name, "xmem", blocks * planes * k_words, node.name)
    return Stored(base, rows, planes * k_words, ASource.XMEM, k_words,
                  bit_positions(arch, chunks), chunks), opcode, extra


def view(tiler, operation: Operation) -> None:
    """One token of numbers of each image, or channels again and again: no instruction."""
    source, name = tiler.stored[operation.inputs["source"]], operation.name
    if "select" in operation.nodes:
        tiler.stored[name] = _selected(source, tiler.nodes[name], tiler.arch)
    else:
        tiler.stored[name] = dataclasses.replace(
            source, chunks=tiler.layouts.chunks[name], period=len(source.chunks))


def _selected(source, node, arch):
    """The token of each image as a segment of its own, as many blocks from the next as an image
    has."""
    images, rows = images_of(node.attributes), source.rows
    tokens = range(node.attributes["token"], rows.tokens, rows.tokens // images)
    (block, row), *others = (rows.place(token, arch.rows) for token in tokens)
    if any(other != row for _, other in others):
        raise CompileError(f"layer {node.name}: the tokens of {images} images share blocks of "
                           f"{arch.rows}; compile without a batch")
    apart = others[0][0] - block if others else 1
    return dataclasses.replace(source, base=source.at(block), rows=Rows(images, row, images),
                               block_words=apart * source.block_words)


def output(tiler, operation: Operation) -> None:
    """Numbers of the last value to the stream, a packet for each image, and the end."""
    name = operation.inputs["source"]
    source, count = tiler.stored[name], tiler.types[name].shape[1]
    layer = tiler.layer(operation.name, "output")
    if pieces_of(tiler.arch, source.chunks):
        raise CompileError(f"layer {name}: the channels of the output are cut into heads; put a "
                           "linear layer and rescale behind it")
    for token in range(source.rows.tokens):
        block, row = source.rows.place(token, tiler.arch.rows)
        tiler.emit(Opcode.OUTPUT, layer, src=source.source, src_addr=source.at(block), row=row,
                   count=count)
    tiler.emit(Opcode.HALT, layer, entry=int(tiler.arch.stem_macs > 0))
