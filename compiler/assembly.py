"""A program as text that a person can follow."""

from bivit.compiler.structures import Program
from bivit.hw.isa import (
    CONTROL,
    FORMATS,
    LEVELS,
    UNIT_OF,
    WAIT_FIELDS,
    AddSource,
    ASource,
    BSource,
    ConstantMemory,
    Destination,
    MoveSource,
    NumberSource,
    Opcode,
    RowKind,
    RowOperation,
    SoftmaxMode,
    register_of,
)

__all__ = ["disassemble"]

_ENUMS = {"a_src": ASource, "b_src": BSource, "dst": Destination, "add_src": AddSource,
          "add2_src": AddSource, "mode": SoftmaxMode, "operation": RowOperation, "kind": RowKind,
          "src": NumberSource}
_CHOICES = {"a_addr": "a_src", "b_addr": "b_src", "add_addr": "add_src", "add2_addr": "add2_src",
            "bits_addr": "dst", "src_addr": "src"}
"""Addresses whose memory another field chooses."""
_MEMORY = {
    (Opcode.LOAD, "dst_addr"): "IMEM", (Opcode.SOFTMAX, "dst_addr"): "PMEM",
    (Opcode.MM_BITS, "param_addr"): "THR", (Opcode.MM_ACC, "param_addr"): "SCALE",
    (Opcode.MM_ACC, "dst_addr"): "RESID", (Opcode.MM_ACC, "thr_addr"): "THR",
    (Opcode.MM_ACC, "bend_addr"): "BEND", (Opcode.MM_SCORE, "bias_addr"): "BIAS",
    **{(opcode, "pv_addr"): "PV" for opcode in (Opcode.MM_BITS, Opcode.MM_ACC)},
    **{(opcode, "param_addr"): "NORM" for opcode in (
        Opcode.NORM_BITS, Opcode.NORM_CODES, Opcode.NORM_NUMBERS, Opcode.ROWS_ADD,
        Opcode.ROWS_OUT)},
    **{(opcode, "dst_addr"): "XMEM" for opcode in (Opcode.NORM_BITS, Opcode.NORM_CODES)},
    (Opcode.NORM_NUMBERS, "dst_addr"): "VMEM", (Opcode.STEM, "dst_addr"): "SMEM",
    (Opcode.STEM, "weight_addr"): "STEM", (Opcode.STEM, "scale_addr"): "STEM_SCALE",
}
_BMEM = {"K": "BMEM", "V": "BMEM"}
_USED = {"bits_addr": "to_bits", "thr_addr": "to_bits", "bend_addr": "bend",
         "bias_addr": "use_bias"}
"""Addresses that count only with a flag."""
_UNUSED_LEVEL = {f"{part}_{level}": f"count_{level}" for level in range(LEVELS)
                 for part in ("count", "blocks", "rows", "sums")}


def disassemble(program: Program) -> str:
    """One line for each instruction: position, opcode, fields, waits, and what it makes.

    Addresses are ``MEMORY[word]``. A wait ``mm-2`` means: the second most recent instruction sent
    to the matrix unit must be done. A comment names the layer where it changes.
    """
    arch, layer = program.arch, None
    lines = [f"; target {arch.name}: {arch.rows} x {arch.cols} x {arch.lanes}",
             f"; {len(program.words)} instructions; fields that are 0 and loops of 1 are left out",
             ""]
    lines += [f"; {memory.upper()}[{start}..{start + count - 1}]  {name}"
              for name, (memory, start, count) in program.segments.items() if count]
    for position, instruction in enumerate(program.instructions):
        if instruction.layer not in (layer, None):
            layer = instruction.layer
            lines += ["", f"; {program.layers[layer].name} ({program.layers[layer].op})"]
        fields = " ".join(_fields(instruction))
        waits = " ".join(f"wait={unit.name.lower()}-{instruction.fields[name]}"
                         for unit, name in WAIT_FIELDS.items() if instruction.fields.get(name))
        text = f"{position:5} {instruction.opcode.name:12} {waits} {fields}".rstrip()
        lines.append("  ".join(text.split("  ")) + _comment(instruction))
    return "\n".join(lines) + "\n"


