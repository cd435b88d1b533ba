"""What the instructions of the matrix unit do.

Sums of products go through floating point: exact, because every partial sum is an integer below
``2**24`` in float32, or ``2**53`` in float64, which :func:`_plane_sums` looks after.
"""

import numpy as np

from bivit.compiler.ir import numeric
from bivit.hw.isa import AddSource, BSource, Destination
from bivit.sim.memory_state import read_words, word_indices, write_words

__all__ = ["accumulate", "bits", "place_pieces", "score", "signed"]


def bits(machine, fields):
    """MM_BITS: counts against thresholds, into HMEM or BMEM."""
    arch, tiles = machine.arch, fields["n_tiles"]
    counts = _counts(machine, fields)
    thr = machine.parameters(machine.thr, arch.thr_depth, fields["param_addr"], tiles)
    flip = machine.parameters(machine.flip, arch.thr_depth, fields["param_addr"], tiles)
    limit = thr.astype(np.float32)
    if fields["use_pv"]:
        limit = limit + read_words(machine.state.pv, fields["pv_addr"], tiles)
    limit = limit.reshape(-1, 1, tiles, arch.cols)
    result = ((counts <= limit) ^ flip.astype(bool)).astype(np.uint8)
    destination = fields["dst"]
    if destination == Destination.HMEM.value:
        place_pieces(machine.state.hmem, fields["dst_addr"], fields["dst_pos"], result)
    elif destination == Destination.K.value:
        block = fields["dst_col"]
        if block < arch.blocks_per_key_group:
            columns = machine.state.bmem[:, :, block * arch.rows:(block + 1) * arch.rows]
            place_pieces(columns, fields["dst_addr"], fields["dst_pos"], result)
    elif destination == Destination.V.value:
        _values(machine, fields, result)


def _values(machine, fields, result):
    """V: transposed, rows past the block's zero; the ones of each column are counted."""
    arch, memory = machine.arch, machine.state.bmem
    result[:, fields["rows"]:] = 0
    mask = (1 << arch.count_bits) - 1
    ones = result.sum(1, dtype=np.int32)
    if not fields["pv_first"]:
        ones = ones + read_words(machine.state.pv, fields["pv_addr"], fields["n_tiles"])
    write_words(machine.state.pv, fields["pv_addr"], ones & mask)
    position = fields["dst_pos"]
    start = position * arch.rows
    for tile in range(fields["n_tiles"]):
        address = fields["dst_addr"] + tile * fields["dst_stride"]
        index = word_indices(memory.shape[1], address & 0xFFFF, 1)
        index = index.start if isinstance(index, slice) else int(index[0])
        if index >= memory.shape[1]:
            continue
        if position == 0:
            memory[:, index] = 0
        if position < arch.blocks_per_key_word:
            memory[:, index, :, start:start + arch.rows] = result[:, :, tile].transpose(0, 2, 1)


def score(machine, fields):
    """MM_SCORE: counts to the score buffer, and the minimum of each row over its keys."""
    arch, slot, tiles = machine.arch, fields["slot"], fields["n_tiles"]
    counts = _counts(machine, fields)
    write_words(machine.scores, slot * arch.score_tiles, counts.transpose(0, 2, 1, 3))
    valid = valid_columns(arch, tiles, fields["keys"])
    largest = np.float32((1 << arch.count_bits) - 1)
    if slot < arch.score_slots:
        machine.minimum[:, slot] = np.where(valid, counts, largest).min((2, 3))


def valid_columns(arch, tiles, keys):
    """Which columns of each score tile hold keys, (tiles, cols)."""
    left = keys - arch.keys_per_group * np.arange(tiles)[:, None]
    return np.arange(arch.cols) < np.clip(left, 0, arch.keys_per_group)


def accumulate(machine, fields):
    """MM_ACC: plane sums, rescaled and added, to RESID."""
    arch, tiles, state = machine.arch, fields["n_tiles"], machine.state
    sums = _plane_sums(machine, fields, fields["a_planes"], fields["b_planes"])
    sums = sums.reshape(*sums.shape[:2], tiles, arch.cols).astype(np.int64)
    dot = signed(fields["base"] - 2 * sums, arch.acc_bits + 1)
    scale, bias = (machine.parameters(array, arch.scale_depth, fields["param_addr"], tiles)
                   for array in (machine.scale, machine.scale_bias))
    y = numeric.rescale(dot, scale, bias, numeric.RESCALE_SHIFTS[fields["shift"]])

    groups, padding = arch.drain_cycles, arch.drain_cycles * arch.post_rows - arch.rows
    if padding:
        y = np.pad(y, ((0, 0), (0, padding), (0, 0), (0, 0)))
    y = y.reshape(len(y), groups, arch.post_rows, tiles, arch.cols).transpose(0, 3, 1, 2, 4)
    y = y.reshape(len(y), tiles * groups, arch.post_rows, arch.cols)
    if fields["add_src"] == AddSource.RESID.value:
        y = y + read_words(state.resid, fields["add_addr"], tiles * groups)
    elif fields["add_src"] == AddSource.POS.value:
        y = y + machine.parameters(machine.pos, arch.pos_depth, fields["add_addr"],
                                   tiles * groups)
    y = numeric.saturate(y, min(max(fields["sat"], 1), arch.resid_bits))
    rows = np.arange(groups * arch.post_rows)
    written = (rows >= fields["row_lo"]) & (rows < fields["row_hi"])
    if not written[:arch.rows].all():
        kept = np.tile(~written.reshape(groups, arch.post_rows), (tiles, 1))
        before = read_words(state.resid, fields["dst_addr"], tiles * groups)
        y[:, kept] = before[:, kept]
    write_words(state.resid, fields["dst_addr"], y)


