"""Instructions of MOVE: rows of bits and codes gathered, and bits of the vector unit as keys."""

import dataclasses

import numpy as np

from bivit.compiler.destinations import KeyLayout
from bivit.compiler.fold import never
from bivit.compiler.ir import numeric
from bivit.compiler.ir.numeric import CODE_BITS
from bivit.compiler.nests import Nest, find_nests
from bivit.compiler.structures import CompileError, Operation, Rows, Stored
from bivit.compiler.tile_products import operand
from bivit.hw.isa import ASource, BSource, Destination, MoveSource, Opcode, RowKind

__all__ = ["gather", "keys", "row_numbers", "segment_fields"]

_SOURCES = {ASource.XMEM: MoveSource.XMEM, ASource.HMEM: MoveSource.HMEM}
_LONG = 4
"""Blocks from which on what reads them may be a loop that is worth a join."""


def segment_fields(rows: Rows, token: int) -> dict[str, int]:
    """Fields of rows behind each other that say where segments end, from a token on."""
    if rows.segments == 1:
        return {}
    return {"segment": rows.length, "segment_left": rows.length - token % rows.length}


def row_numbers(rows: Rows, count: int) -> np.ndarray:
    """Row of every token, counted through all blocks."""
    places = (rows.place(token, count) for token in range(rows.tokens))
    return np.array([block * count + row for block, row in places])


