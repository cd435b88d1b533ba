"""Which words of which memories an instruction reads and writes, from its fields alone.

The scheduler and the hazard check take this from the encoded instruction, not from what the
compiler meant: so a wrong address shows as a read of words that nothing wrote.
"""

import dataclasses

from bivit.hw.arch import Arch
from bivit.hw.isa import AddSource, ASource, BSource, Destination, Opcode

__all__ = ["Accesses", "CONSTANTS", "accesses"]

CONSTANTS = ("weight", "thr", "scale", "norm", "pos")
"""Memories that no instruction writes."""

_A_MEMORIES = {source.value: source.name.lower() for source in ASource}
_B_MEMORIES = {BSource.WEIGHT.value: "weight", BSource.BMEM.value: "bmem"}


@dataclasses.dataclass(frozen=True)
class Accesses:
    """Ranges of words, as (memory, range).

    `reads` may be of constant memories. `updates` are words that are read and written in one
    cycle (PV), so that the instructions of one unit may follow each other without waiting.
    """

    reads: tuple[tuple[str, range], ...] = ()
    writes: tuple[tuple[str, range], ...] = ()
    updates: tuple[tuple[str, range], ...] = ()


def accesses(arch: Arch, opcode: Opcode, fields: dict[str, int]) -> Accesses:
    """Accesses of an instruction; rows that it does not use do not count."""
    return _ACCESSES[opcode](arch, fields)


def _load(arch, f):
    return Accesses(writes=(("imem", _span(f["dst_addr"], 8 * f["k_words"])),))


def _span(start, count):
    return range(start, start + count)


def _operands(f):
    a_planes, b_planes = f.get("a_planes", 1), f.get("b_planes", 1)
    return ((_A_MEMORIES[f["a_src"]], _span(f["a_addr"], a_planes * f["k_words"])),
            (_B_MEMORIES[f["b_src"]], _span(f["b_addr"],
                                            f["n_tiles"] * b_planes * f["k_words"])))


def _bits(arch, f):
    tiles = f["n_tiles"]
    reads = [("thr", _span(f["param_addr"], tiles))]
    if f["use_pv"]:
        reads.append(("pv", _span(f["pv_addr"], tiles)))
    if f["dst"] == Destination.V.value:
        pv = (("pv", _span(f["pv_addr"], tiles)),)
        stride = f["dst_stride"]
        words = (range(f["dst_addr"], f["dst_addr"] + tiles * stride, stride) if stride
                 else _span(f["dst_addr"], 1))
        first = bool(f["pv_first"])
        return Accesses((*_operands(f), *reads), (("bmem", words), *(pv if first else ())),
                        () if first else pv)
    words = -(-(f["dst_pos"] + tiles) // arch.chunks_per_word)
    memory = "hmem" if f["dst"] == Destination.HMEM.value else "bmem"
    return Accesses((*_operands(f), *reads), ((memory, _span(f["dst_addr"], words)),))


def _score(arch, f):
    return Accesses(_operands(f),
                    (("score", _span(f["slot"] * arch.score_tiles, f["n_tiles"])),))


def _accumulate(arch, f):
    tiles, groups = f["n_tiles"], arch.drain_cycles
    low, high = f["row_lo"] // arch.post_rows, -(-f["row_hi"] // arch.post_rows)

    def rows(address):
        if (low, high) == (0, groups):
            return [_span(address, tiles * groups)]
        return [_span(address + tile * groups + low, high - low) for tile in range(tiles)]

    reads = [("scale", _span(f["param_addr"], tiles))]
    if f["add_src"] != AddSource.NONE.value:
        memory = "resid" if f["add_src"] == AddSource.RESID.value else "pos"
        reads += [(memory, words) for words in rows(f["add_addr"])]
    return Accesses((*_operands(f), *reads),
                    tuple(("resid", words) for words in rows(f["dst_addr"])))


def _softmax(arch, f):
    words = -(-f["n_tiles"] // arch.key_groups_per_word)
    return Accesses((("score", _span(f["slot"] * arch.score_tiles, f["n_tiles"])),),
                    (("pmem", _span(f["dst_addr"], words)),))


def _norm(planes):
    def norm(arch, f):
        tiles, groups = f["n_tiles"], arch.drain_cycles
        words = -(-tiles // arch.chunks_per_word)
        reads = [("norm", _span(f["param_addr"], tiles))]
        if f["groups"] == groups:
            reads.append(("resid", _span(f["src_addr"], tiles * groups)))
        else:
            reads += [("resid", _span(f["src_addr"] + tile * groups, f["groups"]))
                      for tile in range(tiles)]
        return Accesses(tuple(reads), tuple(
            ("xmem", _span(f["dst_addr"] + plane * f.get("k_words", 0), words))
            for plane in range(planes)))
    return norm


def _output(arch, f):
    group = f["row"] // arch.post_rows
    start, tiles = f["src_addr"] + group, -(-f["count"] // arch.cols)
    step = arch.drain_cycles
    return Accesses((("resid", range(start, start + (tiles - 1) * step + 1, step)),))


_ACCESSES = {
    Opcode.HALT: lambda arch, f: Accesses(), Opcode.LOAD: _load, Opcode.MM_BITS: _bits,
    Opcode.MM_SCORE: _score, Opcode.MM_ACC: _accumulate, Opcode.SOFTMAX: _softmax,
    Opcode.NORM_BITS: _norm(1), Opcode.NORM_CODES: _norm(8), Opcode.OUTPUT: _output,
}
