"""Instructions of linear layers: thresholded products, rescaled sums, sums without products."""

import itertools

from bivit.compiler import tile_stem
from bivit.compiler.destinations import Destinations
from bivit.compiler.fold import fold_linear, never
from bivit.compiler.ir.numeric import CODE_BITS
from bivit.compiler.ir.operation import images_of
from bivit.compiler.layout import runs
from bivit.compiler.post import Post
from bivit.compiler.stream_rolls import SHARE
from bivit.compiler.structures import CompileError, Observe, Operation, TooSmall
from bivit.compiler.verify import weight_planes
from bivit.hw.isa import ASource, BSource, Opcode

__all__ = ["accumulate", "bits", "operand"]


def operand(tiler, name):
    """A value as operand A of a linear layer: any form with rows will do."""
    if name in tiler.stored:
        return tiler.stored[name]
    return next(stored for key, stored in tiler.stored.items()
                if key[0] == name and len(key) == 2 and key[1].kind == "rows")


def _linear_layer(tiler, node) -> int:
    tokens, outputs = tiler.types[node.name].shape
    length = node.tensors["weight"].shape[1]
    return tiler.layer(node.name, node.op, node.op == "binary_linear", tokens * outputs * length)


def bits(tiler, operation: Operation) -> None:
    """binary_linear and threshold, once for each form of the bits."""
    arch = tiler.arch
    linear, node = (tiler.nodes[operation.nodes[role]] for role in ("linear", "threshold"))
    layer, rows = _linear_layer(tiler, linear), operand(tiler, operation.inputs["a"])
    weight = linear.tensors["weight"]
    threshold, flip = fold_linear(node.tensors["threshold"], node.tensors["descending"],
                                  weight.shape[1])
    for index, form in enumerate(operation.forms):
        destinations = Destinations(tiler, node.name, form, index, rows.rows, linear.name)
        tiles = [chunk for chunk in form.chunks if chunk[1]]
        weights = tiler.segment(f"{linear.name}/weight/{node.name}/{index}", "weight",
                                tiler.words.weight(weight, 1, False, rows.positions, tiles,
                                                   rows.k_words), linear.name)
        params = tiler.segment(f"{node.name}/thr/{index}", "thr",
                               tiler.words.thr(threshold, flip, tiles, never(arch.count_bits)),
                               node.name)
        heads, blocks = tiler.heads.get(node.name), list(rows.rows.blocks(arch.rows))
        starts = heads.starts(form) if heads else ()
        breaks = {*destinations.breaks, *starts}
        groups = tiler.column_groups(
            lambda longest, form=form, breaks=breaks: runs(arch, form.chunks, longest, breaks),
            rows.k_words)
        if heads:
            groups = [tuple(run for run in groups[0] if begin <= run.chunk < end)
                      for begin, end in itertools.pairwise((*starts, len(form.chunks)))]
        for (number, group), (block, low, _, begin, end) in itertools.product(
                enumerate(groups), blocks):
            if heads:
                tiler.iteration = number * len(blocks) + block
            else:
                tiler.group, tiler.iteration = number, tiler.turn(rows.rows, block)
            for run in group:
                fields = destinations.fields(run.chunk, block)
                tiler.emit(
                    Opcode.MM_BITS, layer,
                    Observe(node.name, None, (begin, end), run.channels, low),
                    a_src=rows.source, a_addr=rows.at(block), b_src=BSource.WEIGHT,
                    b_addr=weights.plus(run.tile * rows.k_words), n_tiles=len(run.tiles),
                    k_words=rows.k_words, param_addr=params.plus(run.tile),
                    rows=arch.rows, dst_addr=fields.pop("bits_addr"), **fields)
            if group is groups[-1]:
                destinations.finish(block, layer)


def accumulate(tiler, operation: Operation) -> None:
    """A linear layer and what follows it, or numbers alone behind a product of scale 0."""
    if tile_stem.takes(tiler, operation):
        tile_stem.accumulate(tiler, operation)
        return
    if "linear" in operation.nodes:
        _linear(tiler, operation)
        return
    rows = tiler.stored[operation.inputs["addend"]].rows
    post, layer = Post(tiler, operation, rows), tiler.layer_of(operation.name)
    product, pieces = tiler.zero_product(len(post.tiles)), post.runs(len(post.tiles))
    for block, low, high, begin, _ in rows.blocks(tiler.arch.rows):
        tiler.iteration = tiler.turn(rows, block)
        for run in pieces:
            post.emit(block, low, high, begin, run, layer, product)
        post.finish(block, layer)


