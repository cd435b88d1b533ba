"""Values that must be laid out alike: in which segments tokens lie, in which chunks channels.

A layout is shared by all values that instructions read or write side by side, word by word. Two
fixed points over such classes: windows want their tokens in segments, heads want their channels to
start a chunk; everything else follows.
"""

from bivit.compiler.ir.operation import images_of
from bivit.compiler.layout import plain_chunks
from bivit.compiler.structures import CompileError
from bivit.hw.arch import Arch

__all__ = ["ATTEND", "SCORES", "chunk_layouts", "is_flexible", "segment_layouts"]

SCORES = ("scores", "window_scores")
"""Operations that compare queries with keys."""
ATTEND = ("attend", "attend_levels")
"""Operations that weigh values with attention bits."""
_FREE_ROWS = ("gather", "weighted_sum", "max_pool", "gelu", "codes", "fold_channels", "select")
"""Operations whose result may lie in other rows than what they are made of."""
_SAME_CHANNELS = ("bend", "add_table", "norm_bits", "head_norm_bits", "norm_codes", "norm_numbers",
                  "codes", "gelu", "max_pool", "select", "weighted_sum")
"""Operations that work tile by tile on all their inputs."""


class _Classes:
    """Disjoint sets of names."""

    def __init__(self):
        self._parent = {}

    def root(self, name):
        while (parent := self._parent.get(name, name)) != name:
            self._parent[name] = self._parent.get(parent, parent)
            name = parent
        return name

    def join(self, *names):
        for name in names[1:]:
            self._parent[self.root(name)] = self.root(names[0])


def is_flexible(name: str, nodes: dict) -> bool:
    """Whether the bits of a value can be made in any order: they are fused with a linear layer."""
    node = nodes[name]
    return node.op == "threshold" and nodes[node.inputs[0]].op == "binary_linear"


# ---- tokens ------------------------------------------------------------------------------------

def segment_layouts(nodes: dict, types: dict, arch: Arch) -> dict[str, int]:
    """Segments of the tokens of every value.

    Raises
    ------
    CompileError
        If the same tokens are needed in different segments.
    """
    classes, demands = _Classes(), []

    def demand(name, windows, node):
        length = types[name].shape[0] // windows
        demands.append((name, 1 if length % arch.rows == 0 else windows, node.name))

    for node in nodes.values():
        if node.op in SCORES:
            windows = node.attributes.get("windows", 1)
            classes.join(node.name, node.inputs[0])
            for name in node.inputs[node.op == "scores":]:
                demand(name, windows, node)
        elif node.op in ATTEND:
            classes.join(node.name, node.inputs[0])
            keys = types[node.inputs[0]].shape[2]
            demand(node.inputs[1], types[node.inputs[1]].shape[0] // keys, node)
        elif node.op == "embed" and node.attributes["prefix"]:
            images = images_of(node.attributes)
            demand(node.name, images, node)
            demands.append((node.inputs[0], images, node.name))
        elif node.op not in (*_FREE_ROWS, "patchify"):
            classes.join(node.name, *node.inputs)
    found = {}
    for name, segments, layer in demands:
        other, before = found.setdefault(classes.root(name), (segments, layer))
        if other != segments:
            raise CompileError(f"layer {layer}: it needs the tokens of {name} in {segments} "
                               f"windows, and {before} needs them in {other}; put a gather between "
                               "them")
    return {name: found.get(classes.root(name), (1, None))[0] for name in nodes}


# ---- channels ----------------------------------------------------------------------------------

def chunk_layouts(nodes: dict, types: dict, arch: Arch) -> dict[str, tuple]:
    """Chunks (first channel, count) of every value with channels; products stand for their heads.

    A layer of scores has the chunks of its queries and keys, one of weighted values those of its
    values.
    """
    classes, starts, copies, widths = _Classes(), {}, [], {}
    for node in nodes.values():
        if len(types[node.name].shape) == 2:
            widths[node.name] = types[node.name].shape[1]
    for node in nodes.values():
        name, inputs = node.name, node.inputs
        if node.op in _SAME_CHANNELS:
            classes.join(name, *inputs)
        elif node.op == "rescale":
            same = nodes[inputs[0]].op in ATTEND
            classes.join(name, *inputs[0 if same else 1:])
        elif node.op == "threshold" and not is_flexible(name, nodes):
            classes.join(name, inputs[0])
        elif node.op in SCORES:
            widths[name] = types[inputs[0]].shape[1]
            classes.join(name, *(x for x in inputs if not is_flexible(x, nodes)))
            starts[name] = _heads(widths[name], node.attributes["num_heads"])
        elif node.op in ATTEND:
            if not is_flexible(inputs[1], nodes):
                classes.join(name, inputs[1])
            starts[name] = _heads(widths[name], types[inputs[0]].shape[0])
        elif node.op == "tile_channels" or (node.op == "gather" and
                                            types[name].kind == "numbers"):
            copies.append((name, inputs[0]))
        elif node.op == "gather" and node.tensors["index"].shape[1] == 1:
            classes.join(name, inputs[0])
        if node.op == "head_norm_bits":
            starts[name] = _heads(widths[name], node.attributes["num_heads"])
    boundaries = {}
    for name, found in starts.items():
        boundaries.setdefault(classes.root(name), set()).update(found)
    _spread(boundaries, [(classes.root(a), widths[a], classes.root(b), widths[b])
                         for a, b in copies])
    return {name: _cut(arch, width, boundaries.get(classes.root(name), ()))
            for name, width in widths.items()}


def _heads(width, heads):
    return range(0, width, width // heads)


def _spread(boundaries, copies):
    """Every copy has the boundaries of what it is a copy of, and the other way round."""
    changed = True
    while changed:
        changed = False
        for result, width, source, period in copies:
            if width == period:
                mine = theirs = (boundaries.get(result, set()) | boundaries.get(source, set()))
            else:
                theirs = ({x % period for x in boundaries.get(result, ())}
                          | boundaries.get(source, set()) | {0})
                mine = {x + start for x in theirs for start in range(0, width, period)}
            for root, found in ((result, mine), (source, theirs)):
                if found - boundaries.get(root, set()):
                    boundaries.setdefault(root, set()).update(found)
                    changed = True


def _cut(arch, width, boundaries):
    edges = sorted({0, width, *boundaries})
    return tuple(chunk for low, high in zip(edges, edges[1:], strict=False)
                 for chunk in plain_chunks(arch, high - low, low))
