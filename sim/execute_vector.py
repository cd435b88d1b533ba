"""What the instructions of the LOAD, SOFTMAX and VEC units do."""

import numpy as np

from bivit.compiler.ir import numeric
from bivit.hw.blocks.checks import ErrorCode
from bivit.sim.dispatch import MachineError
from bivit.sim.execute_matrix import valid_columns
from bivit.sim.memory_state import read_numbers, read_words, write_words
from bivit.sim.pieces import place_pieces

__all__ = ["load", "norm_bits", "norm_codes", "output", "softmax"]

_BEAT_BYTES = 4
_CODE_BITS = 8


def load(machine, fields):
    """LOAD: tokens of pixels from the stream, split into planes."""
    arch, tokens, pixels = machine.arch, fields["tokens"], fields["pixels"]
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
    data = data.reshape(len(data), tokens, token_bytes)[..., :pixels]
    words = -(-pixels // arch.lanes)
    padded = np.zeros((*data.shape[:2], words * arch.lanes), np.uint8)
    padded[..., :pixels] = data
    padded = padded.reshape(len(data), tokens, words, arch.lanes).transpose(0, 2, 1, 3)
    rows = machine.state.imem[:, :, fields["row"]:fields["row"] + tokens]
    for plane in range(_CODE_BITS):
        address = fields["dst_addr"] + plane * fields["k_words"] & 0xFFFF
        write_words(rows, address, padded >> plane & 1)


def softmax(machine, fields):
    """SOFTMAX: counts of a slot against their row minimum, into PMEM."""
    arch, slot, tiles = machine.arch, fields["slot"], fields["n_tiles"]
    counts = read_words(machine.scores, slot * arch.score_tiles, tiles)
    if slot < arch.score_slots:
        limit = machine.minimum[:, slot] + np.float32(fields["delta"])
    else:
        limit = np.zeros_like(machine.minimum[:, 0])
    near = counts <= limit[:, None, :, None]
    near &= valid_columns(arch, tiles, fields["keys"])[:, None]
    near = near[..., :arch.keys_per_group].transpose(0, 2, 1, 3)
    place_pieces(machine.state.pmem, fields["dst_addr"], 0,
                 near.reshape(*near.shape[:2], -1), arch.keys_per_group)


def _rows(machine, fields):
    """Numbers of a NORM instruction, float64 (images, rows, columns)."""
    arch = machine.arch
    rows = 0, min(fields["groups"] * arch.post_rows, arch.rows)
    return read_numbers(arch, machine.state.resid, fields["src_addr"], fields["n_tiles"],
                        rows).astype(np.float64)


def _statistics(rows, fields):
    """Sum and sigma of :func:`numeric.row_sigma`, exact: integers below 2**53."""
    count, rows = fields["channels"], rows[..., :fields["channels"]]
    total = rows.sum(-1, keepdims=True)
    squares = np.einsum("irc,irc->ir", rows, rows)[..., None].astype(np.int64)
    exact = total.astype(np.int64)
    return total, numeric.isqrt(count * squares - exact * exact + fields["eps"])


def norm_bits(machine, fields):
    """NORM_BITS: LayerNorm and sign."""
    rows = _rows(machine, fields)
    total, sigma = _statistics(rows, fields)
    factor, factors, limit = machine.constants.norm_bits(
        fields["param_addr"], fields["n_tiles"], fields["channels"])
    rows *= factor
    rows -= np.concatenate([total, sigma], axis=-1) @ factors
    _write(machine, fields, fields["dst_addr"], (rows >= limit).view(np.uint8))


def norm_codes(machine, fields):
    """NORM_CODES: LayerNorm to 8-bit codes, as planes."""
    rows = _rows(machine, fields)
    total, sigma = _statistics(rows, fields)
    factor, offset = machine.constants.norm_codes(fields["param_addr"], fields["n_tiles"],
                                                  fields["channels"], fields["shift"])
    mantissa, exponent = numeric.reciprocal(np.maximum(sigma, 1))
    rows *= fields["channels"]
    rows -= total
    rows *= mantissa
    n = numeric.saturate(np.floor(
        rows * np.exp2(-(16.0 + exponent - numeric.NORM_FRACTION)) + 0.5), 16)
    codes = np.clip(np.floor(n * factor + offset), 0, (1 << _CODE_BITS) - 1).astype(np.uint8)
    for plane in range(_CODE_BITS):
        address = fields["dst_addr"] + plane * fields["k_words"] & 0xFFFF
        _write(machine, fields, address, codes >> plane & 1)


def _write(machine, fields, address, bits):
    place_pieces(machine.state.xmem[:, :, :bits.shape[1]], address, 0, bits, machine.arch.cols)


def output(machine, fields):
    """OUTPUT: numbers of one row to the output stream."""
    arch, count = machine.arch, fields["count"]
    group, lane = divmod(fields["row"], arch.post_rows)
    tiles = -(-count // arch.cols)
    words = read_words(machine.state.resid, fields["src_addr"] + group,
                       (tiles - 1) * arch.drain_cycles + 1)[:, ::arch.drain_cycles, lane]
    machine.outputs.append(words.reshape(len(words), -1)[:, :count].astype(np.int64))
