"""Attention of every method to integer layers, alone or inside windows."""

import dataclasses
import math

import torch

from bivit.compiler.ir.numeric import (
    ATTENTION_FRACTION,
    EXPONENTIAL_SHIFT,
    MASKING_BIAS,
    SCORE_FRACTION,
)
from bivit.models import integer
from bivit.models.baselines import BiRealLinear, MeanLinear, bool_bits, sign_bits
from bivit.models.conversion.constants import (
    ConvertError,
    double,
    norm_bit_constants,
    rescale_constants,
    sign_constants,
)
from bivit.models.headwise import HeadAttention, HeadNormAttention
from bivit.models.integer_vit import IntegerAttention
from bivit.models.layers import SOFTMAX_THRESHOLD, BinaryLinear, softmax_bits

__all__ = ["Windows", "attention", "binary_linear", "product_constants", "softmax_delta"]

LEAST_LIMIT = -(2**23)
"""A limit that every score reaches."""
NEVER = (1 << (ATTENTION_FRACTION + 1)) - 1
"""An absolute threshold that no attention reaches."""
LARGEST_BIAS = -MASKING_BIAS - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Windows:
    """Windows that attend to themselves.

    Parameters
    ----------
    count : int
    index : int64 tensor (tokens,), optional
        Tokens of one window behind the other; None where they already lie so.
    mask : bool tensor (count, n, n), optional
        Pairs of tokens of a window that do not see each other.
    """

    count: int
    index: torch.Tensor | None = None
    mask: torch.Tensor | None = None


def softmax_delta(head_dim: int, fraction: int = 0) -> int:
    """Greatest distance from the row's maximal score at which the attention is still 1.

    Parameters
    ----------
    fraction : int
        Fractional bits of the scores.
    """
    return math.floor(-math.log(SOFTMAX_THRESHOLD) * math.sqrt(head_dim) * 2**fraction)


def product_constants(layer, name):
    """Bits of a binary layer's weight, scale and bias of its products.

    Returns
    -------
    tuple of int64 tensor (out, in), float64 tensor (out,), float64 tensor (out,)
    """
    weight = double(layer.weight)
    zero = torch.zeros(len(weight), dtype=torch.float64)
    if isinstance(layer, BinaryLinear):
        latent, scale = weight - weight.mean(1, keepdim=True), double(layer.scaling_factor)[:, 0]
    elif isinstance(layer, MeanLinear):
        latent, scale = double(layer.latent()), weight.abs().mean(1)
    else:
        raise ConvertError(f"layer {name}: {type(layer).__name__} has no integer form; train it "
                           "as BinaryLinear")
    added = layer.bias is not None and not isinstance(layer, BiRealLinear)
    return (latent >= 0).to(torch.int64), scale, double(layer.bias) if added else zero


def binary_linear(layer, name, rows=slice(None)):
    """Integer product of some rows of a binary layer, with scale and bias."""
    bits, scale, bias = product_constants(layer, name)
    return integer.BinaryLinear(weight=bits[rows]), scale[rows], bias[rows]


def attention(layer, name, *, unit, windows=None, interleaved=False) -> IntegerAttention:
    """The integer form of an attention module, added to the residual stream.

    Parameters
    ----------
    layer : BinaryAttention or HeadAttention
    name : str
        Path of the layer, for messages.
    unit : float
        One in the residual stream.
    windows : Windows, optional
    interleaved : bool
        The projection takes the heads' channels in turns (NesT).
    """
    builder = _HeadWise if isinstance(layer, HeadAttention) else _Scaled
    return builder(layer, name, windows or Windows(count=1)).build(unit, interleaved)


