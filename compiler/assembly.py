"""A program as text that a person can follow."""

from bivit.compiler.structures import Program
from bivit.hw.isa import (
    FORMATS,
    UNIT_OF,
    WAIT_FIELDS,
    AddSource,
    ASource,
    BSource,
    Destination,
    Opcode,
)

__all__ = ["disassemble"]

_ENUMS = {"a_src": ASource, "b_src": BSource, "dst": Destination, "add_src": AddSource}
_USELESS = {"a_src": "a_addr", "b_src": "b_addr", "dst": "dst_addr", "add_src": "add_addr"}
_MEMORY = {
    (Opcode.LOAD, "dst_addr"): "IMEM", (Opcode.SOFTMAX, "dst_addr"): "PMEM",
    (Opcode.MM_BITS, "param_addr"): "THR", (Opcode.MM_ACC, "param_addr"): "SCALE",
    (Opcode.MM_ACC, "dst_addr"): "RESID", (Opcode.MM_BITS, "pv_addr"): "PV",
    **{(opcode, field): memory for opcode in (Opcode.NORM_BITS, Opcode.NORM_CODES)
       for field, memory in (("src_addr", "RESID"), ("param_addr", "NORM"), ("dst_addr", "XMEM"))},
    (Opcode.OUTPUT, "src_addr"): "RESID",
}
_BMEM = {"K": "BMEM", "V": "BMEM"}


def disassemble(program: Program) -> str:
    """One line for each instruction: position, opcode, fields, waits, and what it makes.

    Addresses are ``MEMORY[word]``. A wait ``mm-2`` means: the second most recent instruction sent
    to the matrix unit must be done. A comment names the layer where it changes.
    """
    arch, layer = program.arch, None
    lines = [f"; target {arch.name}: {arch.rows} x {arch.cols} x {arch.lanes}",
             f"; {len(program.words)} instructions; fields that are 0 are left out", ""]
    lines += [f"; {memory.upper()}[{start}..{start + count - 1}]  {name}"
              for name, (memory, start, count) in program.segments.items() if count]
    for position, instruction in enumerate(program.instructions):
        if instruction.layer != layer:
            layer = instruction.layer
            lines += ["", f"; {program.layers[layer].name} ({program.layers[layer].op})"]
        fields = " ".join(_fields(instruction))
        waits = " ".join(f"wait={unit.name.lower()}-{instruction.fields[name]}"
                         for unit, name in WAIT_FIELDS.items() if instruction.fields.get(name))
        text = f"{position:5} {instruction.opcode.name:10} {waits} {fields}".rstrip()
        lines.append("  ".join(text.split("  ")) + _comment(instruction))
    return "\n".join(lines) + "\n"


def _fields(instruction):
    """Named fields; a memory and its address are one."""
    opcode, values = instruction.opcode, instruction.fields
    memories = {address: _ENUMS[source](values[source]).name
                for source, address in _USELESS.items() if source in values}
    for name in FORMATS[opcode]:
        value = values[name]
        if name in _ENUMS:
            continue
        memory = memories.get(name) or _MEMORY.get((opcode, name))
        if memory == "NONE" or name == "pv_addr" and not (
                values.get("use_pv") or values.get("from_pv") or "V" in memories.values()):
            continue
        if memory:
            kind = f"({memory})" if memory in _BMEM else ""
            yield f"{name.removesuffix('_addr')}{kind}={_BMEM.get(memory, memory)}[{value}]"
        elif value:
            yield f"{name}={value}"


def _comment(instruction):
    observe = instruction.observe
    if not observe:
        unit = UNIT_OF.get(instruction.opcode)
        return "" if unit is None or instruction.opcode is not Opcode.LOAD else "  ; pixels"
    head = "" if observe.head is None else f" head {observe.head}"
    (r0, r1), (c0, c1) = observe.rows, observe.cols
    return f"  ; {observe.name}{head}[{r0}:{r1}, {c0}:{c1}]"
