"""Random legal programs and constants, for tests of synchronisation, timing and results."""

import dataclasses

from bivit.compiler.ir.numeric import MASKING_BIAS, SCORE_BIAS_BITS
from bivit.hw.blocks.checks import opcodes_of
from bivit.hw.encoding import decode, encode, layout_of
from bivit.hw.isa import (
    INSTR_BITS,
    LEVELS,
    UNIT_OF,
    WAIT_FIELDS,
    AddSource,
    ASource,
    BSource,
    Destination,
    MoveSource,
    NumberSource,
    Opcode,
    RowKind,
    RowOperation,
    SoftmaxMode,
    Unit,
)
from bivit.hw.memories import constant_memories, threshold_bits

__all__ = ["WAIT_BITS", "input_stream", "random_constants", "random_fields", "random_program",
           "random_waits", "roomy", "unit_opcodes", "write_files"]

WAIT_BITS = sum(255 << layout_of(Opcode.HALT)[name].offset for name in WAIT_FIELDS.values())
"""The waits of the header."""
CONSTANT_WORDS = 64
"""Words of each constant memory that are not zero."""
REGION = 192
"""Words between two places of a memory, of which an instruction reads one and writes the other."""

LEAST_DEPTHS = {"kmem_depth": 256, "pv_depth": 256, "sums_depth": 128, "score_tiles": 64} | {
    f"{name}_depth": 512 for name in ("program", "weight", "thr", "scale", "norm", "pos", "bend",
                                      "bias", "imem", "xmem", "hmem", "pmem", "bmem", "resid",
                                      "vmem")}
"""Memories that hold the addresses that random programs name."""


def roomy(arch):
    """The target with memories that are not too small for random programs."""
    return dataclasses.replace(arch, **{
        name: max(getattr(arch, name), least) for name, least in LEAST_DEPTHS.items()})


def unit_opcodes(arch):
    """The instructions of the units of a target."""
    return [opcode for opcode in opcodes_of(arch) if opcode in UNIT_OF]


def random_program(rng, arch, *, length, ordered=False):
    """`length` instructions of every kind, then HALT.

    Parameters
    ----------
    rng : random.Random
    arch : Arch
    length : int
    ordered : bool
        Every instruction waits for all before it, so that results do not depend on time; else
        waits are random.
    """
    kinds = unit_opcodes(arch)
    opcodes = []
    while len(opcodes) < length:
        # Bursts of one kind, so that queues fill up and instructions follow each other.
        opcodes += [rng.choice(kinds)] * rng.choice((1, 1, 3, 20))
    opcodes, slots = opcodes[:length], {}
    loads = [position for position, opcode in enumerate(opcodes) if UNIT_OF[opcode] is Unit.LOAD]
    program = []
    for position, opcode in enumerate(opcodes):
        if opcode is Opcode.SOFTMAX and not slots:
            opcode = Opcode.MM_SCORE
        fields = random_fields(rng, arch, opcode, slots)
        if position in loads:
            fields["last"] = int(position == loads[-1])
        program.append(encode(opcode, **fields, **random_waits(rng, ordered)))
    return [*program, encode(Opcode.HALT)]