class _Scaled:
    """BiViT, BiBERT and the way of Bi-Real Net: signs without scales."""

    def __init__(self, layer, name, windows):
        self.layer, self.name, self.windows = layer, name, windows
        self.heads = layer.num_heads
        self.dim = layer.proj.in_features
        self.head_dim = self.dim // self.heads

    def build(self, unit, interleaved):
        parts = {}
        for index, part in enumerate("qkv"):
            rows = slice(index * self.dim, (index + 1) * self.dim)
            linear, scale, bias = binary_linear(self.layer.qkv, f"{self.name}.qkv", rows)
            parts |= self.operand(part, linear, scale, bias)
        parts |= self.score_layers()
        if self.windows.index is not None:
            index = self.windows.index
            back = torch.empty_like(index)
            back[index] = torch.arange(len(index))
            parts["windows"] = integer.Gather(index=index[:, None], fill=0)
            parts["back"] = integer.Gather(index=back[:, None], fill=0)
        parts["attend"], descending = self.attend()
        parts["out_sign"] = integer.Threshold(
            threshold=torch.zeros(self.dim, dtype=torch.int64), descending=descending)
        bits, scale, bias = product_constants(self.layer.proj, f"{self.name}.proj")
        if interleaved:
            bits = bits.unflatten(1, (self.head_dim, self.heads)).transpose(1, 2).flatten(1)
        parts["proj"] = integer.BinaryLinear(weight=bits)
        parts["residual"] = integer.Rescale(
            **rescale_constants(scale * unit, bias * unit, f"{self.name}.proj"), bits=16)
        return IntegerAttention(**parts)

    def operand(self, part, linear, scale, bias):
        """Layers of queries, keys or values."""
        constants = sign_constants(scale, bias, self.layer.qkv.in_features)
        return {part: linear, f"{part}_sign": integer.Threshold(**constants)}

    def attend(self):
        """The product with the values, and the channels whose sign turns around."""
        return integer.Attend(), torch.zeros(self.dim, dtype=torch.int64)

    def score_scale(self):
        """Real worth of a unit of a dot product, by head."""
        return torch.full((self.heads,), self.layer.scale, dtype=torch.float64)

    def score_layers(self):
        """Scores, their bias, attention bits."""
        count = self.windows.count
        layers = {"scores": integer.Scores(num_heads=self.heads) if count == 1 else
                  integer.WindowScores(num_heads=self.heads, windows=count)}
        table = getattr(self.layer, "relative_position_bias_table", None)
        if table is not None:
            layers["bias"] = self.bias(table)
        return layers | {"softmax": self.softmax(SCORE_FRACTION if table is not None else 0)}

    def bias(self, table):
        """Relative positions and mask, in units of the scores."""
        values = double(table)[self.layer.relative_position_index].permute(2, 0, 1)
        values = values / self.score_scale()[:, None, None] * 2**SCORE_FRACTION
        # A limit of 0 is exact with the next integer below: 16 dot + bias is a whole number.
        whole = torch.floor if getattr(self.layer, "bits", None) is bool_bits else torch.round
        values = whole(values).clamp(-LARGEST_BIAS, LARGEST_BIAS).to(torch.int64)
        if self.windows.mask is None:
            return integer.ScoreBias(bias=values[None], kind=torch.zeros(
                self.windows.count, dtype=torch.int64))
        kinds, kind = self.windows.mask.flatten(1).to(torch.int64).unique(
            dim=0, return_inverse=True)
        masks = kinds.reshape(-1, 1, *values.shape[1:]).to(torch.bool)
        return integer.ScoreBias(bias=torch.where(masks, MASKING_BIAS, values), kind=kind)

    def softmax(self, fraction):
        """Attention bits of scores with `fraction` fractional bits."""
        bits = self.layer.bits
        if bits is softmax_bits:
            return integer.SoftmaxThreshold(delta=softmax_delta(self.head_dim, fraction))
        limits = {bool_bits: 0, sign_bits: LEAST_LIMIT}
        if bits not in limits:
            raise ConvertError(f"layer {self.name}: attention bits by {bits.__name__} have no "
                               "integer form; use softmax_bits, bool_bits or sign_bits")
        return integer.ScoreThreshold(limit=limits[bits])


def _turned(turned, *, threshold, descending):
    """The opposite bits of some channels: ``x >= t`` becomes ``x <= t - 1``, and back."""
    opposite = threshold + torch.where(descending == 1, 1, -1)
    return {"threshold": torch.where(turned, opposite, threshold),
            "descending": torch.where(turned, 1 - descending, descending)}


