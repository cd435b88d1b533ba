"""Export and load of a network that uses every operation."""

import numpy as np
import pytest
import torch
from torch import nn

from bivit.compiler.ir.ops import OPS
from bivit.models import ExportError, export, load, to_graph
from bivit.models import integer as layers

CHANNELS, HEADS, TOKENS, WINDOWS = 4, 2, 16, 4


def _random(low, high, *shape):
    return torch.randint(low, high, shape)


def _odd(*shape):
    return 2 * _random(-128, 128, *shape) + 1


def _scaling(channels, name=""):
    return {f"scale{name}": _random(2000, 9000, channels),
            f"bias{name}": _random(-2000, 2000, channels)}


def _limits():
    return {"threshold": _random(-3, 3, CHANNELS), "descending": _random(0, 2, CHANNELS)}


def _norm():
    return {"k": _random(-2000, 2000, CHANNELS), "kind": _random(0, 4, CHANNELS), "eps": 5}


def _heads(low, high):
    return _random(low, high, HEADS)


class EveryOperation(nn.Module):
    """Pixels (1, 4, 4) through every layer there is, to one token of numbers."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        size, permutation = TOKENS // WINDOWS, torch.randperm(TOKENS)
        self.patches = layers.Patchify(patch_size=1)
        self.windows = layers.Gather(index=permutation[:, None], fill=0)
        self.border = layers.Gather(index=_random(-1, TOKENS, TOKENS, 3), fill=7)
        self.proj = layers.PlaneLinear(weight=_odd(CHANNELS, 3))
        self.embed = layers.Embed(**_scaling(CHANNELS), table=_random(-99, 99, TOKENS, CHANNELS),
                                  shift=20, prefix=0, bits=12)
        self.q = layers.NormBits(**_norm())
        self.k = layers.HeadNormBits(**_norm(), num_heads=HEADS)
        self.v = layers.Threshold(**_limits())
        self.window_scores = layers.WindowScores(num_heads=HEADS, windows=WINDOWS)
        bias = _random(-40, 40, 2, HEADS, size, size)
        bias[1, :, 1:, 0] = -8192
        self.bias = layers.ScoreBias(bias=bias, kind=torch.tensor([0, 1, 1, 0]))
        absolute = {"threshold": _heads(10**5, 3 * 10**5), "flip": torch.tensor([0, 1])}
        self.absolute = layers.SoftmaxAbsolute(multiplier=_heads(3000, 9000), **absolute,
                                               input_kind="scores")
        self.relative = layers.SoftmaxThreshold(delta=20)
        self.limit = layers.ScoreThreshold(limit=2)
        self.scores = layers.Scores(num_heads=HEADS)
        self.plain = layers.SoftmaxAbsolute(multiplier=_heads(3000, 9000), **absolute)
        self.levels = layers.AttendLevels(zero=torch.tensor([1, -1]))
        self.attend = layers.Attend()
        self.levels_sign = layers.Threshold(**_limits())
        self.attend_sign = layers.Threshold(**_limits())
        self.plain_sign = layers.Threshold(**_limits())
        self.signed = layers.PlaneLinear(weight=_odd(CHANNELS, CHANNELS), input_kind="bits")
        self.binary = layers.BinaryLinear(weight=_random(0, 2, CHANNELS, CHANNELS))
        self.rescale = layers.Rescale(**_scaling(CHANNELS), shift=14)
        self.more = layers.Rescale(**_scaling(CHANNELS), shift=8)
        self.bend = layers.Bend(knee=_random(-9, 9, CHANNELS), **_scaling(CHANNELS, "_above"),
                                **_scaling(CHANNELS, "_below"), shift=14)
        self.add_table = layers.AddTable(table=_random(-99, 99, TOKENS, CHANNELS))
        self.tile = layers.TileChannels(copies=3)
        self.fold = layers.FoldChannels(**_scaling(CHANNELS), group=3, shift=14)
        self.sum = layers.WeightedSum(
            index=_random(-1, TOKENS, TOKENS, 5), part=torch.tensor([0, 1, 1, 2, 0]),
            source=torch.tensor([0, 1, 2]), scale=_random(-9000, 9000, 3, CHANNELS),
            bias=_random(-99, 99, CHANNELS), shift=14)
        self.pool = layers.MaxPool(index=torch.arange(TOKENS).reshape(4, 4))
        self.gelu = layers.Gelu()
        self.norm = layers.NormNumbers(**_scaling(CHANNELS), shift=14, eps=3)
        self.norm_codes = layers.NormCodes(**_scaling(CHANNELS), shift=14, eps=3)
        self.codes = layers.Codes(**_scaling(CHANNELS), shift=14)
        self.head = layers.PlaneLinear(weight=_odd(3, CHANNELS))
        self.other = layers.PlaneLinear(weight=_odd(3, CHANNELS))
        self.logits = layers.Rescale(**_scaling(3), shift=26)
        self.sum_of_logits = layers.Rescale(**_scaling(3), shift=26)
        self.select = layers.Select(token=2)

    def forward(self, x):
        x = self.embed(self.proj(self.border(self.windows(self.patches(x)))))
        q, k, v = self.q(x), self.k(x), self.v(x)
        biased = self.bias(self.window_scores(q, k))
        first = self.levels_sign(self.levels(self.absolute(biased), v))
        second = self.attend_sign(self.attend(self.relative(biased), v))
        third = self.plain_sign(self.attend(self.plain(self.scores(q, k)), v))
        y = self.bend(self.rescale(self.signed(first)), self.more(self.binary(second), x))
        z = self.fold(self.tile(self.add_table(y)))
        y = self.sum(y, z, self.more(self.binary(third)))
        fourth = self.attend_sign(self.attend(self.limit(biased), v))
        y = self.pool(self.gelu(self.norm(self.rescale(self.binary(fourth), y))))
        logits = self.logits(self.head(self.codes(y)))
        return self.select(self.sum_of_logits(self.other(self.norm_codes(y)), logits))


def test_export_and_load_compute_the_same(tmp_path):
    model = EveryOperation()
    images = torch.randint(0, 256, (3, 1, 4, 4), dtype=torch.uint8,
                           generator=torch.Generator().manual_seed(0))
    graph = export(model, images, tmp_path / "model.safetensors")
    assert {node.op for node in graph.nodes} == set(OPS)
    loaded = load(tmp_path / "model.safetensors")
    values = loaded.values(images)
    for index, image in enumerate(images):
        for name, value in graph.evaluate(image.numpy()).items():
            assert np.array_equal(values[name][index].numpy(), value), name
    assert torch.equal(loaded(images), model(images)[:, 0])
    assert len(torch.unique(loaded(images), dim=0)) == 3


@pytest.mark.parametrize("path, made, given", (("signed", "codes", "bits"),
                                               ("head", "bits", "codes"),
                                               ("plain", "scores", "dot")))
def test_a_layer_made_for_another_kind_is_refused(path, made, given):
    model = EveryOperation()
    model.get_submodule(path).input_kind = made
    with pytest.raises(ExportError, match=f"layer {path}: is made for {made} and gets {given}; "
                                          f"make it with input_kind='{given}'"):
        to_graph(model, (1, 4, 4))