def input_stream(rng, program):
    """Random bytes of the input stream: what LOAD and STEM outside of loops take."""
    instructions = [decode(word) for word in program]
    return rng.randbytes(sum(4 * fields["tokens"] * -(-fields["pixels"] // 4)
                             for opcode, fields in instructions
                             if UNIT_OF.get(opcode) is Unit.LOAD))


def random_constants(rng, arch):
    """Words of every constant memory but the program, from address 0 on, with lively values."""
    elements = {"thr": _threshold, "scale": _scale, "norm": _norm, "bend": _bend,
                "bias": _score_bias, "stem_scale": _scale}
    counts = {"bias": arch.rows * arch.cols, "stem_scale": 1}
    counts |= dict.fromkeys(("thr", "scale", "norm", "bend"), arch.cols)
    words = {}
    for name, size in constant_memories(arch).items():
        if name in elements:
            width = size.width // counts[name]
            words[name] = [sum(elements[name](rng, arch) << width * index
                               for index in range(counts[name]))
                           for _ in range(min(CONSTANT_WORDS, size.depth))]
        elif name != "program":
            words[name] = [rng.getrandbits(size.width)
                           for _ in range(min(5 * CONSTANT_WORDS, size.depth))]
    return words


def write_files(folder, program, constants):
    """Write what the simulator of the RTL takes from a build folder."""
    (folder / "rom").mkdir(parents=True)
    (folder / "program.bin").write_bytes(
        b"".join(word.to_bytes(INSTR_BITS // 8, "little") for word in program))
    for name, words in constants.items():
        (folder / "rom" / f"{name}.hex").write_text("".join(f"{word:x}\n" for word in words))


def _number(rng, bits):
    """A signed number of any magnitude, as unsigned bits."""
    return rng.randrange(-(1 << bits - 1), 1 << bits - 1) >> rng.randrange(bits - 1) & (
        1 << bits) - 1


def _threshold(rng, arch):
    bits = threshold_bits(arch)
    value = rng.randrange(arch.lanes) if rng.getrandbits(1) else _number(rng, bits)
    return value | rng.getrandbits(1) << bits


def _scale(rng, arch):
    return _number(rng, 16) | _number(rng, 24) << 16


def _norm(rng, arch):
    """Also a step of FOLD: its column is there."""
    bias = rng.choice((0, _number(rng, 24) & ~255 | rng.randrange(arch.cols)))
    return _number(rng, 16) | bias << 16


def _bend(rng, arch):
    return _number(rng, 16) | _scale(rng, arch) << 16 | _scale(rng, arch) << 56


def _score_bias(rng, arch):
    value = MASKING_BIAS if rng.random() < 0.2 else rng.randrange(-600, 600)
    return value & (1 << SCORE_BIAS_BITS) - 1


def random_waits(rng, ordered):
    """Waits of an instruction: for the latest of every unit, or random ones."""
    waits = dict.fromkeys(WAIT_FIELDS.values(), 1)
    return waits if ordered else {name: rng.randint(1, rng.choice((1, 4, 255))) for name in waits
                                  if rng.random() < 0.3}


def random_fields(rng, arch, opcode, slots):
    """Fields of an instruction; `slots` has tiles and keys of the scores of each slot."""
    read, written = rng.sample((0, REGION), 2)
    match opcode:
        case Opcode.LOAD:
            row, pixels = rng.randrange(arch.rows), rng.randint(1, 2 * arch.lanes)
            return {"dst_addr": read + rng.randrange(64), "row": row,
                    "tokens": rng.randint(1, arch.rows - row), "pixels": pixels,
                    "k_words": -(-pixels // arch.lanes)}
        case Opcode.STEM:
            channels = rng.randint(1, 3 * arch.cols)
            return {"dst_addr": read + rng.randrange(64), "row": rng.randrange(arch.rows),
                    "dst_stride": -(-channels // arch.cols) * arch.drain_cycles + rng.randrange(2),
                    "segment": rng.choice((0, rng.randint(1, 5))),
                    "tokens": rng.randint(1, 2 * arch.rows), "channels": channels,
                    "pixels": rng.randint(1, min(2 * arch.lanes, arch.stem_pixels)),
                    "weight_addr": rng.randrange(64), "scale_addr": rng.randrange(CONSTANT_WORDS),
                    "shift": rng.randrange(4)}
        case Opcode.MM_BITS:
            return (_matmul(rng, read) | _bits_out(rng, arch) | {
                "param_addr": rng.randrange(CONSTANT_WORDS),
                "dst_addr": written + rng.randrange(64),
                "rows": rng.randint(1, arch.rows), "use_pv": rng.getrandbits(1)})
        case Opcode.MM_SCORE:
            matmul, keys = _matmul(rng, read), rng.randint(1, 4 * arch.keys_per_group)
            slot = rng.randrange(arch.score_slots)
            slots[slot] = {"n_tiles": matmul["n_tiles"], "keys": keys}
            return matmul | {"slot": slot, "keys": keys,
                             "use_bias": rng.randint(0, arch.score_biases),
                             "bias_addr": rng.randrange(CONSTANT_WORDS)}
        case Opcode.MM_ACC:
            return _accumulate(rng, arch, read, written)
        case Opcode.SOFTMAX:
            slot = rng.choice(list(slots))
            mode = rng.choice(list(SoftmaxMode))
            near = rng.randrange(-999, 4000) if mode is SoftmaxMode.LIMIT else rng.randrange(999)
            delta = rng.choice((near, near, rng.getrandbits(24)))
            return slots[slot] | {
                "slot": slot, "dst_addr": rng.randrange(64), "mode": mode,
                "delta": delta & (1 << 24) - 1, "multiplier": rng.getrandbits(rng.randint(1, 16)),
                "threshold": rng.getrandbits(rng.randint(1, 21)), "flip": rng.getrandbits(1)}
        case Opcode.NORM_BITS | Opcode.NORM_CODES | Opcode.NORM_NUMBERS:
            return _normalise(rng, arch, opcode, read, written)
        case Opcode.ROWS_ADD:
            return _add_rows(rng, arch, read)
        case Opcode.ROWS_OUT:
            kind, tiles, words = rng.choice(list(RowKind)), rng.randint(1, 3), rng.randint(1, 2)
            extent = {RowKind.NUMBERS: tiles * arch.drain_cycles, RowKind.CODES: 8 * words,
                      RowKind.BITS: words}[kind]
            return _row_destination(rng, arch.rows, written, extent) | {
                "kind": kind, "count": rng.randint(1, 6), "sum_row": rng.randrange(8),
                "sum_tiles": min(tiles, words * arch.chunks_per_word), "k_words": words,
                "param_addr": rng.randrange(CONSTANT_WORDS), "shift": rng.randrange(4),
                "sat": rng.randint(2, arch.resid_bits)}
        case Opcode.MOVE:
            words, to_keys = rng.randint(1, 2), rng.getrandbits(1)
            limit = arch.keys_per_group if to_keys else arch.rows
            target = rng.randrange(8) if to_keys else written
            return _walk(rng, arch, read) | _row_destination(rng, limit, target, words) | {
                "src": rng.choice(list(MoveSource)), "to_keys": to_keys, "words": words}
        case Opcode.OUTPUT:
            return {"src": rng.choice(list(NumberSource)), "src_addr": read + rng.randrange(64),
                    "row": rng.randrange(arch.rows), "count": rng.randint(1, 3 * arch.cols)}


def _matmul(rng, read):
    return {"a_src": rng.choice(list(ASource)), "a_addr": read + rng.randrange(64),
            "b_src": rng.choice(list(BSource)), "b_addr": read + rng.randrange(64),
            "n_tiles": rng.randint(1, 4), "k_words": rng.choice((1, 1, 2, 3, 6))}


def _bits_out(rng, arch):
    destination = rng.choice(list(Destination))
    position = rng.randrange(arch.blocks_per_key_word if destination is Destination.V
                             else arch.chunks_per_word)
    return {"dst": destination, "dst_pos": position,
            "dst_col": rng.randrange(arch.blocks_per_key_group), "dst_stride": 2,
            "pv_first": rng.getrandbits(1), "pv_addr": rng.randrange(8)}


def _accumulate(rng, arch, read, written):
    matmul, row_high = _matmul(rng, read), rng.randint(1, arch.rows)
    numbers = written + rng.randrange(64)
    period = rng.choice((0, 0, rng.randint(1, 5)))
    addends = [rng.choice((read + rng.randrange(64), numbers)) for _ in range(2)]
    if period:
        addends[0] = read + rng.randrange(64)
    sources = [source for source in AddSource if source is not AddSource.SMEM]
    first = rng.choice([*sources, AddSource.SMEM] if arch.stem_macs else sources)
    # Behind the constants there are zeros: SMEM goes with a product of scale 0.
    param_addr = CONSTANT_WORDS * (first is AddSource.SMEM) + rng.randrange(CONSTANT_WORDS)
    return matmul | _bits_out(rng, arch) | {
        "a_planes": rng.randint(1, 3), "b_planes": rng.randint(1, 3),
        "param_addr": param_addr, "dst_addr": numbers, "add_src": first, "add_addr": addends[0],
        "add_tiles": period, "add_phase": rng.randrange(period) if period else 0,
        "row_lo": rng.randrange(row_high), "row_hi": row_high, "base": rng.getrandbits(10),
        "from_pv": rng.getrandbits(1), "shift": rng.randrange(4),
        "sat": rng.randint(2, arch.resid_bits),
        "bend": rng.getrandbits(1), "bend_addr": rng.randrange(CONSTANT_WORDS),
        "bend_shift": rng.randrange(4),
        "add2_src": rng.choice(sources), "add2_addr": addends[1],
        "to_bits": rng.getrandbits(1), "thr_addr": rng.randrange(CONSTANT_WORDS),
        "bits_addr": written + rng.randrange(64)}


def _normalise(rng, arch, opcode, read, written):
    tiles = rng.randint(1, 3)
    channels = rng.randint((tiles - 1) * arch.cols + 1, tiles * arch.cols)
    fields = {"src": rng.choice(list(NumberSource)), "src_addr": read + rng.randrange(64),
              "n_tiles": tiles, "channels": channels, "span": channels,
              "groups": rng.randint(1, arch.drain_cycles), "eps": rng.randint(1, 1 << 20),
              "param_addr": rng.randrange(CONSTANT_WORDS), "dst_addr": written + rng.randrange(64)}
    if opcode is not Opcode.NORM_BITS:
        fields["shift"] = rng.randrange(4)
    if opcode is Opcode.NORM_CODES:
        fields["k_words"] = rng.randint(-(-tiles // arch.chunks_per_word), 3)
    if opcode is Opcode.NORM_NUMBERS:
        fields["sat"] = rng.randint(2, arch.resid_bits)
    return fields


def _walk(rng, arch, read):
    """A walk through at most 24 rows."""
    fields = {"src_addr": read + rng.randrange(64), "src_row": rng.randrange(arch.rows),
              "src_stride": rng.randint(1, 3)}
    left, levels = 24, rng.sample(range(LEVELS), LEVELS)
    for level in levels:
        count = rng.randint(1, min(left, 4))
        left //= count
        fields |= {f"count_{level}": count, f"blocks_{level}": rng.randrange(3),
                   f"rows_{level}": rng.randrange(arch.rows)}
    return fields


def _row_destination(rng, limit, written, extent):
    """Rows behind each other, in blocks of which each takes `extent` words."""
    segment = rng.choice((0, rng.randint(1, 9)))
    return {"dst_addr": written + rng.randrange(8), "dst_row": rng.randrange(limit),
            "dst_stride": extent + rng.randrange(2), "segment": segment,
            "segment_left": rng.randint(1, segment) if segment else 0}


def _add_rows(rng, arch, read):
    sums = {f"sums_{level}": rng.choice((0, 0, 1, 2, 3)) for level in range(LEVELS)}
    return _walk(rng, arch, read) | sums | {
        "src": rng.choice(list(NumberSource)), "n_tiles": rng.randint(1, 4),
        "sum_row": rng.randrange(8), "sum_tiles": rng.randint(1, 3),
        "param_addr": rng.randrange(CONSTANT_WORDS), "operation": rng.choice(list(RowOperation)),
        "gelu": rng.getrandbits(1), "first": rng.random() < 0.7}