def _fields(instruction):
    """Named fields; a memory and its address are one."""
    opcode, values = instruction.opcode, instruction.fields
    if stage := values.get("stage"):
        yield f"stage={stage}"
    if rest := values.get("rest"):
        yield f"rest={rest}"
    if opcode in CONTROL:
        yield from _control(opcode, values)
        return
    for name in FORMATS[opcode]:
        value, register = values[name], values.get(register_of(name), 0)
        if not _is_used(opcode, name, values):
            continue
        text = f"{value}+R{register}" if register else str(value)
        if memory := _memory(opcode, name, values):
            kind = f"({memory})" if memory in _BMEM else ""
            yield f"{name.removesuffix('_addr')}{kind}={_BMEM.get(memory, memory)}[{text}]"
        elif name in _ENUMS:
            if name not in _CHOICES.values():
                yield f"{name}={_ENUMS[name](value).name}"
        elif value or register:
            yield f"{name}={text}"


def _control(opcode, values):
    """Fields of an instruction of the sequencer."""
    if opcode is Opcode.LOOP:
        yield f"count={values['count']}"
    if opcode is Opcode.SET:
        for k in range(values["used"]):
            yield f"R{values[f'reg_{k}']}={values[f'value_{k}']}"
        if values["call"]:
            yield f"call={values['target']}"
    if opcode is Opcode.END:
        if values["more"]:
            yield "more"
        for k in range(values["used"]):
            limit = values[f"limit_{k}"]
            yield ("wrapped:" if values[f"on_wrap_{k}"] else "") + (
                f"R{values[f'reg_{k}']}+={values[f'add_{k}']}") + (f"@{limit}" if limit else "")
        if values["more"]:
            yield "more"


def _is_used(opcode, name, values):
    if name == "memory":  # it stands before the address
        return False
    if name == "pv_addr":
        return (values.get("use_pv") or values.get("from_pv") or values.get("to_bits", 1)
                and values["dst"] == Destination.V.value)
    if name in _UNUSED_LEVEL:
        return values[_UNUSED_LEVEL[name]] > 1
    return values.get(_USED.get(name), 1)


def _memory(opcode, name, values):
    """Memory that an address names, or None."""
    if opcode is Opcode.FETCH:
        return {"ext_addr": "EXTERNAL",
                "const_addr": ConstantMemory(values["memory"]).name}.get(name)
    if opcode is Opcode.STORE and name == "ext_addr":
        return "EXTERNAL"
    if name == "dst_addr" and opcode is Opcode.MM_BITS:
        return Destination(values["dst"]).name
    if name == "dst_addr" and opcode is Opcode.ROWS_OUT:
        return "VMEM" if values["kind"] == RowKind.NUMBERS.value else "XMEM"
    if name == "dst_addr" and opcode is Opcode.MOVE:
        return "KMEM" if values["to_keys"] else "XMEM"
    if name in _CHOICES:
        choice = _CHOICES[name]
        kind = MoveSource if opcode is Opcode.MOVE else _ENUMS[choice]
        memory = kind(values[choice]).name
        return None if memory == "NONE" else memory
    return _MEMORY.get((opcode, name))


def _comment(instruction):
    if instruction.opcode is Opcode.LOAD:
        return "  ; pixels"
    found = [_place(observe) for observe in (instruction.observe, instruction.observe_bits)
             if observe]
    return f"  ; {', '.join(found)}" if found and instruction.opcode in UNIT_OF else ""


def _place(observe):
    head = "" if observe.head is None else f" head {observe.head}"
    (r0, r1), (c0, c1) = observe.rows, observe.cols
    return f"{observe.name}{head}[{r0}:{r1}, {c0}:{c1}]"
