"""What SOFTMAX does: scores of a slot to attention bits."""

import numpy as np

from bivit.compiler.ir import numeric
from bivit.hw.isa import FORMATS, Opcode, SoftmaxMode
from bivit.sim.execute_matrix import valid_columns
from bivit.sim.memory_state import read_words
from bivit.sim.pieces import place_pieces
from bivit.sim.products import signed

__all__ = ["softmax"]


def softmax(machine, fields):
    """SOFTMAX: attention bits of valid keys that are not masked, into PMEM."""
    arch, tiles = machine.arch, fields["n_tiles"]
    scores = read_words(machine.scores, fields["slot"] * arch.score_tiles, tiles)
    valid = valid_columns(arch, tiles, fields["keys"])[:, None]
    if fields["mode"] == SoftmaxMode.ABSOLUTE.value:
        near = _shares(machine, fields, scores, valid)
    else:
        limit = np.minimum(_limit(machine, fields), scores.dtype.type(machine.greatest_score - 1))
        near = scores <= limit[:, None, :, None]
        near &= valid
    near = near[..., :arch.keys_per_group].transpose(0, 2, 1, 3)
    place_pieces(machine.state.pmem, fields["dst_addr"], 0,
                 near.reshape(*near.shape[:2], -1), arch.keys_per_group)


def _limit(machine, fields):
    """The greatest score of each row whose bit is 1, (images, rows)."""
    minimum, delta = machine.minimum[:, fields["slot"]], fields["delta"]
    if fields["mode"] == SoftmaxMode.LIMIT.value:
        width = FORMATS[Opcode.SOFTMAX]["delta"]
        return np.full_like(minimum, signed(delta, width))
    return minimum + minimum.dtype.type(delta)


def _shares(machine, fields, scores, valid):
    """ABSOLUTE: exponentials against a share of their sum, (images, tiles, rows, cols)."""
    part = valid & (scores < machine.greatest_score)
    distance = scores - machine.minimum[:, fields["slot"], None, :, None]
    exponentials = numeric.exponential(np.where(part, distance, 0), fields["multiplier"])
    total = np.where(part, exponentials, 0).sum((1, 3), keepdims=True)
    share = exponentials << numeric.ATTENTION_FRACTION >= fields["threshold"] * total
    return (share != bool(fields["flip"])) & part
