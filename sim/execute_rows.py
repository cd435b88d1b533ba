"""What the vector unit does with rows: sums of numbers, what is made of them, moves of bits."""

import functools

import numpy as np

from bivit.compiler.ir import numeric
from bivit.compiler.ir.numeric import CODE_BITS
from bivit.hw.isa import NumberSource, RowKind, RowOperation
from bivit.hw.memories import SUM_BITS
from bivit.sim.execute_matrix import saturate
from bivit.sim.memory_state import (
    MOVE_MEMORIES,
    NUMBER_MEMORIES,
    read_rows,
    write_rows,
)
from bivit.sim.products import signed
from bivit.sim.walks import (
    bit_places,
    destination_of,
    destination_rows,
    number_row_places,
    source_of,
    source_rows,
    sum_groups,
    sum_places,
)

__all__ = ["move", "rows_add", "rows_out"]

_NUMBER_BITS = 16


@functools.cache
def _gelu_table():
    """GELU of every number, from the least one on."""
    half = 1 << (_NUMBER_BITS - 1)
    return numeric.gelu(np.arange(-half, half)).astype(np.int32)


def _gelu(numbers):
    return np.take(_gelu_table(), numbers + (1 << (_NUMBER_BITS - 1)))


def rows_add(machine, fields):
    """ROWS_ADD: numbers times scales into sums."""
    source, operation = source_of(fields), fields["operation"]
    products, offsets = (_folded if operation == RowOperation.FOLD.value else _scaled)(
        machine, fields, source)
    sums = machine.state.sums.reshape(len(machine.state.sums), -1, machine.arch.cols)
    for places, events, started in sum_groups(
            machine.arch, source, fields["sum_row"], fields["sum_tiles"], offsets,
            bool(fields["first"])):
        combine = np.maximum if operation == RowOperation.MAX.value else np.add
        total = products(events[:, 0])
        for column in events.T[1:]:
            total = combine(total, products(column))
        if not started.all():
            kept = sums[:, places[~started]]
            total[:, ~started] = combine(total[:, ~started], kept)
        sums[:, places] = signed(total.astype(np.int64), SUM_BITS)


def _scaled(machine, fields, source):
    """ADD, MAX: from events of a sum group to products (images, events, cols), float64, exact."""
    arch, tiles = machine.arch, fields["n_tiles"]
    memory = getattr(machine.state, NUMBER_MEMORIES[fields["src"]])
    places, exists = _number_places(arch, source, fields["src"], tuple(range(tiles)))
    places, exists = places.ravel(), exists.ravel()
    scale, _ = machine.constants.row_parameters(fields["param_addr"], tiles)
    scale = scale.astype(np.float64)

    def products(events):
        numbers = read_rows(memory, places[events], exists[events])
        if fields["gelu"]:
            numbers = _gelu(numbers)
        return numbers * scale[events % tiles]

    return products, tuple(range(tiles))


def _folded(machine, fields, source):
    """FOLD: the same, the products of a step are summed into columns."""
    arch = machine.arch
    tiles, offsets, matrix = machine.constants.fold(fields["param_addr"], fields["n_tiles"])
    memory = getattr(machine.state, NUMBER_MEMORIES[fields["src"]])
    numbers = read_rows(memory, *_number_places(arch, source, fields["src"],
                                                tuple(tiles.tolist())))
    if fields["gelu"]:
        numbers = _gelu(numbers)
    numbers = numbers.reshape(-1, len(matrix)).astype(np.float64)
    folded = (numbers @ matrix).reshape(len(memory), -1, arch.cols)
    return functools.partial(np.take, folded, axis=1), tuple(offsets.tolist())


@functools.lru_cache(4096)
def _number_places(arch, source, memory, tiles):
    """Places (steps, tiles) of the numbers of a walk."""
    depth = arch.vmem_depth if memory == NumberSource.VMEM.value else arch.resid_depth
    address, row, _, _ = source_rows(arch, source)
    return number_row_places(arch, depth, address, row, np.array(tiles))


def rows_out(machine, fields):
    """ROWS_OUT: sums, rounded, to rows behind each other in VMEM or XMEM."""
    arch, state = machine.arch, machine.state
    count, tiles, kind = fields["count"], fields["sum_tiles"], fields["kind"]
    places, exists = sum_places(arch, fields["sum_row"] + np.arange(count), tiles,
                                np.arange(tiles))
    scale, bias = machine.constants.row_parameters(fields["param_addr"], tiles)
    amount = numeric.RESCALE_SHIFTS[fields["shift"]]
    values = read_rows(state.sums, places, exists) + (bias << (amount - numeric.BIAS_FRACTION))
    address, row = destination_rows(destination_of(fields), count, arch.rows)
    if kind == RowKind.NUMBERS.value:
        numbers = numeric.round_shift(values, amount)
        saturate(arch, numbers, fields["sat"])
        write_rows(state.vmem, *number_row_places(arch, arch.vmem_depth, address, row,
                                                  np.arange(tiles)), numbers.astype(np.int32))
        return
    if kind == RowKind.CODES.value:
        codes = np.clip(numeric.round_shift(values, amount), 0, (1 << CODE_BITS) - 1)
        planes = [codes >> plane & 1 for plane in range(CODE_BITS)]
    else:
        planes = [(values >= 0) ^ (scale & 1 == 1)]
    for plane, bits in enumerate(planes):
        words = _words_of_chunks(arch, bits)
        write_rows(state.xmem, *bit_places(
            arch.xmem_depth, address + plane * fields["k_words"], row, words.shape[2], arch.rows),
            words)


def _words_of_chunks(arch, bits):
    """Chunks (images, rows, tiles, cols) in their words, (images, rows, words, lanes)."""
    images, rows, tiles, cols = bits.shape
    words, per_word = -(-tiles // arch.chunks_per_word), arch.chunks_per_word
    padded = np.zeros((images, rows, words * per_word, cols), np.uint8)
    padded[:, :, :tiles] = bits
    found = np.zeros((images, rows, words, arch.lanes), np.uint8)
    found[..., :per_word * cols] = padded.reshape(images, rows, words, per_word * cols)
    return found


@functools.lru_cache(4096)
def _move_places(arch, source, memory, destination, to_keys, words):
    """Places that MOVE reads, and those that it writes."""
    address, row, _, _ = source_rows(arch, source)
    read = bit_places(getattr(arch, f"{MOVE_MEMORIES[memory]}_depth"), address, row, words,
                      arch.rows)
    if to_keys:
        address, row = destination_rows(destination, len(row), arch.keys_per_group)
        return read, bit_places(arch.kmem_depth, address, row, words, arch.cols)
    address, row = destination_rows(destination, len(row), arch.rows)
    return read, bit_places(arch.xmem_depth, address, row, words, arch.rows)


def move(machine, fields):
    """MOVE: rows of bits to XMEM or KMEM."""
    state = machine.state
    read, written = _move_places(machine.arch, source_of(fields), fields["src"],
                                 destination_of(fields), fields["to_keys"], fields["words"])
    rows = read_rows(getattr(state, MOVE_MEMORIES[fields["src"]]), *read)
    write_rows(state.kmem if fields["to_keys"] else state.xmem, *written, rows)
