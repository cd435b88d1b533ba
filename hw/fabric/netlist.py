"""Netlists of a dot-product unit: what is added when, and the Verilog of cells that add it."""

import collections
import dataclasses

__all__ = ["Delay", "Netlist", "Sum", "Unit", "concatenation"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sum:
    """A number: the sum of other numbers and of the mismatches of some lanes."""

    name: str
    width: int
    terms: tuple[str, ...] = ()
    lanes: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Delay:
    """A number a cycle later."""

    name: str
    width: int
    source: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unit:
    """What a dot-product unit adds, in order.

    Parameters
    ----------
    lanes, stages, count_bits : int
        As for :class:`bivit.hw.blocks.element.Element`.
    steps : tuple of Sum and Delay
    total : Sum
        The last sum, to which the accumulator is added.
    late : tuple of int
        For each lane, by how many cycles its operands come later than those of lanes with 0.
    """

    lanes: int
    stages: int
    count_bits: int
    steps: tuple[Sum | Delay, ...]
    total: Sum
    late: tuple[int, ...]


class Netlist:
    """Primitives and registers of one module; a bit is a Verilog expression.

    Attributes
    ----------
    cells : collections.Counter
        Primitives by type.
    registers : int
        Bits of registers.
    """

    def __init__(self):
        self.cells = collections.Counter()
        self.registers = 0
        self._wires = 0
        self._lines = []

    def wire(self) -> str:
        """A new bit."""
        self._wires += 1
        return f"n[{self._wires - 1}]"

    def cell(self, kind: str, parameters: dict, **ports: str | None) -> None:
        """An instance of a primitive; a port that is ``None`` stays open."""
        name = f"{kind.lower()}_{self.cells[kind]}"
        self.cells[kind] += 1
        values = ", ".join(f".{key}({value})" for key, value in parameters.items())
        pins = ", ".join(f".{key}({value})" for key, value in ports.items() if value is not None)
        self._lines.append(f"  {kind} #({values}) {name} ({pins});")

    def number(self, name: str, bits: list[str]) -> None:
        """Give some bits, lowest first, a name."""
        self._lines.append(f"  wire [{len(bits) - 1}:0] {name} = {concatenation(bits)};")

    def register(self, name: str, bits: list[str], enable: str | None = None) -> list[str]:
        """`bits` a cycle later, in a register called `name`."""
        guard = "" if enable is None else f"if ({enable}) "
        self._lines += [f"  reg [{len(bits) - 1}:0] {name};",
                        f"  always @(posedge clk) {guard}{name} <= {concatenation(bits)};"]
        self.registers += len(bits)
        return [f"{name}[{index}]" for index in range(len(bits))]

    def text(self) -> str:
        """Verilog of the body of the module."""
        wires = [f"  wire [{self._wires - 1}:0] n;"] if self._wires else []
        return "\n".join(wires + self._lines)


def concatenation(bits: list[str]) -> str:
    """Bits, lowest first, as one expression."""
    return f"{{{', '.join(reversed(bits))}}}"
