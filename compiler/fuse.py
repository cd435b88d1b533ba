"""Second pass: nodes become operations of the machine, with the forms in which bits are stored."""

import dataclasses

from bivit.compiler.ir.graph import Graph
from bivit.compiler.layout import head_chunks, key_form, packed_heads, plain_chunks, value_form
from bivit.compiler.structures import CompileError, Form, Operation
from bivit.hw.arch import Arch

__all__ = ["fuse", "live_nodes", "query_form", "row_form"]

_READERS = {
    "patchify": ("plane_linear",),
    "binary_linear": ("threshold", "rescale", "embed"),
    "plane_linear": ("rescale", "embed"),
    "scores": ("softmax_threshold",),
    "softmax_threshold": ("attend",),
    "attend": ("threshold",),
}
"""Operations that may take a dot product (or attention bits), because they are fused with it."""


def live_nodes(graph: Graph) -> set[str]:
    """Names of the nodes that the last one depends on."""
    live = {graph.nodes[-1].name}
    for node in reversed(graph.nodes):
        if node.name in live:
            live |= set(node.inputs)
    return live


def fuse(graph: Graph, arch: Arch) -> tuple[Operation, ...]:
    """Operations in the graph's order; dead nodes are dropped.

    A dot product with several readers is computed once for each of them.
    """
    types, live = graph.infer(), live_nodes(graph)
    nodes = {node.name: node for node in graph.nodes}
    _check_ends(graph, types, live)
    for node in graph.nodes:
        for name in node.inputs if node.name in live else ():
            allowed = _READERS.get(nodes[name].op) if name in nodes else None
            if allowed and node.op not in allowed:
                raise CompileError(f"layer {node.name}: {node.op} cannot follow {nodes[name].op} "
                                   f"{name}; put {' or '.join(allowed)} between them")
    operations = [_operation(node, nodes) for node in graph.nodes
                  if node.name in live and node.op in _BUILDERS]
    end = "output"
    while end in nodes:
        end += "_"
    operations.append(Operation("output", end, {}, {"source": graph.nodes[-1].name}))
    return _with_forms(operations, nodes, types, arch)


def _check_ends(graph, types, live):
    last = graph.nodes[-1]
    kind, shape = types[last.name].kind, types[last.name].shape
    if kind != "numbers" or shape[0] != 1:
        raise CompileError(f"layer {last.name}: the output is {kind} of shape {shape}; let the "
                           "network end in numbers of one token (select a token, then rescale)")
    inputs = [node.name for node in graph.nodes if node.op == "patchify" and node.name in live]
    if len(inputs) != 1:
        raise CompileError(f"layer {last.name}: {len(inputs)} layers cut the image into patches "
                           "and the image arrives once; use one patchify")


def _bits_or_attention(node, nodes):
    dot = nodes[node.inputs[0]]
    if dot.op == "binary_linear":
        return Operation("bits", node.name, {"linear": dot.name, "threshold": node.name},
                         {"a": dot.inputs[0]})
    softmax = nodes[dot.inputs[0]]
    scores = nodes[softmax.inputs[0]]
    return Operation("attention", node.name,
                     {"scores": scores.name, "softmax": softmax.name, "attend": dot.name,
                      "threshold": node.name},
                     {"q": scores.inputs[0], "k": scores.inputs[1], "v": dot.inputs[1]})


def _accumulate(node, nodes):
    dot = nodes[node.inputs[0]]
    addend = {"addend": node.inputs[1]} if len(node.inputs) > 1 else {}
    return Operation("accumulate", node.name, {"linear": dot.name, "rescale": node.name},
                     {"a": dot.inputs[0]} | addend)


def _simple(kind):
    return lambda node, nodes: Operation(kind, node.name, {kind: node.name},
                                         {"source": node.inputs[0]})


_BUILDERS = {"patchify": _simple("load"), "threshold": _bits_or_attention, "rescale": _accumulate,
             "embed": _accumulate, "norm_bits": _simple("norm"), "norm_codes": _simple("norm"),
             "select": _simple("select")}


def _operation(node, nodes):
    return _BUILDERS[node.op](node, nodes)


# ---- forms -------------------------------------------------------------------------------------

def row_form(operation: Operation, heads: int, channels: int, arch: Arch) -> Form:
    """How the bits of `operation` are stored for a linear layer; `heads` are its own."""
    if operation.kind == "attention":
        return Form("rows", packed_heads(arch, heads, channels))
    return Form("rows", plain_chunks(arch, channels))


def query_form(heads: int, channels: int, arch: Arch) -> Form:
    """How queries are stored."""
    return Form("rows", head_chunks(arch, heads, channels))


def _with_forms(operations, nodes, types, arch):
    """Give every operation the forms that its readers need."""
    makers = {operation.name: operation for operation in operations}
    forms = {name: [] for name in makers}

    def own_heads(operation):
        scores = operation.nodes.get("scores")
        return nodes[scores].attributes["num_heads"] if scores else 1

    def need(name, form):
        if form not in forms[name]:
            forms[name].append(form)

    for operation in operations:
        if operation.kind == "attention":
            _attention_forms(operation, own_heads, makers, types, arch, need)
        elif "a" in operation.inputs:
            name = operation.inputs["a"]
            maker = makers[name]
            if maker.kind in ("bits", "attention"):
                need(name, row_form(maker, own_heads(maker), types[name].shape[1], arch))
    return tuple(dataclasses.replace(operation, forms=tuple(forms[operation.name]))
                 for operation in operations)


def _attention_forms(operation, own_heads, makers, types, arch, need):
    heads, layer = own_heads(operation), operation.nodes["scores"]
    for role in "qkv":
        name = operation.inputs[role]
        maker, channels = makers[name], types[name].shape[1]
        if maker.kind == "norm":
            if role != "q" or head_chunks(arch, heads, channels) != plain_chunks(arch, channels):
                raise CompileError(f"layer {layer}: the bits of {name} cannot be {_ROLES[role]}; "
                                   "put binary_linear and threshold between them")
            continue
        if maker.kind == "attention" and (role == "v" or own_heads(maker) != heads):
            raise CompileError(f"layer {layer}: the attention output {name} cannot be "
                               f"{_ROLES[role]} here; put binary_linear and threshold between them")
        need(name, query_form(heads, channels, arch) if role == "q" else
             key_form(arch, heads, channels) if role == "k" else value_form(arch, heads, channels))


_ROLES = {"q": "queries", "k": "keys", "v": "values"}
