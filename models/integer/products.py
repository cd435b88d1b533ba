"""Layers that multiply: patches, linear layers, scores, what attention gathers."""

import torch

from bivit.models.integer.layer import IntegerLayer, matmul, signs, split_heads

__all__ = ["Attend", "AttendLevels", "BinaryLinear", "Patchify", "PlaneLinear", "Scores",
           "WindowScores"]


class Patchify(IntegerLayer):
    """Pixels (B, C, H, W) to patches (B, N, C * size * size): order channel, row, column."""

    op, attribute_names = "patchify", ("patch_size",)

    def __init__(self, *, patch_size):
        super().__init__()
        self.patch_size = patch_size

    def forward(self, x):
        batch, channels, height, width = x.shape
        size = self.patch_size
        grid = x.reshape(batch, channels, height // size, size, width // size, size)
        patches = grid.permute(0, 2, 4, 1, 3, 5)
        return patches.reshape(batch, (height // size) * (width // size), channels * size * size)


class PlaneLinear(IntegerLayer):
    """Odd 8-bit weights (out, in) times codes ``p`` (odd numbers ``2 p - 255``), or signs.

    Parameters
    ----------
    input_kind : {"codes", "bits"}
        What the input holds.
    """

    op = "plane_linear"

    def __init__(self, *, weight, input_kind="codes"):
        super().__init__()
        self._hold(torch.int32, weight=weight)
        self.input_kind = input_kind

    def forward(self, x):
        x = signs(x) if self.input_kind == "bits" else 2 * x.to(torch.int32) - 255
        greatest = (1 if self.input_kind == "bits" else 255) * int(self.weight.abs().max())
        return matmul(x, self.weight.T, greatest)


class BinaryLinear(IntegerLayer):
    """Bits times weight bits (out, in), both as signs."""

    op = "binary_linear"

    def __init__(self, *, weight):
        super().__init__()
        self._hold(torch.uint8, weight=weight)

    def forward(self, x):
        return matmul(signs(x), signs(self.weight).T, 1)


class Scores(IntegerLayer):
    """Query bits times key bits in each head: (B, num_heads, queries, keys)."""

    op, attribute_names = "scores", ("num_heads",)

    def __init__(self, *, num_heads):
        super().__init__()
        self.num_heads = num_heads

    def forward(self, queries, keys):
        queries, keys = (split_heads(signs(x), self.num_heads) for x in (queries, keys))
        return matmul(queries, keys.transpose(-2, -1), 1)


def _windows(x, count):
    """(B, tokens, n) to (B, windows, tokens of a window, n)."""
    return x.unflatten(1, (count, -1))


def _join_windows(x):
    """(B, windows, heads, tokens, n) to (B, heads, windows * tokens, n)."""
    return x.transpose(1, 2).flatten(2, 3)


class WindowScores(IntegerLayer):
    """Scores inside windows that lie one behind the other: (B, num_heads, T, T / windows)."""

    op, attribute_names = "window_scores", ("num_heads", "windows")

    def __init__(self, *, num_heads, windows):
        super().__init__()
        self.num_heads, self.windows = num_heads, windows

    def forward(self, queries, keys):
        queries, keys = (split_heads(_windows(signs(x), self.windows), self.num_heads)
                         for x in (queries, keys))
        return _join_windows(matmul(queries, keys.transpose(-2, -1), 1))


def _attend(attention, levels, greatest):
    """Attention bits (B, heads, T, n) times levels (B, T or n, heads * head_dim)."""
    heads, keys = attention.shape[1], attention.shape[3]
    windows = levels.shape[1] // keys
    attention = attention.unflatten(2, (windows, -1)).transpose(1, 2)
    levels = split_heads(_windows(levels, windows), heads)
    return _join_windows(matmul(attention, levels, greatest)).transpose(1, 2).flatten(2)


class Attend(IntegerLayer):
    """Sum of the value signs that each query attends to: (B, queries, channels)."""

    op = "attend"

    def forward(self, attention, values):
        return _attend(attention, signs(values), 1)


class AttendLevels(IntegerLayer):
    """The same with ``sign - zero`` for every value, one `zero` (-1, 0, 1) a head."""

    op = "attend_levels"

    def __init__(self, *, zero):
        super().__init__()
        self._hold(torch.int8, zero=zero)

    def forward(self, attention, values):
        heads = len(self.zero)
        zero = self.zero.repeat_interleave(values.shape[-1] // heads)
        return _attend(attention, signs(values) - zero, 2)
