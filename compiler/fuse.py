"""Second pass: nodes become operations of the machine, with the forms in which bits are stored."""

import dataclasses

from bivit.compiler.chains import Chain, find_chains
from bivit.compiler.classes import ATTEND, SCORES, chunk_layouts, segment_layouts
from bivit.compiler.fold import fold_sums
from bivit.compiler.ir.graph import Graph, Node
from bivit.compiler.layout import key_form, query_form, value_form
from bivit.compiler.structures import CompileError, Form, Operation
from bivit.hw.arch import Arch

__all__ = ["Layouts", "fuse", "inner_nodes", "live_nodes"]

_SOFTMAX = ("softmax_threshold", "score_threshold", "softmax_absolute")
_READERS = {
    "patchify": ("plane_linear",),
    "binary_linear": ("threshold", "rescale", "embed"),
    "plane_linear": ("rescale", "embed"),
    **dict.fromkeys(SCORES, (*_SOFTMAX, "score_bias")),
    "score_bias": _SOFTMAX,
    **dict.fromkeys(_SOFTMAX, ATTEND),
    **dict.fromkeys(ATTEND, ("threshold", "rescale")),
}
"""Operations that may take a dot product (or attention bits), because they are fused with it."""

_ROWS = ("weighted_sum", "max_pool", "gelu", "codes", "fold_channels")
_NORMS = ("norm_bits", "head_norm_bits", "norm_codes", "norm_numbers")


@dataclasses.dataclass(frozen=True)
class Layouts:
    """How values lie: `chunks` of their channels, `segments` of their tokens, by value."""

    chunks: dict[str, tuple]
    segments: dict[str, int]


def live_nodes(graph: Graph) -> set[str]:
    """Names of the nodes that the last one depends on."""
    live = {graph.nodes[-1].name}
    for node in reversed(graph.nodes):
        if node.name in live:
            live |= set(node.inputs)
    return live


def fuse(graph: Graph, arch: Arch) -> tuple[tuple[Operation, ...], Layouts]:
    """Operations, each behind what it is made of, and the layouts; dead nodes are dropped.

    A dot product with several readers is computed once for each of them.
    """
    types, live = graph.infer(), live_nodes(graph)
    nodes = {node.name: node for node in graph.nodes if node.name in live}
    _check_ends(graph, types, nodes)
    for node in nodes.values():
        for name in node.inputs:
            allowed = _READERS.get(nodes[name].op) if name in nodes else None
            if allowed and node.op not in allowed:
                raise CompileError(f"layer {node.name}: {node.op} cannot follow {nodes[name].op} "
                                   f"{name}; put {' or '.join(allowed)} between them")
    layouts = Layouts(chunk_layouts(nodes, types, arch), segment_layouts(nodes, types, arch))
    return _Fuser(graph, nodes, types, layouts, arch).operations(), layouts


def inner_nodes(graph: Graph) -> set[str]:
    """Names of the live nodes whose numbers stay inside an operation of the machine."""
    live = live_nodes(graph)
    nodes = {node.name: node for node in graph.nodes if node.name in live}
    chains = find_chains(nodes, graph.infer(), graph.nodes[-1].name)
    return _gelus_of_codes(nodes) | {
        chain.nodes[role] for chain in chains.values() for role in ("rescale", "bend")
        if chain.nodes.get(role, chain.name) != chain.name}


def _gelus_of_codes(nodes):
    """GELUs whose numbers only become codes: one sum does both."""
    readers = {name: [] for name in nodes}
    for node in nodes.values():
        for name in node.inputs:
            if name in readers:
                readers[name].append(node.op)
    return {node.name for node in nodes.values()
            if node.op == "gelu" and readers[node.name] == ["codes"]}


def _check_ends(graph, types, nodes):
    last = graph.nodes[-1]
    kind, shape = types[last.name].kind, types[last.name].shape
    if kind != "numbers" or shape[0] != graph.images:
        raise CompileError(f"layer {last.name}: the output is {kind} of shape {shape}; let the "
                           "network end in numbers of one token (select a token, then rescale)")
    inputs = [node.name for node in nodes.values() if node.op == "patchify"]
    if len(inputs) != 1:
        raise CompileError(f"layer {last.name}: {len(inputs)} layers cut the image into patches "
                           "and the image arrives once; use one patchify")


