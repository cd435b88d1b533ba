"""What the passes hand to each other, and the program that comes out; all of it frozen."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import NamedTuple

from bivit.compiler.ir.errors import UserError
from bivit.compiler.ir.graph import Graph
from bivit.hw.arch import Arch
from bivit.hw.isa import FORMATS, Opcode

__all__ = ["Address", "CompileError", "Form", "Instruction", "Layer", "Observe", "Operation",
           "Plan", "Program", "Region", "Rows", "Segment", "Stored", "TooSmall"]

_ADDRESSES = {opcode: tuple(name for name in fields if name.endswith("_addr"))
              for opcode, fields in FORMATS.items()}
"""Fields that an :class:`Address` may be in."""


class CompileError(UserError):
    """A network that a target cannot run: the layer, the reason, and what to change."""


class TooSmall(CompileError):
    """Parameters of the target are too small for the network; the message names the first.

    Parameters
    ----------
    needed : dict of str to int
        Field of :class:`bivit.hw.arch.Arch` to what it would have to be.
    *instead : dict of str to int
        Other fields that would do.
    """

    def __init__(self, sentence: str, needed: dict[str, int], *instead: dict[str, int]):
        super().__init__(sentence)
        self.needed, self.instead = needed, instead


@dataclasses.dataclass(frozen=True)
class Rows:
    """Where tokens lie in blocks of R rows.

    Tokens are divided into `segments` of equal length, each of which starts a new block: token i
    of a segment is row ``(offset + i) % R``; `offset` is below R.
    """

    tokens: int
    offset: int = 0
    segments: int = 1

    @property
    def length(self) -> int:
        """Tokens of a segment."""
        return self.tokens // self.segments

    def segment_blocks(self, rows: int) -> int:
        """Blocks of a segment."""
        return -(-(self.offset + self.length) // rows)

    def place(self, token: int, rows: int) -> tuple[int, int]:
        """Block and row of a token."""
        segment, inside = divmod(token, self.length)
        block, row = divmod(self.offset + inside, rows)
        return segment * self.segment_blocks(rows) + block, row

    def blocks(self, rows: int) -> Iterator[tuple[int, int, int, int, int]]:
        """Index, first row, row behind the last, first token, token behind the last, per block."""
        count, end = self.segment_blocks(rows), self.offset + self.length
        for index in range(self.segments * count):
            segment, block = divmod(index, count)
            low, high = max(self.offset - block * rows, 0), min(end - block * rows, rows)
            first = segment * self.length + block * rows + low - self.offset
            yield index, low, high, first, first + high - low


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
        Heads that `chunks` is divided into (keys, values).
    windows : int
        Equal parts of the tokens that are the keys of themselves alone (keys, values).
    zeros : tuple of int
        Zero point of each head (values), or nothing if all are 0.
    """

    kind: str
    chunks: tuple[tuple[int, int], ...]
    heads: int = 1
    windows: int = 1
    zeros: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Operation:
    """One fused operation: what one kind of instruction does, for all tokens.

    Parameters
    ----------
    kind : str
        A key of the emitters in :mod:`bivit.compiler.tile`.
    name : str
        The value that it makes; a fused sign (role ``sign``) is a second one.
    nodes : dict of role to node name
        The graph's nodes in it.
    inputs : dict of role to value name
    forms : tuple of Form
        How it stores the bits that it makes.
    """

    kind: str
    name: str
    nodes: dict[str, str]
    inputs: dict[str, str]
    forms: tuple[Form, ...] = ()


class Address(NamedTuple):
    """A word of a region whose place is not known yet."""

    region: str
    offset: int = 0

    def plus(self, words: int) -> "Address":
        """The address of a later word."""
        return Address(self.region, self.offset + words)


