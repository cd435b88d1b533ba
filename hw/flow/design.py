"""What is synthesised: Verilog, files of its memories, and pins around an accelerator."""

import dataclasses
import pathlib
import random

from amaranth.hdl import Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from bivit.hw.accelerator import Accelerator, accelerator_verilog
from bivit.hw.arch import Arch
from bivit.hw.emit import emit
from bivit.hw.memories import MemorySize, constant_memories

__all__ = ["CORE", "Design", "accelerator_design", "component_design"]

CORE = "accelerator"
"""Module, and instance behind pins, whose cells are counted."""

LONGEST_CHAIN = 512
"""Stages of a shift register behind one pin."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Design:
    """A design, without the contents of its memories.

    Memories of constants are filled with noise that depends on their name: what synthesis makes of
    a target must not depend on a network, and a bit that is the same in all words would be taken
    out of the memory.

    Parameters
    ----------
    name : str
        Of the target, for people.
    verilog : str
        With the module ``accelerator``.
    inputs, outputs : tuple of (str, int)
        Ports of that module besides ``clk`` and ``rst``, and their widths.
    memories : tuple of (str, MemorySize)
        File of each memory of constants, and its size.
    """

    name: str
    verilog: str
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]
    memories: tuple[tuple[str, MemorySize], ...] = ()

    def write(self, folder: pathlib.Path) -> None:
        """Write ``design.v``, ``pins.v`` and the memories' files."""
        (folder / "design.v").write_text(self.verilog)
        (folder / "pins.v").write_text(self._pins())
        for file, size in self.memories:
            noise = random.Random(file)
            path = folder / file
            path.parent.mkdir(exist_ok=True)
            path.write_text("".join(f"{noise.getrandbits(size.width):x}\n"
                                    for _ in range(size.depth)))

    def _pins(self):
        """A top with few pins: ports of the core are the stages of shift registers."""
        taken, given = (sum(width for _, width in ports) for ports in (self.inputs, self.outputs))
        into, out_of = _chains(taken), _chains(given)
        lines = [
            "module pins(input clk, input rst, input shift",
            *(f"  , input d{pin}" for pin in range(len(into))),
            *(f"  , output q{pin}" for pin in range(len(out_of))), ");",
            f"  reg [{taken - 1}:0] in;",
            f"  reg [{given - 1}:0] out;",
            f"  wire [{given - 1}:0] result;",
            "  always @(posedge clk) begin",
        ]
        for pin, (low, high) in enumerate(into):
            lines.append(f"    if (shift) in[{high}:{low}] <= {{in[{high}:{low}], d{pin}}};")
        for low, high in out_of:
            part = f"[{high}:{low}]"
            lines.append(f"    out{part} <= shift ? out{part} << 1 : result{part};")
        lines.append("  end")
        for pin, (_, high) in enumerate(out_of):
            lines.append(f"  assign q{pin} = out[{high}];")
        lines.append(f"  {CORE} {CORE} (.clk(clk), .rst(rst)")
        for ports, vector in ((self.inputs, "in"), (self.outputs, "result")):
            first = 0
            for name, width in ports:
                lines.append(f"    , .\\{name} ({vector}[{first + width - 1}:{first}])")
                first += width
        return "\n".join([*lines, "  );", "endmodule", ""])


def _chains(length: int) -> list[tuple[int, int]]:
    """First and last stages of shift registers; Yosys follows long ones recursively."""
    return [(low, min(low + LONGEST_CHAIN, length) - 1)
            for low in range(0, length, LONGEST_CHAIN)]


def accelerator_design(arch: Arch, verilog: str | None = None) -> Design:
    """The accelerator of a target; `verilog` is its text, where it is at hand."""
    constants = constant_memories(arch) if arch.weights == "rom" else {}
    return component_design(
        Accelerator(arch), arch.name, verilog or accelerator_verilog(arch),
        tuple((f"rom/{name}.hex", size) for name, size in constants.items()))


def component_design(component: wiring.Component, name: str, verilog: str | None = None,
                     memories=()) -> Design:
    """Any component as a design; `verilog` has it as the module ``accelerator``."""
    inputs, outputs = _ports(component)
    component._MustUse__used = True  # only its ports are, where there is a text
    return Design(name=name, verilog=verilog or emit(component, CORE), inputs=inputs,
                  outputs=outputs, memories=memories)


def _ports(component: wiring.Component):
    """Inputs and outputs with their widths."""
    found = [("__".join(map(str, path)), len(Value.cast(value)), member.flow)
             for path, member, value in component.signature.flatten(component)]
    return tuple(tuple((name, width) for name, width, flow in found if (flow is In) is inputs)
                 for inputs in (True, False))
