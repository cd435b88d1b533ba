"""Random matrix products, and the record of each of their passes."""

import itertools

from bivit.hw.blocks.lanes import Mode
from bivit.hw.isa import AddSource, ASource, BSource, Destination, Opcode

__all__ = ["MODES", "PRODUCTS", "most_terms", "plain", "random_product", "records_of"]

MODES = {Opcode.MM_BITS: Mode.BITS, Opcode.MM_SCORE: Mode.SCORE, Opcode.MM_ACC: Mode.ACC}
PRODUCTS = tuple(MODES)
TILES = 4


def random_product(rng, arch, opcode):
    """Fields of a product of at most `TILES` tiles that keeps inside the memories.

    Numbers go to the lower half of RESID. Addends from there are the destination itself; the
    others come from the upper half.
    """
    def tiles_in(depth):
        return rng.randint(0, depth - TILES)

    n_tiles = rng.randint(1, TILES)
    fields = {"a_src": rng.choice(list(ASource)), "a_addr": rng.randrange(64),
              "b_src": rng.choice(list(BSource)), "b_addr": rng.randrange(64),
              "n_tiles": n_tiles, "k_words": rng.choice((1, 1, 2, 3, 6))}
    if opcode is Opcode.MM_SCORE:
        return fields | {"slot": rng.randrange(arch.score_slots),
                         "keys": rng.randint(1, n_tiles * arch.keys_per_group),
                         "use_bias": rng.randint(0, arch.score_biases),
                         "bias_addr": tiles_in(arch.bias_depth)}
    dst = rng.choice(list(Destination))
    places = arch.blocks_per_key_word if dst == Destination.V else arch.chunks_per_word
    fields |= {"dst": dst, "dst_pos": rng.choice((0, rng.randrange(places))),
               "dst_col": rng.randrange(arch.blocks_per_key_group),
               "dst_stride": rng.randint(1, 6), "pv_first": rng.randint(0, 1),
               "pv_addr": tiles_in(arch.pv_depth)}
    bits_addr, thr_addr = rng.randint(0, 11), tiles_in(arch.thr_depth)
    if opcode is Opcode.MM_BITS:
        return fields | {"param_addr": thr_addr, "dst_addr": bits_addr,
                         "rows": rng.randint(1, arch.rows),
                         "use_pv": int(dst != Destination.V and rng.random() < 0.5)}
    return fields | {"thr_addr": thr_addr, "bits_addr": bits_addr} | _numbers(rng, arch, tiles_in)


def _numbers(rng, arch, tiles_in):
    """Fields of MM_ACC alone."""
    words, half = TILES * arch.drain_cycles, arch.resid_depth // 2
    dst_addr = rng.randint(0, half - words)
    sources = [rng.choice([source for source in AddSource if source is not AddSource.SMEM])
               for _ in range(2)]
    if rng.random() < 0.4:
        sources[1] = sources[0]
    addresses = [rng.choice((dst_addr, rng.randint(half, 2 * half - words)))
                 if source == AddSource.RESID else
                 rng.randint(0, min(arch.pos_depth, arch.vmem_depth) - words)
                 for source in sources]
    own = sources[0] == AddSource.RESID and addresses[0] == dst_addr
    period = 0 if own else rng.choice((0, *range(1, TILES + 1)))
    a_planes, b_planes = rng.choice(((1, 1), (1, 1), (2, 1), (2, 3), (5, 1)))
    row_lo = rng.choice((0, rng.randrange(arch.rows)))
    return {
        "a_planes": a_planes, "b_planes": b_planes, "param_addr": tiles_in(arch.scale_depth),
        "dst_addr": dst_addr, "add_src": sources[0], "add_addr": addresses[0],
        "add_tiles": period, "add_phase": rng.randrange(period) if period else 0,
        "row_lo": row_lo, "row_hi": rng.choice((arch.rows, rng.randint(row_lo + 1, arch.rows))),
        "base": rng.randint(1, most_terms(arch, a_planes, b_planes))
        * ((1 << a_planes) - 1) * ((1 << b_planes) - 1),
        "from_pv": int(rng.random() < 0.25), "shift": rng.randrange(4),
        "sat": rng.choice((arch.resid_bits, rng.randint(1, arch.resid_bits))),
        "bend": rng.randint(0, arch.bends), "bend_addr": tiles_in(arch.bend_depth),
        "bend_shift": rng.randrange(4), "add2_src": sources[1], "add2_addr": addresses[1],
        "to_bits": rng.randint(0, 1)}


def most_terms(arch, a_planes, b_planes):
    """The longest dot product of these planes that fits."""
    return min((1 << arch.count_bits) - 1, (1 << 27) >> (a_planes + b_planes))


def plain(fields):
    """Fields as integers."""
    return {name: int(getattr(value, "value", value)) for name, value in fields.items()}


def records_of(arch, opcode, fields, tag):
    """Of each pass, the fields of its record that its mode uses."""
    fields = plain(fields)
    planes = fields.get("a_planes", 1), fields.get("b_planes", 1)
    acc = opcode is Opcode.MM_ACC
    for tile, i, j in itertools.product(range(fields["n_tiles"]), *map(range, planes)):
        last = (i, j) == (planes[0] - 1, planes[1] - 1)
        record = {"mode": MODES[opcode].value, "tag": tag, "tile": tile,
                  "first_tile": int(tile == 0), "plane_first": int(i + j == 0),
                  "plane_last": int(last),
                  "last_pass": int(last and tile == fields["n_tiles"] - 1)}
        if opcode is Opcode.MM_SCORE:
            valid = min(max(fields["keys"] - tile * arch.keys_per_group, 0), arch.keys_per_group)
            yield record | {"to_bits": 0, "valid_cols": valid, "slot": fields["slot"],
                            "use_bias": fields["use_bias"],
                            "bias_addr": fields["bias_addr"] + tile}
            continue
        record |= {name: fields[name] for name in ("dst", "dst_col", "pv_first")}
        record |= {"pv_addr": fields["pv_addr"] + tile,
                   "to_bits": fields["to_bits"] if acc else 1,
                   "rows": fields["row_hi" if acc else "rows"],
                   "use_pv": fields["from_pv" if acc else "use_pv"],
                   "thr_addr": fields["thr_addr" if acc else "param_addr"] + tile}
        address, place = fields["bits_addr" if acc else "dst_addr"], fields["dst_pos"]
        if fields["dst"] == Destination.V.value:
            record |= {"dst_addr": address + tile * fields["dst_stride"], "dst_pos": place}
        else:
            word, chunk = divmod(place + tile, arch.chunks_per_word)
            record |= {"dst_addr": address + word, "dst_pos": chunk}
        yield record | (_numbers_record(arch, fields, tile, i + j) if acc else {})


def _numbers_record(arch, fields, tile, plane):
    same = ("base", "shift", "add_src", "bend", "bend_shift", "add2_src", "sat", "row_lo",
            "row_hi")
    period, addend_tile = fields["add_tiles"], fields["add_phase"] + tile
    first, second = fields["add_src"], fields["add2_src"]
    return {name: fields[name] for name in same} | {
        "count_shift": plane + (0 if fields["from_pv"] else 1),
        "scale_addr": fields["param_addr"] + tile,
        "bend_addr": fields["bend_addr"] + tile,
        "dual": int(first == second != AddSource.NONE.value),
        "resid_addr": fields["dst_addr"] + tile * arch.drain_cycles,
        "add_addr": fields["add_addr"] + arch.drain_cycles * (
            addend_tile % period if period else addend_tile),
        "add2_addr": fields["add2_addr"] + tile * arch.drain_cycles}
