"""Third pass: operations become instructions for blocks of tokens and runs of column tiles.

Instructions come out in canonical order: executed one after another they are right. Addresses are
words of regions and segments that have no place yet.
"""

from typing import NamedTuple

from bivit.compiler import tile_attention, tile_moves, tile_products, tile_rows, tile_vectors
from bivit.compiler.fuse import Layouts
from bivit.compiler.head_groups import HeadGroups, find_head_groups
from bivit.compiler.ir.graph import Graph
from bivit.compiler.stream_rolls import SHARE
from bivit.compiler.strips import Strips, find_strips
from bivit.compiler.structures import (
    Address,
    Instruction,
    Layer,
    Operation,
    Plan,
    Region,
    Rows,
    Segment,
)
from bivit.compiler.words import Words
from bivit.hw.arch import Arch
from bivit.hw.isa import FORMATS, ASource, BSource
from bivit.hw.memories import fetched_memories

__all__ = ["Cuts", "Tiler", "cuts_for_loops", "tile"]

_EMITTERS = {"load": tile_vectors.load, "norm": tile_vectors.norm, "view": tile_vectors.view,
             "output": tile_vectors.output, "bits": tile_products.bits,
             "attention": tile_attention.attention, "accumulate": tile_products.accumulate,
             "rows": tile_rows.rows, "move": tile_moves.gather, "keys": tile_moves.keys}

_ZEROS = {opcode: dict.fromkeys(fields, 0) for opcode, fields in FORMATS.items()}
_CHOICES = {opcode: tuple(name for name, shape in fields.items() if not isinstance(shape, int))
            for opcode, fields in FORMATS.items()}
"""Fields that may be given as members of an enumeration."""


class Cuts(NamedTuple):
    """How operations are cut, so that loops are long and their bodies short.

    Parameters
    ----------
    strips : dict of int to Strips
        Tokens of images, of some numbers, into lines that are alike.
    heads : dict of str to HeadGroups
        Attentions and their operands, by the value that is made.
    """

    strips: dict[int, Strips]
    heads: dict[str, HeadGroups]


def cuts_for_loops(graph: Graph, fused: tuple[tuple[Operation, ...], Layouts],
                   arch: Arch) -> Cuts | None:
    """The cuts of a program with loops; None if there are none."""
    nodes, types = {node.name: node for node in graph.nodes}, graph.infer()
    strips, heads = find_strips(fused[0], nodes, types, fused[1].segments, arch), {}
    if not strips:
        heads = find_head_groups(fused[0], nodes, types, arch)
    return Cuts(strips, heads) if strips or heads else None


def tile(graph: Graph, fused: tuple[tuple[Operation, ...], Layouts], arch: Arch, run_words: int, *,
         share: bool = True, fill: int | None = None, cuts: Cuts | None = None) -> Plan:
    """Cut operations into instructions.

    Parameters
    ----------
    fused : tuple
        What :func:`bivit.compiler.fuse.fuse` gives.
    run_words : int
        Word pairs after which a matrix product is cut into a further instruction.
    share : bool
        Keep equal constant words once.
    fill : int, optional
        Put this in the place of every parameter (:class:`bivit.compiler.words.Words`).
    cuts : Cuts, optional
        What :func:`cuts_for_loops` gives.
    """
    operations, layouts = fused
    cuts = cuts or Cuts({}, {})
    if cuts.strips:
        operations = _latest_last(operations)
    tiler = Tiler(graph, operations, layouts, arch, run_words, share, fill)
    tiler.strips, tiler.heads = cuts
    for index, operation in enumerate(operations):
        tiler.index, tiler.iteration, tiler.group = index, 0, 0
        _EMITTERS[operation.kind](tiler, operation)
    tiler.patches = None  # which refer to the tiler: no cycle is left to collect
    return Plan(tuple(tiler.instructions), tuple(tiler.regions.values()),
                tuple(tiler.segments.values()), tuple(tiler.layers.values()))


def _latest_last(operations):
    """The operations, those first that need nothing of the one just before."""
    given = {name for operation in operations if operation.kind == "load"
             for name in operation.inputs.values()}
    made, left, result = dict.fromkeys(given, -1), list(operations), []
    while left:
        ready = [operation for operation in left
                 if all(name in made for name in operation.inputs.values())]
        chosen = min(ready, key=lambda operation: max(
            (made[name] for name in operation.inputs.values()), default=-1))
        left.remove(chosen)
        made |= dict.fromkeys([chosen.name, *chosen.nodes.values()], len(result))
        result.append(chosen)
    return result