@dataclasses.dataclass(frozen=True)
class Stored:
    """Where a value lies: block i is `block_words` words from ``base + i * block_words`` on.

    Parameters
    ----------
    base : Address
    rows : Rows
    block_words : int
    source : ASource, BSource, NumberSource, AddSource.POS or AddSource.SMEM, optional
        The memory.
    k_words : int
        Words along K (one plane).
    positions : sequence of int
        Place of every channel along K.
    chunks : tuple of (first channel, count)
        What every tile or chunk holds, as :class:`Form` has it.
    period : int
        Tiles after which the channels start again (a view of copies), or 0.
    filled : bool
        Rows that hold no token are written as well.
    blocks : int
        Blocks after which they start again (a table that all images share), or 0.
    """

    base: Address
    rows: Rows
    block_words: int
    source: object = None
    k_words: int = 0
    positions: object = None
    chunks: tuple[tuple[int, int], ...] = ()
    period: int = 0
    filled: bool = True
    blocks: int = 0

    def at(self, block: int, offset: int = 0) -> Address:
        """Address of a word of a block."""
        block = block % self.blocks if self.blocks else block
        return self.base.plus(block * self.block_words + offset)


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

    Row r0 of the tensor is row `row` of the block (of ROWS_OUT, of the rows that it writes). `cols`
    follow each other from column 0 of the first tile on, or lie in `pieces`: column of the first
    tile on, first channel, count.
    """

    name: str
    head: int | None
    rows: tuple[int, int]
    cols: tuple[int, int]
    row: int = 0
    pieces: tuple[tuple[int, int, int], ...] | None = None


_OBSERVED = {field.name: field.default for field in dataclasses.fields(Observe)}


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction; a field is an integer, or an :class:`Address` before placement.

    `layer` is None for what belongs to several. `observe_bits` are the bits of an MM_ACC that makes
    bits as well. `operation` counts the fused operations, `iteration` what an operation does again
    and again: blocks of tokens, strips; `group` counts how often it goes through all of them.
    What has the same `part` in different iterations is alike; without one, what comes at the same
    place.
    """

    opcode: Opcode
    fields: dict[str, "int | Address"]
    layer: int | None
    observe: Observe | None = None
    observe_bits: Observe | None = None
    operation: int = 0
    iteration: int = 0
    group: int = 0
    part: object = None

    def addresses(self) -> list[tuple[str, Address]]:
        """The fields whose place is not known yet, with their names."""
        fields = self.fields
        return [(name, fields[name]) for name in _ADDRESSES[self.opcode]
                if fields[name].__class__ is Address]

    @property
    def regions(self) -> set[str]:
        """Names of what these lie in."""
        return {address.region for _, address in self.addresses()}

    def with_fields(self, fields: dict) -> "Instruction":
        """The same with other fields."""
        copy = object.__new__(Instruction)
        vars(copy).update(vars(self), fields=fields)
        return copy

    def description(self) -> dict:
        """What the manifest says of it: layer and observed results, those that there are."""
        places = {"observe": self.observe, "observe_bits": self.observe_bits}
        return {"layer": self.layer} | {
            key: {name: value for name, value in vars(place).items() if value != _OBSERVED[name]}
            for key, place in places.items() if place}


@dataclasses.dataclass(frozen=True)
class Plan:
    """A network as instructions in their canonical order, correct one after another."""

    instructions: tuple[Instruction, ...]
    regions: tuple[Region, ...]
    segments: tuple[Segment, ...]
    layers: tuple[Layer, ...]

    @functools.cached_property
    def addresses(self) -> list[list[tuple[str, Address]]]:
        """The fields of every instruction whose place is not known yet, with their names."""
        return [instruction.addresses() for instruction in self.instructions]


@dataclasses.dataclass(frozen=True)
class Program:
    """What the machine is given, and what is known about it.

    Parameters
    ----------
    words : list of int
        Encoded instructions: up to HALT, then subroutines.
    constants : dict of str to list of int
        Words of the constant memories besides the program's, from address 0 on.
    instructions : tuple of Instruction
        The same as `words`, waits included.
    executed : tuple of Instruction
        What is dispatched, in that order, as it was before it was put into loops: layers, fields
        that reach the unit, observed results.
    observations : list of dict
        ``name``, ``kind`` and ``shape`` of every value that can be looked at.
    """

    arch: Arch
    graph: Graph
    words: list[int]
    constants: dict[str, list[int]]
    instructions: tuple[Instruction, ...]
    executed: tuple[Instruction, ...]
    layers: tuple[Layer, ...]
    observations: list[dict]
    segments: dict[str, tuple[str, int, int]] = dataclasses.field(default_factory=dict)
    """Name of each piece of the constants: memory, first word, words."""
    external: bytes = b""
    """The image in external memory of a `streamed` target, whose `constants` are empty."""
    batch: int = 1
    """Images that a run takes at once; `graph` is that of one."""

