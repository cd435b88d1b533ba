"""The page docs/isa.md, made from the instruction set itself.

``python -m bivit.hw.isa_reference > docs/isa.md`` writes it; a test compares the two.
"""

import sys

from bivit.hw.blocks.checks import ErrorCode
from bivit.hw.isa import (
    FORMATS,
    HEADER,
    INSTR_BITS,
    UNIT_OF,
    ASource,
    BSource,
    Destination,
    Opcode,
    layout_of,
)

__all__ = ["isa_reference"]

_ACTIONS = {
    Opcode.HALT: "Waits until every unit has completed everything, then the machine is done.",
    Opcode.LOAD: """\
Takes `tokens` tokens of `pixels` bytes from the input stream, each padded to whole beats, and
writes their eight bit planes into rows `row`, `row + 1`, … of the IMEM words
`dst_addr + plane * k_words + word`.""",
    Opcode.MM_BITS: """\
Mismatch counts of `n_tiles` column tiles, compared to bits:

    for n in range(n_tiles):
        count = mismatches of A[a_addr + k] and B[b_addr + n * k_words + k], k in range(k_words)
        bit = (count <= thr[param_addr + n] + (PV[pv_addr + n] if use_pv else 0)) ^ flip

To HMEM or as K to BMEM: chunk `dst_pos + n` of the row, from word `dst_addr` on; as V: word
`dst_addr + n * dst_stride`, transposed, and the ones of each column are counted in
`PV[pv_addr + n]`.""",
    Opcode.MM_SCORE: """\
Mismatch counts of `n_tiles` column tiles go to the score buffer of `slot`, and the minimum of
each row over its `keys` valid keys is kept.""",
    Opcode.MM_ACC: """\
Mismatch counts of all pairs of bit planes, added up and rescaled:

    for n in range(n_tiles):
        t = sum(count[n, i, j] << (i + j) for i in range(a_planes) for j in range(b_planes))
        y = rescale(base - 2 * t, scale[param_addr + n], bias[param_addr + n], shift)
        RESID[dst_addr + n * D] = saturate(y + (RESID or POS)[add_addr + n * D], sat)

D is the number of drain cycles of the target, so a tile takes D words. Only rows
`row_lo <= r < row_hi` are written.""",
    Opcode.SOFTMAX: """\
`bit = count <= minimum + delta` for the first `keys` keys of `slot`, zero for the others of its
`n_tiles` score tiles, to PMEM from word `dst_addr` on.""",
    Opcode.NORM_BITS: """\
LayerNorm and sign of `groups` row groups: `normalise_to_bits` of `compiler/ir/numeric.py` over
`channels` channels from RESID to XMEM.""",
    Opcode.NORM_CODES: """\
LayerNorm to 8-bit codes: `normalise_to_codes` of `compiler/ir/numeric.py`; plane p goes to the
XMEM words from `dst_addr + p * k_words` on.""",
    Opcode.OUTPUT: """\
`count` numbers of row `row` to the output stream, sign-extended to 32 bits, tlast on the last.""",
}

_FIELDS = {
    "opcode": "operation",
    "a_addr": "first word of operand A", "b_addr": "first word of operand B",
    "a_src": "memory of operand A: " + ", ".join(f"{s.value} {s.name}" for s in ASource),
    "b_src": "memory of operand B: " + ", ".join(f"{s.value} {s.name}" for s in BSource),
    "n_tiles": "column tiles", "k_words": "words of K in a tile, or from plane to plane",
    "param_addr": "parameter word of tile 0; one more for each tile",
    "dst": "where the bits go: " + ", ".join(f"{d.value} {d.name}" for d in Destination),
    "dst_addr": "first word of the result", "dst_stride": "V: words from tile to tile",
    "dst_pos": "HMEM, K: chunk of tile 0 in its word; V: token block in its word",
    "dst_col": "K: token block in its group of columns", "rows": "V: valid rows of the block",
    "use_pv": "add PV to the threshold", "pv_first": "V: start the count of ones, do not add to it",
    "pv_addr": "PV word of tile 0", "slot": "slot of the score buffer", "keys": "valid keys",
    "a_planes": "bit planes of A", "b_planes": "bit planes of B",
    "add_src": "addend: 0 none, 1 RESID, 2 POS", "add_addr": "first word of the addend",
    "row_lo": "first row that is written", "row_hi": "first row after those",
    "base": "K * (2**a_planes - 1) * (2**b_planes - 1)", "shift": "index into the rescale shifts",
    "sat": "bits to saturate to", "delta": "allowed distance from the minimum",
    "src_addr": "first RESID word", "channels": "channels of the mean and the variance",
    "groups": "row groups", "eps": "added under the square root", "row": "row of the block",
    "tokens": "tokens", "pixels": "bytes of a token", "last": "tlast comes on the final beat",
    "count": "numbers",
}
_FIELDS |= {name: f"distance to an earlier instruction of unit {name[5:].upper()}"
            for name in HEADER if name.startswith("wait_")}

_INTRODUCTION = f"""\
# Instructions

This page is made by `hw/isa_reference.py` from `hw/isa.py`; memories and layouts are in
[architecture.md](architecture.md).

An instruction has {INSTR_BITS} bits: the header, the fields of its opcode, then zeros. A program is
a straight list that ends with HALT. `wait_mm = d` waits for the d-th most recent instruction that
was sent to unit MM before this one; 0 waits for nothing.
"""


def _table(names, layout):
    lines = ["| bits | field | |", "|---|---|---|"]
    for name in names:
        field = layout[name]
        last = field.offset + field.width - 1
        bits = str(last) if field.width == 1 else f"{last}:{field.offset}"
        lines.append(f"| {bits} | `{name}` | {_FIELDS[name]} |")
    return "\n".join(lines)


def isa_reference() -> str:
    """Text of the page."""
    parts = [_INTRODUCTION, "## Header\n\n" + _table(HEADER, layout_of(Opcode.HALT)) + "\n"]
    for opcode in Opcode:
        unit = UNIT_OF[opcode].name if opcode in UNIT_OF else "the sequencer"
        part = f"## {opcode.name}\n\nOpcode {opcode.value}, {unit}. {_ACTIONS[opcode]}\n"
        if FORMATS[opcode]:
            part += "\n" + _table(FORMATS[opcode], layout_of(opcode)) + "\n"
        parts.append(part)
    errors = "\n".join(f"| {code.value} | {code.name} |" for code in ErrorCode)
    parts.append(f"## Errors\n\nCodes of the ERROR register.\n\n| code | |\n|---|---|\n{errors}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(isa_reference())
