"""Export and load: any composition of integer layers, and refusals in one sentence."""

import numpy as np
import pytest
import torch
from torch import nn

from bivit.models import ExportError, ViTConfig, export, load, random_graph, random_model, to_graph
from bivit.models import integer as layers
from bivit.models.registry import MODELS
from bivit.models.tracing import GraphModel
from bivit.models.vit import build

CONFIGS = [
    ViTConfig(img_size=(6, 9), patch_size=3, in_chans=2, num_classes=5, embed_dim=21, depth=2,
              num_heads=3, mlp_ratio=1.5, class_token=False),
    ViTConfig(img_size=(1, 39), patch_size=1, in_chans=3, num_classes=4, embed_dim=38, depth=1,
              num_heads=2),
    ViTConfig(img_size=1, patch_size=1, in_chans=1, num_classes=1, embed_dim=1, depth=1,
              num_heads=1, class_token=False),
]


def _images(shape, count=3):
    return torch.from_numpy(np.random.default_rng(1).integers(0, 256, (count, *shape), np.uint8))


@pytest.mark.parametrize("config", [*CONFIGS, MODELS["bivit_digits"]])
def test_export_and_load_compute_the_same(config, tmp_path):
    images, model = _images(config.image_shape), random_model(config, 7)
    path = tmp_path / "model.safetensors"
    graph = export(model, images, path, metadata={"note": "random"})
    assert graph.metadata["note"] == "random"
    loaded = load(path)
    values = loaded.values(images)
    for index, image in enumerate(images):
        for name, value in graph.evaluate(image.numpy()).items():
            assert np.array_equal(values[name][index].numpy(), value), name
    assert torch.equal(loaded(images), model(images)[:, 0])
    observed = loaded.observe(images)
    assert {"patch_embed.patches", "patch_embed.embed", "blocks.0.norm1", "blocks.0.attn.softmax",
            "blocks.0.attn.out_sign", "blocks.0.attn.residual", "blocks.0.norm2",
            "blocks.0.mlp.fc1_sign", "blocks.0.mlp.residual", "norm", "logits"} <= set(observed)
    assert not {"blocks.0.attn.q", "head"} & set(observed)


def test_random_models_are_seeded_and_alive():
    config = CONFIGS[0]
    same = [random_graph(config, seed) for seed in (3, 3, 4)]
    tensors = [[value.tolist() for node in graph.nodes for value in node.tensors.values()]
               for graph in same]
    assert tensors[0] == tensors[1] != tensors[2]
    observed = GraphModel(random_graph(MODELS["bivit_digits"], 0)).observe(_images((1, 8, 8), 8))
    for name, value in observed.items():
        assert bool((value != value[:1]).any()), name
    assert len(set(observed["logits"].flatten(1).argmax(-1).tolist())) > 1


class _Net(nn.Module):
    """Patches to a sum over their pixels, with one module to vary."""

    def __init__(self, extra=None):
        super().__init__()
        self.patches = layers.Patchify(patch_size=2)
        self.proj = layers.PlaneLinear(weight=torch.ones(3, 4, dtype=torch.int64))
        self.scaled = layers.Rescale(scale=torch.full((3,), 9), bias=torch.zeros(3).long(), shift=8)
        self.extra = extra if extra is not None else nn.Identity()

    def forward(self, x):
        return self.extra(self.scaled(self.proj(self.patches(x))))


def test_free_composition_with_shared_and_unused_layers():
    class Shared(_Net):
        def forward(self, x):
            dot = self.proj(self.patches(x))
            self.extra(self.proj(self.patches(x)))
            return self.scaled(dot, self.scaled(dot))

    model, images = Shared(), _images((1, 4, 4))
    graph = to_graph(model, (1, 4, 4))
    assert [node.name for node in graph.nodes] == ["patches", "proj", "scaled", "scaled@2"]
    assert torch.equal(GraphModel(graph)(images), model(images).flatten(1))


class _Halved(nn.Module):
    def forward(self, x):
        return x // 2


class _Branching(_Net):
    def forward(self, x):
        return self.proj(self.patches(x)) if x.sum() > 0 else x


class _Overridden(layers.Rescale):
    def forward(self, x, addend=None):
        return super().forward(x) + 1


def _broken_graph():
    net = _Net()
    net.proj = layers.PlaneLinear(weight=torch.ones(3, 5, dtype=torch.int64))
    return net


def _float_buffer(value):
    net = _Net()
    net.scaled.scale = torch.tensor([1.0, value, 3.0])
    return net


def _replaced():
    net = _Net()
    net.scaled = _Overridden(scale=torch.full((3,), 9), bias=torch.zeros(3).long(), shift=8)
    return net


@pytest.mark.parametrize("model, pattern", [
    (_Net(nn.Softmax(-1)), "layer extra: Softmax is not an integer layer; replace it"),
    (_Net(nn.Linear(3, 3)), "layer extra: weight is a torch.float32 parameter, not an integer"),
    (_Net(_Halved()), "layer extra: its forward uses floordiv, which is not a layer; use layers"),
    (_Branching(), "_Branching cannot be traced .*; let its forward only call layers"),
    (_float_buffer(2.0), "layer scaled: scale is torch.float32, not integer; convert"),
    (_float_buffer(float("nan")), "scale is torch.float32 with NaN or infinite values"),
    (_broken_graph(), r"layer proj \(plane_linear\): weight has shape \(3, 5\) where"),
    (_replaced(), "layer scaled: the model computes something else than its layers"),
    (build(CONFIGS[2], "binary"), "float32 parameter, not an integer buffer; convert the model"),
])
def test_refusals(model, pattern, tmp_path):
    path = tmp_path / "model.safetensors"
    images = _images((1, 4, 4))
    with pytest.raises(ExportError, match=pattern) as error:
        export(model, images, path)
    assert "\n" not in str(error.value) and not path.exists()


def test_bad_examples_are_refused(tmp_path):
    for example in (torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8)):
        with pytest.raises(ExportError, match="give images as torch.uint8 of shape"):
            export(_Net(), example, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="images must be torch.uint8 of shape"):
        GraphModel(to_graph(_Net(), (1, 4, 4)))(_images((1, 4, 2)))
