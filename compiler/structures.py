"""What the passes hand to each other, and the program that comes out; all of it frozen."""

import dataclasses
from collections.abc import Iterator

from bivit.compiler.ir.errors import UserError
from bivit.compiler.ir.graph import Graph
from bivit.hw.arch import Arch
from bivit.hw.isa import ASource, Opcode

__all__ = ["Address", "CompileError", "Form", "Instruction", "Layer", "Observe", "Operation",
           "Plan", "Program", "Region", "Rows", "Segment", "Stored"]


class CompileError(UserError):
    """A network that a target cannot run: the layer, the reason, and what to change."""


@dataclasses.dataclass(frozen=True)
class Rows:
    """Where tokens lie in blocks: token i is row ``(offset + i) % R``; `offset` is below R."""

    tokens: int
    offset: int = 0

    def blocks(self, rows: int) -> Iterator[tuple[int, int, int, int, int]]:
        """Index, first row, row behind the last, first token, token behind the last, per block."""
        for block in range(-(-(self.offset + self.tokens) // rows)):
            low = max(self.offset - block * rows, 0)
            high = min(self.offset + self.tokens - block * rows, rows)
            first = block * rows + low - self.offset
            yield block, low, high, first, first + high - low


@dataclasses.dataclass(frozen=True)
class Form:
    """One way in which the bits of a value are stored.

    Parameters
    ----------
    kind : {"rows", "keys", "values"}
        Operand A; keys and values on the column side.
    chunks : tuple of (first channel, count)
        What each chunk position holds, ``(0, 0)`` for nothing.
    heads : int
        Heads that `chunks` is divided into (keys).
    """

    kind: str
    chunks: tuple[tuple[int, int], ...]
    heads: int = 1


@dataclasses.dataclass(frozen=True)
class Operation:
    """One fused operation: what one kind of instruction does, for all tokens.

    Parameters
    ----------
    kind : {"load", "bits", "attention", "accumulate", "norm", "output"}
    name : str
        The value that it makes.
    nodes : dict of role to node name
        The graph's nodes in it.
    inputs : dict of role to value name
    forms : tuple of Form
        How the bits are stored (bits and attention).
    """

    kind: str
    name: str
    nodes: dict[str, str]
    inputs: dict[str, str]
    forms: tuple[Form, ...] = ()


@dataclasses.dataclass(frozen=True)
class Address:
    """A word of a region whose place is not known yet."""

    region: str
    offset: int = 0


@dataclasses.dataclass(frozen=True)
class Stored:
    """Where a value lies: block i is `block_words` words from ``base + i * block_words`` on.

    Parameters
    ----------
    base : Address
    rows : Rows
    block_words : int
    source : ASource, optional
        The memory, for an operand A; numbers lie in RESID.
    k_words : int
        Words along K (one plane).
    positions : sequence of int
        Place of every channel along K.
    """

    base: Address
    rows: Rows
    block_words: int
    source: ASource | None = None
    k_words: int = 0
    positions: object = None

    def at(self, block: int, offset: int = 0) -> Address:
        """Address of a word of a block."""
        return Address(self.base.region, self.base.offset + block * self.block_words + offset)


@dataclasses.dataclass(frozen=True)
class Region:
    """Words of a memory that a value needs; `layer` is for messages."""

    name: str
    memory: str
    words: int
    layer: str


@dataclasses.dataclass(frozen=True)
class Segment:
    """Consecutive words of a constant memory."""

    name: str
    memory: str
    words: tuple[int, ...]
    layer: str


@dataclasses.dataclass(frozen=True)
class Layer:
    """A row of the manifest's table of layers; `macs` are the useful ones."""

    name: str
    op: str
    binary: bool
    macs: int


@dataclasses.dataclass(frozen=True)
class Observe:
    """The rectangle of an observed tensor that an instruction makes.

    Row r0 of the tensor is row `row` of the block; `cols` follow each other from column 0 of the
    first tile on.
    """

    name: str
    head: int | None
    rows: tuple[int, int]
    cols: tuple[int, int]
    row: int = 0


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction; a field is an integer, or an :class:`Address` before placement."""

    opcode: Opcode
    fields: dict[str, "int | Address"]
    layer: int
    observe: Observe | None = None


@dataclasses.dataclass(frozen=True)
class Plan:
    """A network as instructions in their canonical order, correct one after another."""

    instructions: tuple[Instruction, ...]
    regions: tuple[Region, ...]
    segments: tuple[Segment, ...]
    layers: tuple[Layer, ...]


@dataclasses.dataclass(frozen=True)
class Program:
    """What the machine is given, and what is known about it.

    Parameters
    ----------
    words : list of int
        Encoded instructions, HALT last.
    constants : dict of str to list of int
        Words of the constant memories besides the program's, from address 0 on.
    instructions : tuple of Instruction
        The same as `words`, waits included.
    observations : list of dict
        ``name``, ``kind`` and ``shape`` of every value that can be looked at.
    """

    arch: Arch
    graph: Graph
    words: list[int]
    constants: dict[str, list[int]]
    instructions: tuple[Instruction, ...]
    layers: tuple[Layer, ...]
    observations: list[dict]
    segments: dict[str, tuple[str, int, int]] = dataclasses.field(default_factory=dict)
    """Name of each piece of the constants: memory, first word, words."""

