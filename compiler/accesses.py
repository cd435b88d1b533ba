"""Which words of which memories an instruction reads and writes, from its fields alone.

The scheduler and the hazard check take this from the encoded instruction, not from what the
compiler meant: so a wrong address shows as a read of words that nothing wrote.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from bivit.compiler.ir.numeric import CODE_BITS
from bivit.hw.arch import Arch
from bivit.hw.blocks.fetch import port_beats
from bivit.hw.blocks.stem import groups_and_steps
from bivit.hw.blocks.store import STORED_AS
from bivit.hw.isa import (
    LEVELS,
    AddSource,
    ASource,
    BSource,
    Destination,
    MoveSource,
    NumberSource,
    Opcode,
    RowKind,
    RowOperation,
)
from bivit.hw.memories import constant_order

__all__ = ["Accesses", "CONSTANTS", "EXTERNAL", "accesses"]

CONSTANTS = constant_order[1:]
"""Memories that only FETCH writes."""

EXTERNAL = "external"
"""External memory, its words beats: constants, and what STORE writes."""

_A_MEMORIES = {source.value: source.name.lower() for source in ASource}
_B_MEMORIES = {source.value: source.name.lower() for source in BSource}
_ADD_MEMORIES = {source.value: source.name.lower() for source in AddSource}
_NUMBER_MEMORIES = {source.value: source.name.lower() for source in NumberSource}
_MOVE_MEMORIES = {source.value: source.name.lower() for source in MoveSource}


@dataclasses.dataclass(frozen=True)
class Accesses:
    """Words in ascending order, as (memory, words).

    `reads` may be of constant memories. `updates` are words that are read and written by a unit
    that keeps their order itself (PV, sums), so that its instructions may follow each other
    without waiting.
    """

    reads: tuple[tuple[str, Sequence[int]], ...] = ()
    writes: tuple[tuple[str, Sequence[int]], ...] = ()
    updates: tuple[tuple[str, Sequence[int]], ...] = ()


def accesses(arch: Arch, opcode: Opcode, fields: dict[str, int]) -> Accesses:
    """Accesses of an instruction; rows that it does not use do not count."""
    return _ACCESSES[opcode](arch, fields)


def _fetch(arch, f):
    memory = constant_order[f["memory"]]
    beats = _span(f["ext_addr"], f["words"] * port_beats(arch, memory))
    return Accesses(((EXTERNAL, beats),), ((memory, _span(f["const_addr"], f["words"])),))


def _store(arch, f):
    beats = _span(f["ext_addr"], f["words"] * port_beats(arch, STORED_AS))
    return Accesses(((_NUMBER_MEMORIES[f["src"]], _span(f["src_addr"], f["words"])),),
                    ((EXTERNAL, beats),))


def _load(arch, f):
    return Accesses(writes=(("imem", _span(f["dst_addr"], 8 * f["k_words"])),))


def _stem(arch, f):
    groups, steps = groups_and_steps(arch, f["pixels"], f["channels"])
    numbers = -(-f["channels"] // arch.cols) * arch.drain_cycles
    length = f["segment"] or f["tokens"]
    blocks = -(-(f["row"] + length) // arch.rows) * -(-f["tokens"] // length)
    return Accesses((("stem", _span(f["weight_addr"], groups * steps)),
                     ("stem_scale", _span(f["scale_addr"], f["channels"]))),
                    tuple(("smem", _span(f["dst_addr"] + block * f["dst_stride"], numbers))
                          for block in range(blocks)))


def _span(start, count):
    return range(start, start + count)


def _operands(arch, f):
    a_planes, b_planes = f.get("a_planes", 1), f.get("b_planes", 1)
    b = _B_MEMORIES[f["b_src"]], _span(f["b_addr"], f["n_tiles"] * b_planes * f["k_words"])
    if arch.stem_macs and f["a_src"] == ASource.IMEM.value:  # zeros
        return (b,)
    return (_A_MEMORIES[f["a_src"]], _span(f["a_addr"], a_planes * f["k_words"])), b


def _destination(arch, f, address):
    """Writes and updates of bits."""
    tiles = f["n_tiles"]
    if f["dst"] == Destination.V.value:
        pv = (("pv", _span(f["pv_addr"], tiles)),)
        stride = f["dst_stride"]
        words = range(address, address + tiles * stride, stride) if stride else _span(address, 1)
        first = bool(f["pv_first"])
        return (("bmem", words), *(pv if first else ())), () if first else pv
    words = -(-(f["dst_pos"] + tiles) // arch.chunks_per_word)
    memory = "hmem" if f["dst"] == Destination.HMEM.value else "bmem"
    return ((memory, _span(address, words)),), ()


def _bits(arch, f):
    tiles = f["n_tiles"]
    reads = [("thr", _span(f["param_addr"], tiles))]
    if f["use_pv"]:
        reads.append(("pv", _span(f["pv_addr"], tiles)))
    return Accesses((*_operands(arch, f), *reads), *_destination(arch, f, f["dst_addr"]))


def _score(arch, f):
    bias = (("bias", _span(f["bias_addr"], f["n_tiles"])),) if f["use_bias"] else ()
    return Accesses((*_operands(arch, f), *bias),
                    (("score", _span(f["slot"] * arch.score_tiles, f["n_tiles"])),))


def _accumulate(arch, f):
    tiles, groups = f["n_tiles"], arch.drain_cycles
    low, high = f["row_lo"] // arch.post_rows, -(-f["row_hi"] // arch.post_rows)

    def rows(address, first=0, count=tiles):
        if (low, high) == (0, groups):
            return [_span(address + first * groups, count * groups)]
        return [_span(address + tile * groups + low, high - low)
                for tile in range(first, first + count)]

    reads = [("scale", _span(f["param_addr"], tiles))]
    if f["from_pv"]:
        reads.append(("pv", _span(f["pv_addr"], tiles)))
    if f["bend"]:
        reads.append(("bend", _span(f["bend_addr"], tiles)))
    if f["add_src"] != AddSource.NONE.value:
        first, count = f["add_phase"], tiles
        if f["add_tiles"] and first + tiles > f["add_tiles"]:
            first, count = 0, f["add_tiles"]
        reads += [(_ADD_MEMORIES[f["add_src"]], words)
                  for words in rows(f["add_addr"], first, count)]
    if f["add2_src"] != AddSource.NONE.value:
        reads += [(_ADD_MEMORIES[f["add2_src"]], words) for words in rows(f["add2_addr"])]
    writes, updates = tuple(("resid", words) for words in rows(f["dst_addr"])), ()
    if f["to_bits"]:
        reads.append(("thr", _span(f["thr_addr"], tiles)))
        more, updates = _destination(arch, f, f["bits_addr"])
        writes += more
    return Accesses((*_operands(arch, f), *reads), writes, updates)


def _softmax(arch, f):
    words = -(-f["n_tiles"] // arch.key_groups_per_word)
    return Accesses((("score", _span(f["slot"] * arch.score_tiles, f["n_tiles"])),),
                    (("pmem", _span(f["dst_addr"], words)),))


def _blocks(arch, memory, address, f):
    """The words of the first row groups of every tile of a block of numbers."""
    tiles, groups = f["n_tiles"], arch.drain_cycles
    if f["groups"] == groups:
        return [(memory, _span(address, tiles * groups))]
    return [(memory, _span(address + tile * groups, f["groups"])) for tile in range(tiles)]


def _norm(planes):
    def norm(arch, f):
        words = -(-f["n_tiles"] // arch.chunks_per_word)
        reads = [("norm", _span(f["param_addr"], f["n_tiles"])),
                 *_blocks(arch, _NUMBER_MEMORIES[f["src"]], f["src_addr"], f)]
        return Accesses(tuple(reads), tuple(
            ("xmem", _span(f["dst_addr"] + plane * f.get("k_words", 0), words))
            for plane in range(planes)))
    return norm


def _norm_numbers(arch, f):
    reads = [("norm", _span(f["param_addr"], f["n_tiles"])),
             *_blocks(arch, _NUMBER_MEMORIES[f["src"]], f["src_addr"], f)]
    return Accesses(tuple(reads), tuple(_blocks(arch, "vmem", f["dst_addr"], f)))


def _output(arch, f):
    group = f["row"] // arch.post_rows
    start, tiles = f["src_addr"] + group, -(-f["count"] // arch.cols)
    step = arch.drain_cycles
    return Accesses(((_NUMBER_MEMORIES[f["src"]],
                      range(start, start + (tiles - 1) * step + 1, step)),))


# ---- rows --------------------------------------------------------------------------------------

def _source_rows(arch, f):
    """Address and row, and sum row, of every step of a walk."""
    row, address, sums = np.array([f["src_row"]]), np.array([f["src_addr"]]), np.array([0])
    for level in range(LEVELS):
        steps = np.arange(f[f"count_{level}"])[:, None]
        row = (row + steps * f[f"rows_{level}"]).reshape(-1)
        address = (address + steps * f[f"blocks_{level}"] * f["src_stride"]).reshape(-1)
        sums = (sums + steps * f.get(f"sums_{level}", 0)).reshape(-1)
    return address + row // arch.rows * f["src_stride"], row % arch.rows, sums


def _destination_rows(arch, f, count, limit):
    """Address and row of rows behind each other, in blocks of `limit`."""
    number = np.arange(count)
    block, row = np.divmod(f["dst_row"] + number, limit)
    if f["segment"]:
        left, segment = f["segment_left"], f["segment"]
        index, inside = np.divmod(number - left, segment)
        begun = number >= left
        later = -(-(f["dst_row"] + left) // limit) + index * -(-segment // limit)
        block = np.where(begun, later + inside // limit, block)
        row = np.where(begun, inside % limit, row)
    return f["dst_addr"] + block * f["dst_stride"], row


def _words(*parts):
    """Sums of all combinations, ascending and once each."""
    total = np.array([0])
    for part in parts:
        total = np.unique((total[:, None] + np.asarray(part)[None]).reshape(-1))
    return total.tolist()


def _rows_add(arch, f):
    address, row, sums = _source_rows(arch, f)
    tiles, sum_tiles = np.arange(f["n_tiles"]), np.arange(f["n_tiles"])
    if f["operation"] == RowOperation.FOLD.value:  # rows are whole: so many, whatever its steps are
        tiles = np.arange(f["src_stride"] // arch.drain_cycles)
        sum_tiles = np.arange(f["sum_tiles"])
    groups = np.unique(address + row // arch.post_rows)
    source = (_NUMBER_MEMORIES[f["src"]], _words(groups, tiles * arch.drain_cycles))
    groups = np.unique((f["sum_row"] + sums) // arch.post_rows)
    words = ("sums", _words(groups * f["sum_tiles"], sum_tiles))
    params = ("norm", _span(f["param_addr"], f["n_tiles"]))
    return Accesses((source, params), (words,) if f["first"] else (),
                    () if f["first"] else (words,))


def _rows_out(arch, f):
    address, row = _destination_rows(arch, f, f["count"], arch.rows)
    first, last = (row // arch.post_rows for row in (f["sum_row"], f["sum_row"] + f["count"] - 1))
    sums = ("sums", _span(first * f["sum_tiles"], (last - first + 1) * f["sum_tiles"]))
    if f["kind"] == RowKind.NUMBERS.value:
        memory, tiles = "vmem", np.arange(f["sum_tiles"]) * arch.drain_cycles
        address = address + row // arch.post_rows
    else:
        memory, tiles = "xmem", np.arange(-(-f["sum_tiles"] // arch.chunks_per_word))
        if f["kind"] == RowKind.CODES.value:
            planes = np.arange(CODE_BITS) * f["k_words"]
            tiles = np.asarray(_words(tiles, planes))
    return Accesses((("norm", _span(f["param_addr"], f["sum_tiles"])),),
                    ((memory, _words(address, tiles)),), (sums,))


def _move(arch, f):
    address, _, _ = _source_rows(arch, f)
    limit = arch.keys_per_group if f["to_keys"] else arch.rows
    target, _ = _destination_rows(arch, f, len(address), limit)
    words = np.arange(f["words"])
    return Accesses(((_MOVE_MEMORIES[f["src"]], _words(address, words)),),
                    (("kmem" if f["to_keys"] else "xmem", _words(target, words)),))


_ACCESSES = {
    Opcode.HALT: lambda arch, f: Accesses(), Opcode.LOAD: _load, Opcode.STEM: _stem,
    Opcode.MM_BITS: _bits,
    Opcode.MM_SCORE: _score, Opcode.MM_ACC: _accumulate, Opcode.SOFTMAX: _softmax,
    Opcode.NORM_BITS: _norm(1), Opcode.NORM_CODES: _norm(8), Opcode.NORM_NUMBERS: _norm_numbers,
    Opcode.ROWS_ADD: _rows_add, Opcode.ROWS_OUT: _rows_out, Opcode.MOVE: _move,
    Opcode.OUTPUT: _output, Opcode.FETCH: _fetch, Opcode.STORE: _store,
}
