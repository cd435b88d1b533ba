"""The integer layers: what the hardware computes, in PyTorch, from integer tensors to integers.

Every layer is one operation of :mod:`bivit.compiler.ir.ops`, takes a batch first and holds its
constants as integer buffers, under the names of ``docs/operations.md``. Networks are composed of
them in any way; :func:`bivit.models.export` traces the composition. The definitions are those of
:mod:`bivit.compiler.ir.numeric`, written again with PyTorch's integer operations; only matrix
products are computed in floating point, where every sum is exact
(:func:`bivit.models.integer.layer.matmul`).
"""

from bivit.models.integer.attention import (
    ScoreBias,
    ScoreThreshold,
    SoftmaxAbsolute,
    SoftmaxThreshold,
)
from bivit.models.integer.bits import Codes, Gather, HeadNormBits, NormBits, NormCodes, Threshold
from bivit.models.integer.layer import IntegerLayer, bit_length, integer_square_root
from bivit.models.integer.numbers import (
    AddTable,
    Bend,
    Embed,
    FoldChannels,
    Gelu,
    MaxPool,
    NormNumbers,
    Rescale,
    Select,
    TileChannels,
    WeightedSum,
)
from bivit.models.integer.products import (
    Attend,
    AttendLevels,
    BinaryLinear,
    Patchify,
    PlaneLinear,
    Scores,
    WindowScores,
)

__all__ = [
    "AddTable", "Attend", "AttendLevels", "Bend", "BinaryLinear", "Codes", "Embed", "FoldChannels",
    "Gather", "Gelu", "HeadNormBits", "IntegerLayer", "LAYERS", "MaxPool", "NormBits", "NormCodes",
    "NormNumbers", "Patchify", "PlaneLinear", "Rescale", "ScoreBias", "ScoreThreshold", "Scores",
    "Select", "SoftmaxAbsolute", "SoftmaxThreshold", "Threshold", "TileChannels", "WeightedSum",
    "WindowScores", "bit_length", "integer_square_root",
]

LAYERS = {layer.op: layer for layer in (
    Patchify, PlaneLinear, BinaryLinear, Scores, WindowScores, Attend, AttendLevels, ScoreBias,
    SoftmaxThreshold, ScoreThreshold, SoftmaxAbsolute, Rescale, Embed, Bend, AddTable,
    TileChannels, FoldChannels, WeightedSum, MaxPool, Gelu, NormNumbers, Select, Threshold,
    NormBits, HeadNormBits, NormCodes, Codes, Gather)}
"""Layer class of every operation."""
