"""Random legal programs, for tests of synchronisation and timing."""

from bivit.hw.isa import (
    UNIT_OF,
    WAIT_FIELDS,
    ASource,
    BSource,
    Destination,
    Opcode,
    Unit,
    decode,
    encode,
)


def random_program(rng, arch, *, length):
    """`length` instructions of every kind with random waits, then HALT."""
    kinds = [opcode for opcode in Opcode if opcode is not Opcode.HALT]
    opcodes = []
    while len(opcodes) < length:
        # Bursts of one kind, so that queues fill up and instructions follow each other.
        opcodes += [rng.choice(kinds)] * rng.choice((1, 1, 3, 20))
    opcodes = opcodes[:length]
    loads = [position for position, opcode in enumerate(opcodes) if opcode is Opcode.LOAD]
    sent, program = dict.fromkeys(Unit, 0), []
    for position, opcode in enumerate(opcodes):
        fields = _fields(rng, arch, opcode)
        if opcode is Opcode.LOAD:
            fields["last"] = int(position == loads[-1])
        program.append(encode(opcode, **fields, **_waits(rng, sent)))
        sent[UNIT_OF[opcode]] += 1
    return [*program, encode(Opcode.HALT)]


def input_stream(rng, program):
    """Random bytes of the input stream: what the LOAD instructions of a program take."""
    instructions = [decode(word) for word in program]
    return rng.randbytes(sum(4 * fields["tokens"] * -(-fields["pixels"] // 4)
                             for opcode, fields in instructions if opcode is Opcode.LOAD))


def _waits(rng, sent):
    waits = {}
    for unit, name in WAIT_FIELDS.items():
        if sent[unit] and rng.random() < 0.3:
            furthest = min(sent[unit], 255)
            waits[name] = rng.randint(1, rng.choice((1, min(furthest, 4), furthest)))
    return waits


def _fields(rng, arch, opcode):
    address = rng.randrange(64)
    matmul = {"a_src": rng.choice(list(ASource)), "a_addr": address,
              "b_src": rng.choice(list(BSource)), "b_addr": rng.randrange(64),
              "n_tiles": rng.randint(1, 4), "k_words": rng.choice((1, 1, 2, 3, 6))}
    norm = {"src_addr": address, "n_tiles": rng.randint(1, 3), "groups":
            rng.randint(1, arch.drain_cycles), "param_addr": rng.randrange(16),
            "dst_addr": rng.randrange(16), "eps": rng.randint(1, 1 << 20)}
    norm["channels"] = rng.randint((norm["n_tiles"] - 1) * arch.cols + 1,
                                   norm["n_tiles"] * arch.cols)
    row = rng.randrange(arch.rows)
    pixels = rng.randint(1, 2 * arch.lanes)
    match opcode:
        case Opcode.LOAD:
            return {"dst_addr": address, "row": row, "tokens": rng.randint(1, arch.rows - row),
                    "pixels": pixels, "k_words": -(-pixels // arch.lanes)}
        case Opcode.MM_BITS:
            return matmul | {"param_addr": rng.randrange(64), "dst": rng.choice(list(Destination)),
                             "dst_addr": address, "dst_pos": rng.randrange(arch.chunks_per_word),
                             "dst_col": rng.randrange(arch.blocks_per_key_group), "dst_stride": 2,
                             "rows": rng.randint(1, arch.rows), "use_pv": rng.getrandbits(1),
                             "pv_first": rng.getrandbits(1), "pv_addr": rng.randrange(8)}
        case Opcode.MM_SCORE:
            return matmul | {"slot": rng.randrange(arch.score_slots),
                             "keys": rng.randint(1, 4 * arch.keys_per_group)}
        case Opcode.MM_ACC:
            row_high = rng.randint(1, arch.rows)
            return matmul | {"a_planes": rng.randint(1, 3), "b_planes": rng.randint(1, 3),
                             "param_addr": rng.randrange(64), "dst_addr": address,
                             "add_src": rng.randrange(3), "add_addr": rng.randrange(64),
                             "row_lo": rng.randrange(row_high), "row_hi": row_high,
                             "base": rng.getrandbits(10), "shift": rng.randrange(4),
                             "sat": rng.randint(8, arch.resid_bits)}
        case Opcode.SOFTMAX:
            return {"slot": rng.randrange(arch.score_slots), "n_tiles": rng.randint(1, 6),
                    "keys": rng.randint(1, 6 * arch.keys_per_group), "delta": rng.randrange(64),
                    "dst_addr": address}
        case Opcode.NORM_BITS:
            return norm
        case Opcode.NORM_CODES:
            return norm | {"shift": rng.randrange(4), "k_words": rng.randint(1, 3)}
        case Opcode.OUTPUT:
            return {"src_addr": address, "row": row, "count": rng.randint(1, 3 * arch.cols)}