class Tiler:
    """What the emitters share: instructions, regions and segments so far, and where values lie.

    Attributes
    ----------
    stored : dict
        :class:`Stored` of a value by its name, or of one of its forms by (name, form).
    index, iteration : int
        Number of the operation that is being cut, and of the block or strip in it.
    group : int
        Number of the group of column tiles that all blocks are gone through for.
    part : object
        What instructions of different iterations have in common, see :class:`Instruction`.
    strips : dict of int to Strips
        How operations on tokens of some numbers are cut.
    heads : dict of str to HeadGroups
        How attentions and their operands are cut, by the value that is made.
    last_use : dict of str to int
        Number of the last operation that reads a region of numbers, by the value that made it.
    readers : dict of str to int
        Operations that read a value.
    """

    def __init__(self, graph, operations, layouts, arch, run_words, share, fill):
        self.arch, self.operations, self.layouts = arch, operations, layouts
        self.run_words, self.share = run_words, share
        self.words = Words(arch, fill)
        self.nodes = {node.name: node for node in graph.nodes}
        self.types = graph.infer()
        self.index, self.iteration, self.group, self.part = 0, 0, 0, None
        self.strips, self.heads = {}, {}
        self.instructions, self.regions, self.layers = [], {}, {}
        self.segments, self._same_words, self._layer_numbers = {}, {}, {}
        self.stored = {}
        self.last_use, self.readers = self._last_uses()
        self.patches = None

    def _last_uses(self):
        """A view keeps what it looks at alive."""
        uses, root, readers = {}, {}, {}
        for index, operation in enumerate(self.operations):
            for name in operation.inputs.values():
                uses[root.get(name, name)] = index
                readers[name] = readers.get(name, 0) + 1
            if operation.kind == "view":
                source = operation.inputs["source"]
                root[operation.name] = root.get(source, source)
        return uses | {view: uses[source] for view, source in root.items()
                       if source in uses}, readers

    @property
    def last_layer(self) -> str:
        """Name of the layer of the latest instruction."""
        return list(self.layers)[self.instructions[-1].layer]

    def layer(self, name, op, binary=False, macs=0) -> int:
        """Number of a row of the table of layers."""
        if name not in self._layer_numbers:
            self._layer_numbers[name] = len(self.layers)
            self.layers[name] = Layer(name, op, binary, macs)
        return self._layer_numbers[name]

    def layer_of(self, name) -> int:
        """The layer of a node that has no products."""
        return self.layer(name, self.nodes[name].op)

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

    def emit(self, opcode, layer, observe=None, observe_bits=None, **fields):
        """Append an instruction; fields that are not given are 0."""
        assert fields.keys() <= FORMATS[opcode].keys(), (opcode, fields)
        fields = _ZEROS[opcode] | fields
        for name in _CHOICES[opcode]:
            fields[name] = getattr(fields[name], "value", fields[name])
        self.instructions.append(Instruction(opcode, fields, layer, observe, observe_bits,
                                             self.index, self.iteration, self.group, self.part))

    def turn(self, rows: Rows, block: int) -> int:
        """The iteration in which a block is computed."""
        strips = self.strips.get(rows.tokens)
        return block // strips.blocks if strips and rows.segments == 1 else block

    def zero_product(self, tiles: int, *, bits=False) -> dict:
        """Fields of the shortest product there is, for what needs none, of up to `tiles` tiles."""
        weights = next((Address(name) for name, segment in self.segments.items()
                        if segment.memory == "weight"), None)
        if fetched_memories(self.arch):
            weights = self.segment(f"zero/weight/{tiles}", "weight", (0,) * tiles, self.last_layer)
        elif weights is None:  # else any weights will do
            weights = self.segment("zero/weight", "weight", (0,), self.last_layer)
        planes = {} if bits else {"a_planes": 1, "b_planes": 1}
        return {"a_src": ASource.IMEM, "k_words": 1, "b_src": BSource.WEIGHT, "b_addr": weights,
                "a_addr": self.patches.stored.at(0) if self.patches else 0} | planes

    def column_groups(self, cut, tile_words: int, a_planes: int = 1,
                      share: int = SHARE) -> list[tuple]:
        """Runs of tiles in groups whose weights have room in a streamed memory; else one group.

        Parameters
        ----------
        cut : callable
            Gives all runs for the most tiles that a run may have.
        tile_words : int
            Words of weights of a tile.
        a_planes : int
            How often the array goes through them.
        share : int
            Groups that the memory has room for at the same time.
        """
        longest = self.run_words // (tile_words * a_planes)
        if not fetched_memories(self.arch):
            return [tuple(cut(max(longest, 1)))]
        room, groups, words = self.arch.weight_depth // share, [], 0
        for run in cut(max(min(longest, room // tile_words), 1)):
            size = len(run.tiles) * tile_words
            if not groups or words + size > room:
                groups.append(())
                words = 0
            groups[-1] += (run,)
            words += size
        return groups
