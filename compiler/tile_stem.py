"""Instructions of the stem on a target with an engine for it: pixels to SMEM, then to RESID."""

from bivit.compiler.ir import numeric
from bivit.compiler.ir.operation import images_of
from bivit.compiler.post import Post, number_words
from bivit.compiler.structures import CompileError, Operation, Rows, Stored
from bivit.hw.isa import AddSource, Opcode

__all__ = ["accumulate", "embedded_rows", "takes"]


def takes(tiler, operation: Operation) -> bool:
    """Whether the engine computes the product of an operation: that of the pixels."""
    name = operation.inputs.get("a")
    return (tiler.arch.stem_macs > 0 and name in tiler.nodes
            and tiler.nodes[name].op == "patchify")


def embedded_rows(tiler, node) -> Rows:
    """Rows of the tokens that patches become, with those before them."""
    return Rows(tiler.types[node.name].shape[0], 0, tiler.layouts.segments[node.name])


def accumulate(tiler, operation: Operation) -> None:
    """The product of the pixels in SMEM, for this image; then what follows it; then the next one.

    The numbers come into RESID as the first addend of a product of scale 0. The last instruction
    belongs to the following image (``docs/stem.md``).
    """
    arch = tiler.arch
    linear, node = (tiler.nodes[operation.nodes[role]] for role in ("linear", "rescale"))
    patches = tiler.nodes[operation.inputs["a"]]
    if sum(other.inputs.get("a") == patches.name for other in tiler.operations) > 1:
        raise CompileError(f"layer {patches.name}: several layers take its pixels, and the stem "
                           "engine takes them once; compile for a target without stem_macs")
    tokens, pixels = tiler.types[patches.name].shape
    prefix, segments = node.attributes.get("prefix", 0), tiler.layouts.segments[patches.name]
    offset = prefix % arch.rows
    rows = Rows(tokens, offset, segments)
    tiles = tiler.layouts.chunks[operation.name]
    words, blocks = number_words(arch, tiles), segments * rows.segment_blocks(arch.rows)
    base = tiler.region(f"{linear.name}/numbers", "smem", blocks * words, linear.name)
    weight = linear.tensors["weight"].astype("int64")
    fields = {
        "dst_addr": base, "row": offset, "dst_stride": words,
        "segment": rows.length if segments > 1 else 0, "tokens": tokens, "pixels": pixels,
        "channels": len(tiles) * arch.cols, "last": 1,
        "shift": numeric.RESCALE_SHIFTS.index(node.attributes["shift"]),
        "weight_addr": tiler.segment(f"{linear.name}/stem", "stem",
                                     tiler.words.stem(weight, tiles), linear.name),
        "scale_addr": tiler.segment(
            f"{node.name}/stem_scale", "stem_scale",
            tiler.words.stem_scale(node.tensors["scale"], node.tensors["bias"], tiles), node.name)}
    layer = tiler.layer(linear.name, linear.op, macs=tokens * weight.size)
    tiler.emit(Opcode.STEM, layer, **fields)
    images = images_of(node.attributes) if prefix else 1
    if prefix >= arch.rows and images > 1:
        raise CompileError(f"layer {node.name}: whole blocks of {arch.rows} tokens before the "
                           "patches of several images are not for the stem engine; compile without "
                           "a batch, or for a target without stem_macs")
    # Block i of the result has block i - prefix // R of the patches.
    stem = Stored(base.plus(-(prefix // arch.rows) * words), rows, words, AddSource.SMEM)
    post = Post(tiler, operation, embedded_rows(tiler, node), stem)
    pieces, layer = post.runs(len(post.tiles)), tiler.layer_of(node.name)
    own_blocks = post.rows.segments * post.rows.segment_blocks(arch.rows) // images
    for block, low, high, begin, _ in post.rows.blocks(arch.rows):
        tiler.iteration = block
        own_low = max(low, prefix - block % own_blocks * arch.rows)
        for run in pieces:
            if own_low > low:  # rows before the patches
                post.emit(block, low, min(own_low, high), begin, run, layer,
                          tiler.zero_product(len(post.tiles)), keep_before=True,
                          keep_behind=own_low < high, with_first=False)
            if own_low < high:
                post.emit(block, own_low, high, begin + own_low - low, run, layer,
                          tiler.zero_product(len(post.tiles)), keep_before=prefix > 0)
        post.finish(block, layer)
    tiler.emit(Opcode.STEM, layer, **fields, next=1)