def _linear(tiler, operation):
    arch = tiler.arch
    linear, node = (tiler.nodes[operation.nodes[role]] for role in ("linear", "rescale"))
    a, prefix = operand(tiler, operation.inputs["a"]), node.attributes.get("prefix", 0)
    rows = a.rows
    if node.op == "embed":
        if a.rows.offset != prefix % arch.rows:
            raise CompileError(f"layer {node.name}: its tokens do not start at row "
                               f"{prefix % arch.rows} of a block; make prefix "
                               f"{a.rows.offset} or embed the patches themselves")
        rows = tile_stem.embedded_rows(tiler, node)
    post = Post(tiler, operation, rows)
    weight, odd = linear.tensors["weight"], linear.op == "plane_linear"
    planes = weight_planes(weight) if odd else 1
    a_planes = CODE_BITS if tiler.types[operation.inputs["a"]].kind == "codes" else 1
    product = {
        "a_src": a.source, "b_src": BSource.WEIGHT, "k_words": a.k_words,
        "a_planes": a_planes, "b_planes": planes,
        "base": weight.shape[1] * ((1 << a_planes) - 1) * ((1 << planes) - 1)}
    weights = tiler.segment(
        f"{linear.name}/weight/{operation.name}", "weight",
        tiler.words.weight(weight, planes, odd, a.positions, post.tiles, a.k_words), linear.name)
    layer = _linear_layer(tiler, linear)
    share, a_at = SHARE, a.at
    if a.source is ASource.IMEM:
        a_at = tiler.patches.at
        share = SHARE if tiler.patches.stay else 1  # pixels are loaded once
    groups = tiler.column_groups(post.runs, a.k_words * planes, a_planes, share)
    if a.source is ASource.IMEM:
        _check_patches(tiler.patches, groups, a.k_words * planes, arch, linear)
    images, before = images_of(node.attributes) if prefix else 1, prefix // arch.rows
    a_blocks, own_blocks = (x.segments * x.segment_blocks(arch.rows) // images
                            for x in (a.rows, rows))
    for (tiler.group, group), (tiler.iteration, low, high, begin, _) in itertools.product(
            enumerate(groups), rows.blocks(arch.rows)):
        block = tiler.iteration
        tiler.iteration = tiler.turn(rows, block) if node.op != "embed" else block
        image, inside = divmod(block, own_blocks)
        own_low = max(low, prefix - inside * arch.rows)
        if own_low > low and group is groups[0]:
            # rows before the patches: a product of scale 0, plus their table
            a_at(0)
            for run in post.runs(len(post.tiles)):
                post.emit(block, low, min(own_low, high), begin, run, layer,
                          tiler.zero_product(len(post.tiles)), params=post.zero, keep_before=True,
                          keep_behind=own_low < high)
        if own_low < high:
            for run in group:
                addresses = {
                    "a_addr": a_at(image * a_blocks + inside - before),
                    "b_addr": weights.plus(run.tile * planes * a.k_words)}
                post.emit(block, own_low, high, begin + own_low - low, run, layer,
                          product | addresses, keep_before=prefix > 0)
        if group is groups[-1]:
            post.finish(block, layer)


def _check_patches(patches, groups, tile_words, arch, linear):
    """Pixels are loaded once, so all of them must stay for a second group of tiles."""
    if len(groups) > 1 and not patches.stay:
        pixels = len(patches.blocks) * patches.stored.block_words
        tiles = sum(len(run.tiles) for group in groups for run in group)
        weights = tiles * tile_words
        raise TooSmall(
            f"layer {linear.name}: its {tiles} tiles of weights take more than the "
            f"{arch.weight_depth} words of WEIGHT of target {arch.name}, and its pixels more than "
            f"the {arch.imem_depth} of IMEM; raise weight_depth to {weights}, or imem_depth to "
            f"{pixels}", {"imem_depth": pixels}, {"weight_depth": weights})