class _HeadWise(_Scaled):
    """Bi-ViT: scale and zero point of every head for queries, keys, values and attention.

    A zero point z of the queries adds ``-z`` times the sum of a key's signs to its score: the keys'
    channels are there ``|z|`` times more, opposite to constant query channels. That of the keys
    adds the same to all scores of a row, which no softmax sees.
    """

    def __init__(self, layer, name, windows):
        super().__init__(layer, name, windows)
        self.alpha, self.zero = {}, {}
        for part in ("q", "k", "v", "attn"):
            act = getattr(layer, f"{part}_act")
            self.alpha[part] = double(act.alpha)
            self.zero[part] = torch.round(double(act.zero_point)).to(torch.int64)
            if not bool((self.alpha[part] != 0).all()):
                raise ConvertError(f"layer {name}.{part}_act: a scale is 0; train it again")
        if bool((self.zero["v"].abs() > 1).any()):
            raise ConvertError(f"layer {name}.v_act: a zero point is beyond -1..1; train it with "
                               "values around zero")
        self.copies = int(self.zero["q"].abs().max())

    def score_scale(self):
        return (self.alpha["q"] * self.alpha["k"]).abs() * self.layer.scale

    def _channels(self, values):
        """One value a head, for every channel."""
        return values.repeat_interleave(self.head_dim)

    def operand(self, part, linear, scale, bias):
        alpha, zero = self._channels(self.alpha[part]), self._channels(self.zero[part])
        if part == "v":
            return {part: linear, "v_sign": integer.Threshold(**sign_constants(
                scale / alpha, bias / alpha + zero, self.layer.qkv.in_features))}
        # A negative product of scales turns the keys around.
        turned = self._channels((self.alpha["q"] * self.alpha["k"]) < 0) & (part == "k")
        if isinstance(self.layer, HeadNormAttention):
            turn = torch.where(turned, -1.0, 1.0)
            layers = self.normed(part, linear, scale, bias, turn * alpha, turn * zero)
        else:
            constants = _turned(turned, **sign_constants(
                scale / alpha, bias / alpha + zero, self.layer.qkv.in_features))
            layers = {part: linear, f"{part}_sign": integer.Threshold(**constants)}
        if not self.copies:
            return layers
        if isinstance(self.layer, HeadNormAttention):
            raise ConvertError(f"layer {self.name}.q_act: queries behind a norm have zero points "
                               "other than 0, which have no integer form; train it with queries "
                               "around zero")
        return self.extended(part, layers)

    def normed(self, part, linear, scale, bias, alpha, zero):
        """Numbers, then LayerNorm of every head and sign."""
        norm = getattr(self.layer, f"norm_{part}")
        largest = float((scale.abs() * self.layer.qkv.in_features + bias.abs()).max())
        steepest = float(scale.abs().max())
        unit = 2.0 ** math.floor(math.log2(min((2**15 - 1) / (largest + 1e-30),
                                               127 / (steepest + 1e-30))))
        gamma, beta = double(norm.weight), double(norm.bias)
        constants = norm_bit_constants(gamma.repeat(self.heads) / alpha,
                                       beta.repeat(self.heads) / alpha + zero)
        eps = max(1, round(self.head_dim**2 * norm.eps * unit**2))
        return {part: linear,
                f"{part}_numbers": integer.Rescale(**rescale_constants(
                    scale * unit, bias * unit, f"{self.name}.qkv"), bits=16),
                f"{part}_norm": integer.HeadNormBits(**constants, eps=min(eps, 2**32 - 1),
                                                     num_heads=self.heads)}

    def extended(self, part, layers):
        """`copies` more times the channels of every head, constant for queries."""
        linear, sign = layers[part], layers[f"{part}_sign"]
        times = self.copies + 1

        def repeated(values):
            return values.unflatten(0, (self.heads, -1)).repeat(
                1, times, *(1,) * (values.ndim - 1)).flatten(0, 1)

        threshold, descending = repeated(sign.threshold), repeated(sign.descending.to(torch.int64))
        copy = torch.arange(self.heads * times * self.head_dim) // self.head_dim % times
        zero = self.zero["q"].repeat_interleave(times * self.head_dim)
        extra = copy > 0
        used = extra & (copy <= zero.abs())
        fan_in = self.layer.qkv.in_features
        # Constant bits: -1 against every key of zero point 1; copies that are not needed see
        # constant keys.
        constant = extra if part == "q" else extra & ~used
        low = torch.where(used & (zero > 0), fan_in + 1, -fan_in)
        threshold = torch.where(constant, low if part == "q" else -fan_in, threshold)
        descending = torch.where(constant, 0, descending)
        return {part: integer.BinaryLinear(weight=repeated(linear.weight.to(torch.int64))),
                f"{part}_sign": integer.Threshold(threshold=threshold, descending=descending)}

    def attend(self):
        _, _, level = self.attention_levels()
        turned = self._channels(level * self.alpha["v"] < 0).to(torch.int64)
        if bool((self.zero["v"] != 0).any()):
            return integer.AttendLevels(zero=self.zero["v"]), turned
        return integer.Attend(), turned

    def attention_levels(self):
        """Thresholds, flips and the level of a one, for attention of which zero is the other."""
        thresholds, flips, levels = [], [], []
        for head, (alpha, zero) in enumerate(zip(self.alpha["attn"].tolist(),
                                                 self.zero["attn"].tolist(), strict=True)):
            one, other, limit = (1 - zero) * alpha, (-1 - zero) * alpha, -zero * alpha
            always = limit <= 0 if alpha > 0 else limit >= 1
            never = limit > 1 if alpha > 0 else limit < 0
            threshold, flip = max(1, round(limit * 2**ATTENTION_FRACTION)), alpha < 0
            if always or never:
                one = one if always else other
                threshold, flip = NEVER, one != 0
            elif one == 0:
                one, flip = other, not flip
            elif other != 0:
                raise ConvertError(f"layer {self.name}.attn_act: the zero point {zero} of head "
                                   f"{head} gives two levels other than 0, which have no integer "
                                   "form; train it with a zero point of -1")
            thresholds.append(min(threshold, NEVER))
            flips.append(int(flip))
            levels.append(one)
        return thresholds, flips, torch.tensor(levels, dtype=torch.float64)

    def softmax(self, fraction):
        thresholds, flips, _ = self.attention_levels()
        # Distances have SCORE_FRACTION bits below a unit of the dot product.
        multiplier = torch.round(self.score_scale() * math.log2(math.e) * 64
                                 * 2.0 ** (EXPONENTIAL_SHIFT - SCORE_FRACTION)).to(torch.int64)
        if bool((multiplier > 2**16 - 1).any()):
            raise ConvertError(f"layer {self.name}: the scales of queries and keys are beyond what "
                               "exponentials reach; train it with smaller scales")
        return integer.SoftmaxAbsolute(multiplier=multiplier.clamp(min=1),
                                       threshold=torch.tensor(thresholds),
                                       flip=torch.tensor(flips),
                                       input_kind="scores" if fraction else "dot")