def signed(values, width):
    """The lowest `width` bits of integers as a signed number."""
    half = 1 << (width - 1)
    return ((values + half) & ((1 << width) - 1)) - half


def _counts(machine, fields):
    """Mismatch counts (images, rows, tiles, cols) as exact float32."""
    counts = _plane_sums(machine, fields, 1, 1)
    return counts.reshape(*counts.shape[:2], fields["n_tiles"], machine.arch.cols)


def _plane_sums(machine, fields, a_planes, b_planes):
    """``sum(count << (i + j))`` over plane pairs, (images, rows, columns).

    With A = sum(a_i << i), B = sum(b_j << j) and s = 2 B - (2**b_planes - 1), the sum is
    ``(2**a_planes - 1) sum(B) - A . s``, and the same holds with A and B exchanged: so one
    matrix product does all planes.
    """
    arch, length = machine.arch, fields["k_words"] * machine.arch.lanes
    if length >> arch.count_bits:
        return _overflowing_plane_sums(machine, fields, a_planes, b_planes)
    a_top, b_top = (1 << a_planes) - 1, (1 << b_planes) - 1
    a = machine.rows(fields, a_planes)
    exact = np.float32 if a_top * b_top * length < 1 << 23 else np.float64
    if fields["b_src"] == BSource.WEIGHT.value:
        signs, ones = machine.weight_columns(
            fields["b_addr"], fields["n_tiles"], b_planes, fields["k_words"], exact)
        product = a.reshape(-1, length).astype(exact, copy=False) @ signs
        np.subtract(a_top * ones, product, out=product)
        return product.reshape(*a.shape[:2], -1)
    b = machine.columns(fields, b_planes).astype(exact, copy=False)
    a = a.astype(exact, copy=False)
    return b_top * a.sum(2, keepdims=True) + (a_top - 2 * a) @ b.transpose(0, 2, 1)


def _overflowing_plane_sums(machine, fields, a_planes, b_planes):
    """The same pass by pass, for dot products so long that a count wraps."""
    arch, tiles, k_words = machine.arch, fields["n_tiles"], fields["k_words"]
    total = 0
    for tile in range(tiles * b_planes):
        one = fields | {"n_tiles": 1, "b_addr": fields["b_addr"] + tile * k_words}
        for plane in range(a_planes):
            a = machine.rows(one | {"a_addr": fields["a_addr"] + plane * k_words}, 1)
            if fields["b_src"] == BSource.WEIGHT.value:
                signs, ones = machine.weight_columns(one["b_addr"], 1, 1, k_words,
                                                       np.float32)
                counts = ones - a @ signs
            else:
                b = machine.columns(one, 1)
                counts = a.sum(2, keepdims=True) + (1 - 2 * a) @ b.transpose(0, 2, 1)
            counts = counts.astype(np.int64) & ((1 << arch.count_bits) - 1)
            piece = np.zeros((*counts.shape[:2], tiles, arch.cols), np.int64)
            piece[:, :, tile // b_planes] = counts << (plane + tile % b_planes)
            total = total + piece
    return total.reshape(*total.shape[:2], -1).astype(np.float32 if a_planes * b_planes == 1
                                                      else np.float64)


def place_pieces(memory, address, position, pieces):
    """Write pieces behind each other along the lanes of words of `memory`.

    A piece at position 0 clears the rest of its word.

    Parameters
    ----------
    memory : array (images, depth, rows, lanes)
        May be a view of some columns.
    address, position : int
        Word and place in it of the first piece.
    pieces : array (images, rows, count, width)
    """
    images, rows, count, width = pieces.shape
    lanes = memory.shape[-1]
    per_word = lanes // width
    if position >= per_word:  # such pieces have no place, until the 8-bit position wraps to 0
        lost = min(count, 256 - position)
        if lost < count:
            place_pieces(memory, address, 0, pieces[:, :, lost:])
        return
    words = -(-(position + count) // per_word)
    buffer = np.zeros((images, words, rows, lanes), np.uint8)
    padded = np.zeros((images, rows, words * per_word, width), np.uint8)
    padded[:, :, position:position + count] = pieces
    padded = padded.reshape(images, rows, words, per_word * width)
    buffer[..., :per_word * width] = padded.transpose(0, 2, 1, 3)
    if position:
        start, end = position * width, min(position + count, per_word) * width
        first = read_words(memory, address, 1)[:, 0].copy()
        first[..., start:end] = buffer[:, 0, :, start:end]
        buffer[:, 0] = first
    write_words(memory, address, buffer)
