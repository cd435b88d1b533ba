"""What LOAD, STEM, FETCH, STORE, the LayerNorms and OUTPUT do."""

import numpy as np

from bivit.compiler.expand import MachineError
from bivit.compiler.ir import numeric
from bivit.compiler.ir.numeric import CODE_BITS
from bivit.hw.blocks.checks import ErrorCode
from bivit.hw.memories import CLIPPED_BITS, constant_order
from bivit.sim.execute_matrix import saturate
from bivit.sim.memory_state import (
    NUMBER_MEMORIES,
    read_numbers,
    read_rows,
    read_words,
    write_numbers,
    write_rows,
    write_words,
)
from bivit.sim.pieces import place_pieces
from bivit.sim.walks import number_row_places, stem_rows

__all__ = ["fetch", "load", "norm_bits", "norm_codes", "norm_numbers", "output", "stem",
           "store"]

_BEAT_BYTES = 4


def fetch(machine, fields):
    """FETCH: words from external memory to a constant memory."""
    machine.constants.fetch(constant_order[fields["memory"]], fields["ext_addr"],
                            fields["const_addr"], fields["words"])


def store(machine, fields):
    """STORE: words of numbers to external memory; for one image alone."""
    memory = NUMBER_MEMORIES[fields["src"]]
    words = read_words(getattr(machine.state, memory), fields["src_addr"], fields["words"])
    machine.constants.store(words[0], fields["ext_addr"])


def load(machine, fields):
    """LOAD: tokens of pixels from the stream, split into planes."""
    arch, tokens, data = machine.arch, fields["tokens"], _pixels(machine, fields)
    words = -(-fields["pixels"] // arch.lanes)
    padded = np.zeros((*data.shape[:2], words * arch.lanes), np.uint8)
    padded[..., :fields["pixels"]] = data
    padded = padded.reshape(len(data), tokens, words, arch.lanes).transpose(0, 2, 1, 3)
    rows = machine.state.imem[:, :, fields["row"]:fields["row"] + tokens]
    for plane in range(CODE_BITS):
        address = fields["dst_addr"] + plane * fields["k_words"] & 0xFFFF
        write_words(rows, address, padded >> plane & 1)


def stem(machine, fields):
    """STEM: tokens of pixels from the stream, times weights, rescaled, clipped."""
    arch, channels = machine.arch, fields["channels"]
    weights, factor, offset = machine.constants.stem(
        fields["weight_addr"], fields["scale_addr"], fields["pixels"], channels, fields["shift"])
    numbers = (2.0 * _pixels(machine, fields) - 255) @ weights.T
    numbers = np.floor(numbers * factor + offset)
    half = 1 << (CLIPPED_BITS - 1)
    places = number_row_places(arch, arch.smem_depth, *stem_rows(fields, arch.rows),
                               np.arange(-(-channels // arch.cols)))
    rows = read_rows(machine.state.smem, *places)
    rows.reshape(*numbers.shape[:2], -1)[..., :channels] = np.clip(numbers, -half, half - 1)
    write_rows(machine.state.smem, *places, rows)


def _pixels(machine, fields):
    """The next tokens of the streams, (images, tokens, pixels)."""
    tokens, pixels = fields["tokens"], fields["pixels"]
    token_bytes = -(-pixels // _BEAT_BYTES) * _BEAT_BYTES
    end = machine.position + tokens * token_bytes
    length = len(machine.streams[0])
    if end > length or end == length and not fields["last"]:
        raise MachineError(ErrorCode.STREAM_SHORT, machine.program_counter,
                           "the input stream ended early")
    if fields["last"] and end < length:
        raise MachineError(ErrorCode.STREAM_LONG, machine.program_counter,
                           "the input stream goes on after the final beat")
    data = np.stack([np.frombuffer(stream, np.uint8, tokens * token_bytes, machine.position)
                     for stream in machine.streams])
    machine.position = end
    return data.reshape(len(data), tokens, token_bytes)[..., :pixels]


def _rows(machine, fields):
    """First and last row of a NORM instruction, and their numbers, float64."""
    arch = machine.arch
    rows = 0, min(fields["groups"] * arch.post_rows, arch.rows)
    memory = getattr(machine.state, NUMBER_MEMORIES[fields["src"]])
    return rows, read_numbers(arch, memory, fields["src_addr"], fields["n_tiles"],
                              rows).astype(np.float64)


def _statistics(numbers, fields):
    """Sum and sigma of :func:`numeric.row_sigma`, exact: integers below 2**53."""
    count, numbers = fields["channels"], numbers[..., :fields["span"]]
    total = numbers.sum(-1, keepdims=True)
    squares = np.einsum("irc,irc->ir", numbers, numbers)[..., None].astype(np.int64)
    exact = total.astype(np.int64)
    return total, numeric.isqrt(count * squares - exact * exact + fields["eps"])


def norm_bits(machine, fields):
    """NORM_BITS: LayerNorm and sign."""
    _, numbers = _rows(machine, fields)
    total, sigma = _statistics(numbers, fields)
    factor, factors, limit = machine.constants.norm_bits(
        fields["param_addr"], fields["n_tiles"], fields["channels"], fields["span"])
    numbers *= factor
    numbers -= np.concatenate([total, sigma], axis=-1) @ factors
    _write(machine, fields["dst_addr"], (numbers >= limit).view(np.uint8))


def _normalised(machine, fields):
    """First and last row of a NORM instruction, and their LayerNorms, rescaled, float64."""
    rows, numbers = _rows(machine, fields)
    total, sigma = _statistics(numbers, fields)
    factor, offset = machine.constants.norm_rescale(fields["param_addr"], fields["n_tiles"],
                                                    fields["span"], fields["shift"])
    mantissa, exponent = numeric.reciprocal(np.maximum(sigma, 1))
    numbers *= fields["channels"]
    numbers -= total
    numbers *= mantissa
    normalised = numeric.saturate(np.floor(
        numbers * np.exp2(-(16.0 + exponent - numeric.NORM_FRACTION)) + 0.5), 16)
    return rows, np.floor(normalised * factor + offset)


def norm_codes(machine, fields):
    """NORM_CODES: LayerNorm to 8-bit codes, as planes."""
    _, numbers = _normalised(machine, fields)
    codes = np.clip(numbers, 0, (1 << CODE_BITS) - 1).astype(np.uint8)
    for plane in range(CODE_BITS):
        address = fields["dst_addr"] + plane * fields["k_words"] & 0xFFFF
        _write(machine, address, codes >> plane & 1)


def norm_numbers(machine, fields):
    """NORM_NUMBERS: LayerNorm to VMEM."""
    arch = machine.arch
    rows, numbers = _normalised(machine, fields)
    saturate(arch, numbers, fields["sat"])
    write_numbers(arch, machine.state.vmem, fields["dst_addr"], fields["n_tiles"], rows,
                  numbers.astype(np.int32))


def _write(machine, address, bits):
    place_pieces(machine.state.xmem[:, :, :bits.shape[1]], address, 0, bits, machine.arch.cols)


def output(machine, fields):
    """OUTPUT: numbers of one row to the output stream."""
    arch, count = machine.arch, fields["count"]
    group, lane = divmod(fields["row"], arch.post_rows)
    tiles = -(-count // arch.cols)
    memory = getattr(machine.state, NUMBER_MEMORIES[fields["src"]])
    words = read_words(memory, fields["src_addr"] + group,
                       (tiles - 1) * arch.drain_cycles + 1)[:, ::arch.drain_cycles, lane]
    machine.outputs.append(words.reshape(len(words), -1)[:, :count].astype(np.int64))