def gather(tiler, operation: Operation) -> None:
    """Bits or codes in another order, in parts behind each other."""
    arch, node = tiler.arch, tiler.nodes[operation.name]
    name, index = operation.inputs["source"], node.tensors["index"]
    source = operand(tiler, name)
    planes = CODE_BITS if tiler.types[name].kind == "codes" else 1
    tokens, parts = index.shape
    rows = Rows(tokens, 0, tiler.layouts.segments[node.name])
    words = source.k_words
    blocks = rows.segments * rows.segment_blocks(arch.rows)
    base = tiler.region(node.name, "xmem", blocks * planes * parts * words, node.name)
    positions = np.concatenate([source.positions + part * words * arch.lanes
                                for part in range(parts)])
    stored = tiler.stored[node.name] = Stored(
        base, rows, planes * parts * words, ASource.XMEM, parts * words, positions,
        source.chunks if parts == 1 else ())
    layer = tiler.layer_of(node.name)
    fill = (_fill_row(tiler, name, node, source, layer)
            if planes > 1 and (index < 0).any() else None)
    numbers = row_numbers(source.rows, arch.rows)
    for part in range(parts):
        for run in _runs(index[:, part]):
            first = run[0]
            if index[first, part] < 0:
                nests = find_nests([(i - first, 0) for i in run], len(run) + 1)
                origin = fill
            else:
                nests = find_nests([(i - first, int(numbers[index[i, part]])) for i in run],
                                   tokens + 1)
                origin = source
            for nest in nests:
                block, row = rows.place(first + nest.sum, arch.rows)
                for plane in range(planes):
                    tiler.emit(
                        Opcode.MOVE, layer, src=_SOURCES[origin.source],
                        src_addr=origin.at(nest.row // arch.rows, plane * words),
                        src_row=nest.row % arch.rows, src_stride=origin.block_words,
                        dst_addr=stored.at(block, (plane * parts + part) * words), dst_row=row,
                        dst_stride=stored.block_words, words=words,
                        **segment_fields(rows, first + nest.sum),
                        **nest.fields(arch.rows, sums=False))
    if blocks >= _LONG:
        _join(tiler, stored, blocks, layer)


def _join(tiler, stored, blocks, layer):
    """A product of no use that reads what was moved last.

    The products of a loop then need not wait for moves in front of it, each time they run.
    """
    limits = tiler.segment("constant/zeros/1", "thr", tiler.words.thr_constant(
        never(tiler.arch.count_bits), 1), tiler.last_layer)
    place = tiler.region(f"{tiler.last_layer}/join", "hmem", 1, tiler.last_layer)
    tiler.emit(Opcode.MM_BITS, layer, **tiler.zero_product(1, bits=True)
               | {"a_src": stored.source, "a_addr": stored.at(blocks - 1)},
               n_tiles=1, param_addr=limits, dst=Destination.HMEM, dst_addr=place,
               rows=tiler.arch.rows)


def _runs(column):
    """Tokens behind each other that are all filled or all taken from somewhere."""
    edges = np.flatnonzero(np.diff(column < 0)) + 1
    return [part.tolist() for part in np.split(np.arange(len(column)), edges)]


def _fill_row(tiler, name, node, source, layer) -> Stored:
    """A row of codes that are all `fill`: any numbers times 0, and a bias."""
    arch, chunks = tiler.arch, source.chunks
    if not chunks:
        raise CompileError(f"layer {node.name}: {name} is gathered in parts already and cannot be "
                           "filled; gather both at once")
    maker = tiler.nodes[name]
    while maker.op == "gather":
        maker = tiler.nodes[maker.inputs[0]]
    numbers = tiler.stored[maker.inputs[0]]
    base = tiler.region(f"{node.name}/fill", "xmem", source.block_words, node.name)
    zeros = np.zeros(sum(max(chunks)), np.int64)
    bias = zeros + (node.attributes["fill"] << numeric.BIAS_FRACTION)
    params, biases = (tiler.segment(f"{node.name}/{what}", "norm",
                                    tiler.words.scale(zeros, values, chunks), node.name)
                      for what, values in (("no numbers", zeros), ("fill bias", bias)))
    tiler.emit(Opcode.ROWS_ADD, layer, src=numbers.source, src_addr=numbers.at(0),
               src_row=numbers.rows.offset, src_stride=numbers.block_words, n_tiles=len(chunks),
               sum_tiles=len(chunks), param_addr=params, first=1,
               **Nest(0, 0).fields(arch.rows, sums=True))
    tiler.emit(Opcode.ROWS_OUT, layer, dst_addr=base, dst_stride=source.block_words,
               kind=RowKind.CODES, count=1, sum_tiles=len(chunks), param_addr=biases,
               k_words=source.k_words, sat=1)
    return dataclasses.replace(source, base=base, rows=Rows(1))


def keys(tiler, operation: Operation) -> None:
    """Bits of the vector unit to KMEM, head by head."""
    arch, name, (form,) = tiler.arch, operation.name, operation.forms
    source = operand(tiler, name)
    if source.rows.offset:
        raise CompileError(f"layer {name}: keys must start at row 0 of a block; select a token "
                           f"that is a multiple of {arch.rows}")
    layout = KeyLayout(arch, form, source.rows)
    region = f"{name}/keys/{tiler.index}"
    base = tiler.region(region, "kmem", layout.words, name)
    tiler.stored[name, form] = Stored(base, source.rows, 0, BSource.KMEM, layout.k_words)
    length = source.rows.tokens // form.windows
    segments = {"segment": length, "segment_left": length} if form.windows > 1 else {}
    numbers = row_numbers(source.rows, arch.rows)
    nests = find_nests(list(enumerate(numbers.tolist())), source.rows.tokens + 1)
    for head in range(form.heads):
        for nest in nests:
            window, inside = divmod(nest.sum, length)
            group, column = divmod(inside, arch.keys_per_group)
            left = {"segment_left": length - inside} if segments else {}
            tiler.emit(
                Opcode.MOVE, tiler.layer_of(name), src=_SOURCES[source.source],
                src_addr=source.at(nest.row // arch.rows, head * layout.k_words),
                src_row=nest.row % arch.rows, src_stride=source.block_words, to_keys=1,
                dst_addr=base.plus(layout.word(head, window, group)), dst_row=column,
                dst_stride=layout.k_words, words=min(layout.k_words,
                                                     source.k_words - head * layout.k_words),
                **segments | left, **nest.fields(arch.rows, sums=False))
