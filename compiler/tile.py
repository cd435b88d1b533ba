"""Third pass: operations become instructions for blocks of tokens and runs of column tiles.

Instructions come out in canonical order: executed one after another they are right. Addresses are
words of regions and segments that have no place yet.
"""

from bivit.compiler import tile_products, tile_vectors
from bivit.compiler.ir.graph import Graph
from bivit.compiler.structures import (
    Address,
    Instruction,
    Layer,
    Operation,
    Plan,
    Region,
    Segment,
)
from bivit.hw.arch import Arch
from bivit.hw.isa import FORMATS

__all__ = ["Tiler", "tile"]

_EMITTERS = {"load": tile_vectors.load, "norm": tile_vectors.norm, "select": tile_vectors.select,
             "output": tile_vectors.output, "bits": tile_products.bits,
             "attention": tile_products.attention, "accumulate": tile_products.accumulate}


def tile(graph: Graph, operations: tuple[Operation, ...], arch: Arch, run_words: int, *,
         share: bool = True) -> Plan:
    """Cut operations into instructions.

    Parameters
    ----------
    run_words : int
        Word pairs after which a matrix product is cut into a further instruction.
    share : bool
        Keep equal constant words once.
    """
    tiler = Tiler(graph, operations, arch, run_words, share)
    for index, operation in enumerate(operations):
        tiler.index = index
        _EMITTERS[operation.kind](tiler, operation)
    return Plan(tuple(tiler.instructions), tuple(tiler.regions.values()),
                tuple(tiler.segments.values()), tuple(tiler.layers.values()))


class Tiler:
    """What the emitters share: instructions, regions and segments so far, and where values lie.

    Attributes
    ----------
    stored : dict
        :class:`Stored` of a value by its name, or of one of its forms by (name, form).
    index : int
        Number of the operation that is being cut.
    last_use : dict of str to int
        Number of the last operation that reads a region of numbers, by the value that made it.
    """

    def __init__(self, graph, operations, arch, run_words, share):
        self.arch, self.operations, self.run_words = arch, operations, run_words
        self.share = share
        self.nodes = {node.name: node for node in graph.nodes}
        self.types = graph.infer()
        self.index = 0
        self.instructions, self.regions, self.layers = [], {}, {}
        self.segments, self._same_words = {}, {}
        self.stored = {}
        self.last_use = self._last_uses()
        self.scores = 0
        self.patches = None

    def _last_uses(self):
        """A view (select) keeps what it looks at alive."""
        uses, root = {}, {}
        for index, operation in enumerate(self.operations):
            for name in operation.inputs.values():
                uses[root.get(name, name)] = index
            if operation.kind == "select":
                source = operation.inputs["source"]
                root[operation.name] = root.get(source, source)
        return uses | {view: uses[source] for view, source in root.items()}

    def layer(self, name, op, binary=False, macs=0) -> int:
        """Number of a row of the table of layers."""
        self.layers.setdefault(name, Layer(name, op, binary, macs))
        return list(self.layers).index(name)

    def region(self, name, memory, words, layer) -> Address:
        """A new region of a memory."""
        self.regions[name] = Region(name, memory, words, layer)
        return Address(name)

    def segment(self, name, memory, words, layer) -> Address:
        """Constant words; equal ones are kept once if they are shared."""
        if self.share:
            name = self._same_words.setdefault((memory, words), name)
        segment = self.segments.setdefault(name, Segment(name, memory, words, layer))
        assert segment.words == words, f"two segments are called {name}"
        return Address(name)

    def emit(self, opcode, layer, observe=None, **fields):
        """Append an instruction; fields that are not given are 0."""
        assert fields.keys() <= FORMATS[opcode].keys(), (opcode, fields)
        given = {name: getattr(value, "value", value) for name, value in fields.items()}
        fields = dict.fromkeys(FORMATS[opcode], 0) | given
        self.instructions.append(Instruction(opcode, fields, layer, observe))
