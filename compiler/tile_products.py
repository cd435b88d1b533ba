"""Instructions of the matrix unit: thresholded products, attention, rescaled sums."""

import numpy as np

from bivit.compiler.fold import fold_attention, fold_linear, never
from bivit.compiler.fuse import query_form
from bivit.compiler.ir import numeric
from bivit.compiler.layout import bit_positions, key_form, plain_chunks, runs, value_form
from bivit.compiler.structures import Address, CompileError, Observe, Operation, Rows, Stored
from bivit.compiler.tile_vectors import number_words
from bivit.compiler.verify import CODE_PLANES, weight_planes
from bivit.compiler.words import pos_words, scale_words, thr_words, weight_words
from bivit.hw.isa import AddSource, ASource, BSource, Destination, Opcode

__all__ = ["accumulate", "attention", "bits"]


def _offset(address: Address, words: int) -> Address:
    return Address(address.region, address.offset + words)


def _linear_layer(tiler, node) -> int:
    tokens, outputs = tiler.types[node.name].shape
    length = node.tensors["weight"].shape[1]
    return tiler.layer(node.name, node.op, node.op == "binary_linear", tokens * outputs * length)


# ---- bits --------------------------------------------------------------------------------------

class Destinations:
    """Where the compare lanes put the bits of one form of a value, block by block."""

    def __init__(self, tiler, operation: Operation, form, rows: Rows):
        arch, name = tiler.arch, f"{operation.name}/{form.kind}/{operation.forms.index(form)}"
        self.arch, self.form, self.rows = arch, form, rows
        layer = operation.nodes.get("linear", operation.nodes.get("attend"))
        blocks = len(list(rows.blocks(arch.rows)))
        chunk_words = -(-len(form.chunks) // arch.chunks_per_word)
        if form.kind != "rows" and rows.offset:
            raise CompileError(f"layer {layer}: keys and values must start at row 0 of a block; "
                               f"select a token that is a multiple of {arch.rows}")
        if form.kind == "rows":
            base = tiler.region(name, "hmem", blocks * chunk_words, layer)
            tiler.stored[operation.name, form] = Stored(
                base, rows, chunk_words, ASource.HMEM, chunk_words,
                bit_positions(arch, form.chunks))
            self.breaks = ()
        elif form.kind == "keys":
            self.groups = -(-blocks // arch.blocks_per_key_group)
            self.head_words = -(-chunk_words // form.heads)
            base = tiler.region(name, "bmem", self.groups * self.head_words * form.heads, layer)
            tiler.stored[operation.name, form] = Stored(base, rows, 0, k_words=self.head_words)
            per_head = self.head_words * arch.chunks_per_word
            self.breaks = () if self.groups == 1 else range(0, len(form.chunks), per_head)
        else:
            self.stride = -(-blocks // arch.blocks_per_key_word)
            base = tiler.region(name, "bmem", self.stride * len(form.chunks), layer)
            tiler.stored[operation.name, form] = Stored(base, rows, 0, k_words=self.stride)
            self.ones = tiler.region(f"{name}/ones", "pv", len(form.chunks), layer)
            tiler.stored[operation.name, form, "ones"] = self.ones
            self.breaks = ()
        self.base = base

    def fields(self, chunk: int, block: int, valid: int) -> dict:
        """Destination fields of a run of tiles from `chunk` on."""
        arch = self.arch
        word, place = divmod(chunk, arch.chunks_per_word)
        if self.form.kind == "rows":
            words = -(-len(self.form.chunks) // arch.chunks_per_word)
            return {"dst": Destination.HMEM, "dst_addr": _offset(self.base, block * words + word),
                    "dst_pos": place}
        if self.form.kind == "keys":
            group, column = divmod(block, arch.blocks_per_key_group)
            head, word = divmod(word, self.head_words)
            offset = (head * self.groups + group) * self.head_words + word
            return {"dst": Destination.K, "dst_addr": _offset(self.base, offset),
                    "dst_pos": place, "dst_col": column}
        word, place = divmod(block, arch.blocks_per_key_word)
        return {"dst": Destination.V, "dst_addr": _offset(self.base, chunk * self.stride + word),
                "dst_pos": place, "dst_stride": self.stride, "rows": valid,
                "pv_first": int(block == 0), "pv_addr": _offset(self.ones, chunk)}


def bits(tiler, operation: Operation) -> None:
    """binary_linear and threshold, once for each form of the bits."""
    arch = tiler.arch
    linear, node = (tiler.nodes[operation.nodes[role]] for role in ("linear", "threshold"))
    layer, operand = _linear_layer(tiler, linear), _operand(tiler, operation.inputs["a"])
    weight = linear.tensors["weight"]
    threshold, flip = fold_linear(node.tensors["threshold"], node.tensors["descending"],
                                  weight.shape[1])
    for index, form in enumerate(operation.forms):
        destinations = Destinations(tiler, operation, form, operand.rows)
        tiles = [chunk for chunk in form.chunks if chunk[1]]
        weights = tiler.segment(f"{linear.name}/weight/{node.name}/{index}", "weight",
                                weight_words(arch, weight, 1, operand.positions, tiles,
                                             operand.k_words), linear.name)
        params = tiler.segment(f"{node.name}/thr/{index}", "thr",
                               thr_words(arch, threshold, flip, tiles, never(arch.count_bits)),
                               node.name)
        limit = max(1, tiler.run_words // operand.k_words)
        for block, low, high, begin, end in operand.rows.blocks(arch.rows):
            for run in runs(arch, form.chunks, limit, destinations.breaks):
                tiler.emit(
                    Opcode.MM_BITS, layer,
                    Observe(node.name, None, (begin, end), run.channels, low),
                    a_src=operand.source, a_addr=operand.at(block), b_src=BSource.WEIGHT,
                    b_addr=_offset(weights, run.tile * operand.k_words),
                    n_tiles=len(run.tiles), k_words=operand.k_words,
                    param_addr=_offset(params, run.tile),
                    **destinations.fields(run.chunk, block, high - low))


def _operand(tiler, name):
    """A value as operand A of a linear layer: any form with rows will do."""
    if name in tiler.stored:
        return tiler.stored[name]
    maker = next(operation for operation in tiler.operations if operation.name == name)
    return tiler.stored[name, next(form for form in maker.forms if form.kind == "rows")]


# ---- attention ---------------------------------------------------------------------------------

def attention(tiler, operation: Operation) -> None:
    """Scores, softmax threshold and weighted values: block by block, head by head."""
    arch = tiler.arch
    scores, softmax, attend, node = (
        tiler.nodes[operation.nodes[role]] for role in ("scores", "softmax", "attend", "threshold"))
    heads, queries, keys = tiler.types[scores.name].shape
    width = tiler.types[operation.inputs["q"]].shape[1]
    channels = tiler.types[operation.inputs["v"]].shape[1]
    q, k, v = (operation.inputs[role] for role in "qkv")
    query = tiler.stored.get((q, query_form(heads, width, arch)), tiler.stored.get(q))
    key = tiler.stored[k, key_form(arch, heads, width)]
    values = value_form(arch, heads, channels)
    value, ones = tiler.stored[v, values], tiler.stored[v, values, "ones"]
    macs = heads * queries * keys
    layers = (tiler.layer(scores.name, "scores", True, macs * (width // heads)),
              tiler.layer(softmax.name, "softmax_threshold"),
              tiler.layer(attend.name, "attend", True, macs * (channels // heads)))

    threshold, flip = fold_attention(node.tensors["threshold"], node.tensors["descending"], keys)
    tiles_per_head = len(values.chunks) // heads
    params = tiler.segment(f"{node.name}/thr", "thr",
                           thr_words(arch, threshold, flip, values.chunks,
                                     never(arch.count_bits)), node.name)
    destinations = [(form, Destinations(tiler, operation, form, query.rows))
                    for form in operation.forms]

    groups = -(-keys // arch.keys_per_group)
    words = -(-groups // arch.key_groups_per_word)
    blocks = list(query.rows.blocks(arch.rows))
    pieces = min(heads * len(blocks), max(arch.pmem_depth // words, 1))
    probabilities = tiler.region(operation.name + "/attention", "pmem", pieces * words,
                                 softmax.name)
    piece = 0
    for block, low, high, begin, end in blocks:
        for head in range(heads):
            slot = tiler.scores % arch.score_slots
            tiler.scores += 1
            bits_at = _offset(probabilities, piece % pieces * words)
            piece += 1
            tiler.emit(Opcode.MM_SCORE, layers[0], a_src=query.source,
                       a_addr=query.at(block, head * key.k_words), b_src=BSource.BMEM,
                       b_addr=_offset(key.base, head * groups * key.k_words), n_tiles=groups,
                       k_words=key.k_words, slot=slot, keys=keys)
            tiler.emit(Opcode.SOFTMAX, layers[1],
                       Observe(softmax.name, head, (begin, end), (0, keys), low), slot=slot,
                       n_tiles=groups, keys=keys, delta=softmax.attributes["delta"] // 2,
                       dst_addr=bits_at)
            for form, destination in destinations:
                for run in _head_runs(tiler, form, head, heads, words, destination.breaks):
                    tile = head * tiles_per_head + run.tile
                    tiler.emit(
                        Opcode.MM_BITS, layers[2],
                        Observe(node.name, None, (begin, end), run.channels, low),
                        a_src=ASource.PMEM, a_addr=bits_at, b_src=BSource.BMEM,
                        b_addr=_offset(value.base, tile * words), n_tiles=len(run.tiles),
                        k_words=words, param_addr=_offset(params, tile), use_pv=1,
                        **destination.fields(run.chunk, block, high - low)
                        | {"pv_addr": _offset(ones, tile)})


def _head_runs(tiler, form, head, heads, words, breaks):
    """Runs of the chunks that belong to one head."""
    width = sum(count for _, count in form.chunks) // heads
    own = [chunk if head * width <= chunk[0] < (head + 1) * width and chunk[1] else (0, 0)
           for chunk in form.chunks]
    return runs(tiler.arch, own, max(1, tiler.run_words // words), breaks)


# ---- numbers -----------------------------------------------------------------------------------

def accumulate(tiler, operation: Operation) -> None:
    """A linear layer and rescale or embed, with an addend: numbers in RESID."""
    arch = tiler.arch
    linear, node = (tiler.nodes[operation.nodes[role]] for role in ("linear", "rescale"))
    operand, channels = _operand(tiler, operation.inputs["a"]), tiler.types[node.name].shape[1]
    tiles, prefix = plain_chunks(arch, channels), node.attributes.get("prefix", 0)
    rows = Rows(operand.rows.tokens + prefix, operand.rows.offset)
    if node.op == "embed":
        if operand.rows.offset != prefix % arch.rows:
            raise CompileError(f"layer {node.name}: its tokens do not start at row "
                               f"{prefix % arch.rows} of a block; make prefix "
                               f"{operand.rows.offset} or embed the patches themselves")
        rows = Rows(operand.rows.tokens + prefix)
    block_words, add = number_words(arch, channels), {}
    base, addend = None, operation.inputs.get("addend")
    if addend:
        numbers = tiler.stored[addend]
        if numbers.rows != rows:
            raise CompileError(f"layer {node.name}: its addend {addend} lies in other rows of a "
                               "block than the product; select the same token for both")
        if tiler.last_use[addend] == tiler.index:
            base = numbers.base  # in place
    elif node.op == "embed":
        table = tiler.segment(f"{node.name}/table", "pos",
                              pos_words(arch, node.tensors["table"], tiles), node.name)
        numbers = Stored(table, rows, block_words)
    blocks = list(rows.blocks(arch.rows))
    base = base or tiler.region(node.name, "resid", len(blocks) * block_words, node.name)
    result = tiler.stored[node.name] = Stored(base, rows, block_words)

    weight, codes = linear.tensors["weight"].astype(np.int64), linear.op == "plane_linear"
    planes = weight_planes(weight) if codes else 1
    stored_weight = (weight + (1 << planes) - 1) // 2 if codes else weight
    a_planes = CODE_PLANES if codes else 1
    products = {
        "a_src": operand.source, "b_src": BSource.WEIGHT, "k_words": operand.k_words,
        "a_planes": a_planes, "b_planes": planes,
        "base": weight.shape[1] * ((1 << a_planes) - 1) * ((1 << planes) - 1)}
    weights = tiler.segment(
        f"{linear.name}/weight/{node.name}", "weight",
        weight_words(arch, stored_weight, planes, operand.positions, tiles,
                     operand.k_words), linear.name)
    params = tiler.segment(
        f"{node.name}/scale", "scale",
        scale_words(arch, node.tensors["scale"], node.tensors["bias"], tiles), node.name)
    layer = _linear_layer(tiler, linear)
    limit = max(1, tiler.run_words // (operand.k_words * a_planes * planes))

    def emit(block, low, high, a_addr, b_addr, param_addr, run, products):
        # Rows before a selected token are written, too, so that no reader finds an unwritten word.
        words = run.tile * arch.drain_cycles
        if addend or node.op == "embed":
            add.update(add_src=AddSource.RESID if addend else AddSource.POS,
                       add_addr=numbers.at(block, words))
        token = block * arch.rows + low - rows.offset
        tiler.emit(Opcode.MM_ACC, layer,
                   Observe(node.name, None, (token, token + high - low), run.channels, low),
                   a_addr=a_addr, b_addr=b_addr, param_addr=param_addr,
                   n_tiles=len(run.tiles), dst_addr=result.at(block, words),
                   row_lo=low if prefix else 0, row_hi=high,
                   shift=numeric.RESCALE_SHIFTS.index(node.attributes["shift"]),
                   sat=node.attributes["bits"], **products, **add)

    a_at = operand.at if operand.source is not ASource.IMEM else tiler.patches.at
    for block, low, high, _, _ in blocks:
        own_low = max(low, prefix - block * arch.rows)
        if own_low > low:  # rows before the patches: a product of scale 0, plus their table
            zero = tiler.segment(f"zero/scale/{len(tiles)}", "scale", (0,) * len(tiles), node.name)
            for run in runs(arch, tiles, len(tiles)):
                emit(block, low, min(own_low, high), a_at(0), weights, zero, run,
                     products | {"a_planes": 1, "b_planes": 1, "k_words": 1, "base": 0})
        if own_low < high:
            for run in runs(arch, tiles, limit):
                emit(block, own_low, high, a_at(block - prefix // arch.rows),
                     _offset(weights, run.tile * planes * operand.k_words),
                     _offset(params, run.tile), run, products)