def _attention_roles(attend: Node, nodes: dict[str, Node]):
    """Nodes and inputs of the attention that ends in `attend`."""
    softmax = nodes[attend.inputs[0]]
    scores = nodes[softmax.inputs[0]]
    roles = {"softmax": softmax.name, "attend": attend.name}
    if scores.op == "score_bias":
        roles["bias"] = scores.name
        scores = nodes[scores.inputs[0]]
    return (roles | {"scores": scores.name},
            {"q": scores.inputs[0], "k": scores.inputs[1], "v": attend.inputs[1]})


class _Fuser:
    """State of the walk through the nodes.

    Attributes
    ----------
    needed : dict of value to list of Form
        How readers want the bits of a value.
    """

    def __init__(self, graph, nodes, types, layouts, arch):
        self.nodes, self.types, self.layouts, self.arch = nodes, types, layouts, arch
        self.end = graph.nodes[-1].name
        self.chains = find_chains(nodes, types, self.end)
        self.gelus = _gelus_of_codes(nodes)
        self.needed = {name: [] for name in nodes}
        for node in nodes.values():
            self._needs(node)

    def operations(self):
        """All operations."""
        found = []
        for node in self.nodes.values():
            found += self._of(node)
        end = "output"
        while end in self.nodes:
            end += "_"
        found.append(Operation("output", end, {}, {"source": self.end}))
        return tuple(found)

    # ---- forms that readers need ----------------------------------------------------------------

    def _need(self, name, form):
        if form not in self.needed[name]:
            self.needed[name].append(form)

    def _needs(self, node):
        inputs = node.inputs
        if node.op in SCORES:
            heads, chunks = node.attributes["num_heads"], self.layouts.chunks[node.name]
            windows = node.attributes.get("windows", 1)
            self._need(inputs[0], query_form(self.arch, heads, chunks))
            self._need(inputs[1], key_form(self.arch, heads, chunks, windows))
        elif node.op in ATTEND:
            heads, _, keys = self.types[inputs[0]].shape
            zeros = tuple(int(zero) for zero in node.tensors.get("zero", ()))
            self._need(inputs[1], value_form(heads, self.layouts.chunks[node.name],
                                             self.types[inputs[1]].shape[0] // keys, zeros))
        elif inputs[0] in self.nodes and self.types[inputs[0]].kind == "bits":
            self._need(inputs[0], self._row_form(inputs[0]))

    def _row_form(self, name):
        """How bits are stored for a linear layer."""
        return Form("rows", self.layouts.chunks[name])

    # ---- operations -----------------------------------------------------------------------------

    def _of(self, node):
        """Operations that a node ends."""
        name, op = node.name, node.op
        if op == "threshold":
            return self._threshold(node)
        if name in self.chains:
            return self._chain(self.chains[name])
        source = {"source": node.inputs[0]} if node.inputs else {}
        if op == "patchify":
            return [Operation("load", name, {"load": name}, source)]
        if op in _NORMS:
            return [Operation("norm", name, {"norm": name}, source), *self._keys(node)]
        if op == "gather" and self.types[name].kind != "numbers":
            return [Operation("move", name, {"gather": name}, source), *self._keys(node)]
        if op == "select" or op == "tile_channels" and name not in self.chains:
            return [Operation("view", name, {op: name}, source)]
        if op in _ROWS or op == "gather":
            if name in self.gelus:
                return []
            nodes, inputs = {"rows": name}, node.inputs
            nodes |= {f"sign{i}": sign for i, sign in enumerate(self._signs_of_sum(node))}
            if op == "codes" and inputs[0] in self.gelus:
                nodes["gelu"], inputs = inputs[0], self.nodes[inputs[0]].inputs
            return [Operation("rows", name, nodes,
                              {f"source{i}": source for i, source in enumerate(inputs)})]
        return []

    def _keys(self, node):
        """Bits of the vector unit as keys; they are queries if their heads lie on whole words."""
        operations, name = [], node.name
        natural = self._natural(node)
        for form in self.needed[name]:
            if form.kind == "keys":
                operations.append(Operation("keys", name, {}, {"source": name}, (form,)))
            if form.kind == "values" or form.chunks != natural and form != self._row_form(name):
                raise CompileError(f"layer {name}: its bits cannot be {_ROLES[form.kind]}; put "
                                   "binary_linear and threshold between them")
        return operations

    def _natural(self, node):
        """Chunks of bits that the vector unit makes, or None for parts behind each other."""
        while node.op == "gather":
            if node.tensors["index"].shape[1] > 1:
                return None
            node = self.nodes[node.inputs[0]]
        return natural_chunks(node, self.layouts, self.arch)

    def _threshold(self, node):
        """Bits of a product; those of numbers that are not fused with what makes the numbers."""
        dot, forms = self.nodes[node.inputs[0]], self.needed[node.name]
        if dot.op == "binary_linear":
            return [Operation("bits", node.name, {"linear": dot.name, "threshold": node.name},
                              {"a": dot.inputs[0]}, tuple(forms))]
        if dot.op in ATTEND:
            if any(form.kind == "values" for form in forms):
                raise CompileError(f"layer {node.name}: the attention output cannot be values; "
                                   "put binary_linear and threshold between them")
            roles, inputs = _attention_roles(dot, self.nodes)
            return [Operation("attention", node.name, roles | {"threshold": node.name}, inputs,
                              tuple(forms))]
        fused = self._sign_of(dot.name)
        found = []
        for form in forms:
            if fused is not None and fused[0] == node.name and fused[1] == form:
                continue
            if form == self._row_form(node.name) and self._in_vector_memory(dot.name):
                if node.name in self._signs_of_sum(dot):
                    continue
                found.append(Operation("rows", node.name, {"rows": node.name},
                                       {"source0": dot.name}, (form,)))
                continue
            found.append(Operation("accumulate", node.name, {"sign": node.name},
                                   {"addend": dot.name}, (form,)))
        return found

    def _in_vector_memory(self, name):
        """Whether numbers lie in VMEM, each channel once."""
        while self.nodes[name].op == "select":
            name = self.nodes[name].inputs[0]
        return name not in self.chains and self.nodes[name].op != "tile_channels"

    def _signs_of_sum(self, node):
        """Signs of a weighted sum, as rows, that the sum itself gives."""
        if node.op != "weighted_sum":
            return []
        return [sign.name for sign in self.nodes.values()
                if sign.op == "threshold" and sign.inputs[0] == node.name
                and self._row_form(sign.name) in self.needed[sign.name]
                and fold_sums(sign.tensors["threshold"], sign.tensors["descending"],
                              node.tensors["bias"], node.attributes["bits"]) is not None]

    def _sign_of(self, name):
        """The first sign of a chain's numbers, and its first form, if it can be fused."""
        if name not in self.chains:
            return None
        attention = "attend" in self.chains[name].nodes
        for node in self.nodes.values():
            if node.op == "threshold" and node.inputs[0] == name:
                for form in self.needed[node.name]:
                    if not (attention and form.kind == "values"):
                        return node.name, form
        return None

    def _chain(self, chain: Chain):
        roles, inputs, forms = dict(chain.nodes), dict(chain.inputs), ()
        if sign := self._sign_of(chain.name):
            roles["sign"], forms = sign[0], (sign[1],)
        if "attend" in roles:
            more, extra = _attention_roles(self.nodes[roles["attend"]], self.nodes)
            return [Operation("attention", chain.name, roles | more, inputs | extra, forms)]
        return [Operation("accumulate", chain.name, roles, inputs, forms)]


def natural_chunks(node: Node, layouts: Layouts, arch: Arch):
    """Chunks of the bits of a LayerNorm, or of any flexible bits as rows."""
    chunks = layouts.chunks[node.name]
    if node.op == "head_norm_bits":
        return query_form(arch, node.attributes["num_heads"], chunks).chunks
    return chunks


_ROLES = {"rows": "queries", "keys": "keys", "values": "values"}
