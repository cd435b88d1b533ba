"""The page docs/isa.md, made from the instruction set itself.

``python -m bivit.hw.isa_reference > docs/isa.md`` writes it; a test compares the two.
"""

import sys

from bivit.hw.blocks.checks import ErrorCode
from bivit.hw.isa import (
    FORMATS,
    HEADER,
    INDEXED,
    INSTR_BITS,
    LEVELS,
    REGISTERS,
    SETS,
    STEPS,
    UNIT_OF,
    Opcode,
    layout_of,
    register_of,
)

__all__ = ["isa_reference"]

_ACTIONS = {
    Opcode.HALT: """\
Ends a frame. In the last frame it waits until every unit has completed everything, then the machine
is done; else until all but a stem engine have, and the next frame begins at `entry`
([stem.md](stem.md)).""",
    Opcode.STEM: """\
On targets with a stem engine. Takes `tokens` tokens of `pixels` bytes p from the input stream, each
padded to whole beats, and writes, for the tokens from row `row` of the block `dst_addr` on,

    dot = sum((2 * p[j] - 255) * weight[weight_addr][channel, j] for j in range(pixels))
    SMEM = clip(rescale(dot, scale[scale_addr + channel], bias[scale_addr + channel], shift))

with 18 bits; a new block begins after the last row, and after `segment` tokens at `row` again.
[stem.md](stem.md) has the order of weights. With `next` it is skipped in the last frame.""",
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
Mismatch counts of `n_tiles` column tiles, less a bias, go to the score buffer of `slot`, and the
minimum of each row over its `keys` valid keys that are not masked is kept:

    e = (count << 5) - (bias[bias_addr + n] if use_bias else 0)

The most negative bias masks its key.""",
    Opcode.MM_ACC: """\
Mismatch counts of all pairs of bit planes, added up, rescaled, added to and bent:

    for n in range(n_tiles):
        t = sum(count[n, i, j] << (i + j) for i in range(a_planes) for j in range(b_planes))
        dot = PV[pv_addr + n] - t if from_pv else base - 2 * t
        u = rescale(dot, scale[param_addr + n], bias[param_addr + n], shift)
        u = u + (RESID, POS, VMEM or SMEM)[add_addr + (n + add_phase) % add_tiles * D]
        v = bend(saturate(u, 16), BEND[bend_addr + n], bend_shift) if bend else u
        y = saturate(v + (RESID, POS or VMEM)[add2_addr + n * D], sat)
        RESID[dst_addr + n * D] = y
        bit = (y >= thr[thr_addr + n]) ^ flip

SMEM goes with a product of scale 0. D is the number of drain cycles of the target, so a tile takes
D words. Only rows
`row_lo <= r < row_hi` are written. With `to_bits`, the bits of rows below `row_hi` go where those
of MM_BITS go, from word `bits_addr` on.""",
    Opcode.SOFTMAX: """\
Attention bits of the first `keys` keys of `slot`, zero for masked ones and for the others of its
`n_tiles` score tiles, to PMEM from word `dst_addr` on:

    RELATIVE: bit = e <= minimum + delta
    LIMIT:    bit = e <= delta
    ABSOLUTE: x = exponential(e - minimum, multiplier)
              bit = ((x << 20) >= threshold * sum(x)) ^ flip

`exponential` is that of `compiler/ir/numeric.py`.""",
    Opcode.NORM_BITS: """\
LayerNorm and sign of `groups` row groups: `normalise_to_bits` of `compiler/ir/numeric.py` over
`channels` channels to XMEM.""",
    Opcode.NORM_CODES: """\
LayerNorm to 8-bit codes: `normalise_to_codes` of `compiler/ir/numeric.py`; plane p goes to the
XMEM words from `dst_addr + p * k_words` on.""",
    Opcode.NORM_NUMBERS: """\
LayerNorm to numbers: `normalise_to_numbers` of `compiler/ir/numeric.py`, to the VMEM words
`dst_addr + n * D + g`.""",
    Opcode.ROWS_ADD: """\
Takes rows of numbers into sums. Step c of all four loops together reads one row:

    row, block = src_row + sum(c[l] * rows_l), sum(c[l] * blocks_l); row carries into the block
    s = sum_row + sum(c[l] * sums_l)
    for n in range(n_tiles):
        x = number[src_addr + block * src_stride + n * D, row]
        product = (gelu(x) if gelu else x) * scale[param_addr + n]
        sum = row s % G of sums[s // G * sum_tiles + n]
        sum = product, sum + product or max(sum, product)

With `first` a sum is started where every loop with `sums_l = 0` is at its step 0. FOLD adds the sum
of the products of a word to one column; `bias` of the parameter word of step n holds that column
(bits 7:0), whether the step goes on to the next source tile (bit 8) and to the next word of sums
(bit 9) before it; with bit 10, sums of four products each go to the C / 4 columns that it is one
of. A word has G rows; where loop 0 goes on by one row, one sum row or both, up to G rows take a
cycle.""",
    Opcode.ROWS_OUT: """\
Makes rows of `count` sum rows of `sum_tiles` words:

    v = row s % G of sums[s // G * sum_tiles + n] + (bias[param_addr + n] << (shift - 8))
    NUMBERS: saturate(round_shift(v, shift), sat), to VMEM
    CODES:   clip(round_shift(v, shift), 0, 255), to XMEM, plane p in the words from p * k_words on
    BITS:    (v >= 0) ^ (bit 0 of the scale), to XMEM

Here `shift` is the number of bits. Rows follow each other from row `dst_row` of the block at
`dst_addr` on, and go on in row 0 of the next block, `dst_stride` words on, at the end of a block or
of a segment.""",
    Opcode.MOVE: """\
Copies rows of `words` words of bits, walked through as by ROWS_ADD, to rows of XMEM that follow
each other as those of ROWS_OUT, or to columns of KMEM.""",
    Opcode.OUTPUT: """\
`count` numbers of row `row` to the output stream, sign-extended to 32 bits, tlast on the last.""",
    Opcode.LOOP: """\
The instructions behind it, up to END, run `count` times; one is taken in iterations
`stage <= i < count - rest`.""",
    Opcode.END: """\
Ends an iteration. For each k below `used`:

    taken = wrapped or not on_wrap_k              # wrapped is false at first
    if taken:
        R[reg_k] = (R[reg_k] + add_k) % 2**24
    if limit_k != 0:
        wrapped = taken and R[reg_k] == limit_k
        if wrapped:
            R[reg_k] = 0

Then the body runs again, or what follows; with `more`, the next instruction.""",
    Opcode.SET: """\
`R[reg_k] = value_k` for each k below `used`. With `call`, `target` comes next, until RETURN.""",
    Opcode.RETURN: "The instruction behind the SET that called comes next.",
}

_ACTIONS[Opcode.FETCH] = """\
Writes `words` words of a constant memory from word `const_addr` on, from external memory. A
word takes whole beats of the port, lowest bits first; `ext_addr` is the first of them, counted from
the address in MEMORY_BASE. Only on `streamed` targets; see [memory.md](memory.md)."""

_ACTIONS[Opcode.STORE] = """\
Writes `words` words of RESID or VMEM from word `src_addr` on to external memory, where FETCH finds
them as words of POS: each takes whole beats of the port, lowest bits first; `ext_addr` is the first
of them. Only on `streamed` targets; see [memory.md](memory.md)."""

_FIELDS = {
    "memory": "constant memory that is written", "const_addr": "its first word",
    "ext_addr": "first beat in external memory",
    "opcode": "operation",
    "a_addr": "first word of operand A", "b_addr": "first word of operand B",
    "a_src": "memory of operand A", "b_src": "memory of operand B",
    "n_tiles": "column tiles, or steps of FOLD",
    "k_words": "words of K in a tile, or from plane to plane",
    "param_addr": "parameter word of tile 0; one more for each tile",
    "dst": "where the bits go",
    "dst_addr": "first word of the result", "dst_stride": "words from tile to tile (V), or from "
    "block to block",
    "dst_pos": "HMEM, K: chunk of tile 0 in its word; V: token block in its word",
    "dst_col": "K: token block in its group of columns", "rows": "V: valid rows of the block",
    "use_pv": "add PV to the threshold", "pv_first": "V: start the count of ones, do not add to it",
    "pv_addr": "PV word of tile 0", "slot": "slot of the score buffer", "keys": "valid keys",
    "use_bias": "take the bias of the scores from BIAS", "bias_addr": "BIAS word of tile 0",
    "a_planes": "bit planes of A", "b_planes": "bit planes of B",
    "add_src": "first addend", "add_addr": "its first word",
    "add_tiles": "tiles after which it starts again; 0: never",
    "add_phase": "tiles of it before tile 0, fewer than `add_tiles`",
    "add2_src": "second addend", "add2_addr": "its first word",
    "row_lo": "first row that is written", "row_hi": "first row after those",
    "base": "K * (2**a_planes - 1) * (2**b_planes - 1)", "from_pv": "start from PV",
    "shift": "index into the rescale shifts",
    "sat": "bits to saturate to",
    "bend": "bend the sum", "bend_addr": "BEND word of tile 0",
    "bend_shift": "index into the rescale shifts",
    "to_bits": "make bits as well", "thr_addr": "THR word of tile 0",
    "bits_addr": "first word of the bits",
    "mode": "what a score is compared with",
    "delta": "distance from the minimum, or the limit (signed)",
    "multiplier": "of the distance in the exponential", "threshold": "share of the sum, 20 "
    "fractional bits", "flip": "invert the bits",
    "src": "memory that is read", "src_addr": "first word of the first block",
    "src_row": "row of the first block", "src_stride": "words from block to block",
    "channels": "channels of the mean and the variance, or of the result",
    "span": "columns from the first channel to the one behind the last",
    "groups": "row groups", "eps": "added under the square root", "row": "row of the block",
    "tokens": "tokens", "pixels": "bytes of a token", "last": "tlast comes on the final beat",
    "count": "numbers, or rows", "sum_row": "sum row of the first row",
    "sum_tiles": "words of a sum row",
    "operation": "what becomes of the products", "gelu": "take GELU of the numbers first",
    "first": "start the sums", "kind": "what becomes of the sums",
    "dst_row": "row of the first block",
    "segment": "rows (tokens) until a new block starts; 0: all",
    "segment_left": "the same for the first row; 0 with `segment` 0",
    "stage": "iterations of the innermost loop before the first in which it is taken",
    "rest": "iterations behind the last one", "used": "steps", "call": "go to `target`",
    "target": "program counter of the subroutine",
    "entry": "program counter of the first instruction of a frame that follows another",
    "weight_addr": "STEM word of the first channels", "scale_addr": "STEM_SCALE word of channel 0",
    "next": "it belongs to the following image", "more": "another END follows",
    "to_keys": "to columns of KMEM, else to rows of XMEM", "words": "words of a row",
}
_FIELDS |= {f"{name}_{level}": text.format(level) for level in range(LEVELS) for name, text in (
    ("count", "steps of loop {}, of which 0 is the innermost"),
    ("blocks", "blocks from step to step of loop {}"),
    ("rows", "rows from step to step of loop {}"),
    ("sums", "sum rows from step to step of loop {}"))}
_FIELDS |= {f"{name}_{index}": text for name, text, count in (
    ("reg", "a register", max(STEPS, SETS)),
    ("add", "what is added to it", STEPS),
    ("limit", "what becomes 0; 0: nothing", STEPS),
    ("on_wrap", "only if the limit before it was met", STEPS),
    ("value", "what it becomes", SETS)) for index in range(count)}
_FIELDS |= {name: f"distance to an earlier instruction of unit {name[5:].upper()}"
            for name in HEADER if name.startswith("wait_")}

_INTRODUCTION = f"""\
# Instructions

This page is made by `hw/isa_reference.py` from `hw/isa.py`; memories and layouts are in
[architecture.md](architecture.md).

An instruction has {INSTR_BITS} bits: the header, the fields of its opcode, and zeros. A program
ends with HALT; [loops.md](loops.md) says how LOOP, END, SET and RETURN work. `wait_mm = d` waits
for the d-th most recent instruction that was sent to unit MM before this one; 0, and more than were
sent, waits for nothing.
To a field with a `register` (the bits with the number of one of {REGISTERS}, the first always 0)
its value is added, modulo 2 to the width of the field.
"""


def _bits(field):
    last = field.offset + field.width - 1
    return str(last) if field.width == 1 else f"{last}:{field.offset}"


def _table(names, layout, indexed=()):
    lines = ["| bits | field | register | |", "|---|---|---|---|"]
    for name in names:
        register = _bits(layout[register_of(name)]) if name in indexed else ""
        text = _FIELDS[name]
        if isinstance(names[name], type) and names[name] is not Opcode:
            text += ": " + ", ".join(f"{choice.value} {choice.name}" for choice in names[name])
        lines.append(f"| {_bits(layout[name])} | `{name}` | {register} | {text} |")
    return "\n".join(lines)


def isa_reference() -> str:
    """Text of the page."""
    parts = [_INTRODUCTION, "## Header\n\n" + _table(HEADER, layout_of(Opcode.HALT)) + "\n"]
    for opcode in Opcode:
        unit = UNIT_OF[opcode].name if opcode in UNIT_OF else "the sequencer"
        part = f"## {opcode.name}\n\nOpcode {opcode.value}, {unit}. {_ACTIONS[opcode]}\n"
        if FORMATS[opcode]:
            part += "\n" + _table(FORMATS[opcode], layout_of(opcode),
                                 INDEXED.get(opcode, ())) + "\n"
        parts.append(part)
    errors = "\n".join(f"| {code.value} | {code.name} |" for code in ErrorCode)
    parts.append(f"## Errors\n\nCodes of the ERROR register.\n\n| code | |\n|---|---|\n{errors}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(isa_reference())
