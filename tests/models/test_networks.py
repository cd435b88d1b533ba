"""Float networks: names of the checkpoints, timm's logits, shapes of every small variant."""

import pytest
import torch

from bivit.models.registry import create, network, networks
from bivit.models.swin import Swin, SwinConfig
from bivit.models.windows import merge, partition, shift_mask
from timm_models import create as create_timm

MICRO = [name for name in networks() if "micro" in name]
EIGHT_BITS = ("bivit_deit_micro", "bivit_w1a8_swin_micro", "bi_vit_deit_micro", "bi_vit_swin_micro",
              "bivit_nest_micro", "binaryvit_micro")


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors gain nothing from threads, and tests run beside each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def images(name, count=2, seed=0):
    """Random images of a network's shape."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, *network(name).config.image_shape), dtype=torch.uint8,
                         generator=generator)


def shapes(model):
    """Names and shapes of a state dict."""
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def affine(prefix, *shape, bias=True):
    """A weight and its bias."""
    result = {f"{prefix}.weight": shape}
    return result | {f"{prefix}.bias": shape[:1]} if bias else result


def block(prefix, dim, *, scales=()):
    """Transformer block in timm's names."""
    layers = {"attn.qkv": (3 * dim, dim), "attn.proj": (dim, dim), "mlp.fc1": (4 * dim, dim),
              "mlp.fc2": (dim, 4 * dim)}
    result = affine(f"{prefix}.norm1", dim) | affine(f"{prefix}.norm2", dim)
    for layer, shape in layers.items():
        result |= affine(f"{prefix}.{layer}", *shape)
        if layer in scales:
            result[f"{prefix}.{layer}.scaling_factor"] = (shape[0], 1)
    return result


ALL = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")


def deit(dim, *, distilled=False, scales=()):
    """DeiT's checkpoint."""
    result = {"cls_token": (1, 1, dim), "pos_embed": (1, 197 + distilled, dim)}
    result |= affine("patch_embed.proj", dim, 3, 16, 16) | affine("norm", dim)
    result |= affine("head", 1000, dim)
    for index in range(12):
        result |= block(f"blocks.{index}", dim, scales=scales)
    if distilled:
        result |= {"dist_token": (1, 1, dim)} | affine("head_dist", 1000, dim)
    return result


def swin(depths, *, scales=()):
    """Swin's checkpoint."""
    result = affine("patch_embed.proj", 96, 3, 4, 4) | affine("patch_embed.norm", 96)
    result |= affine("norm", 768) | affine("head.fc", 1000, 768)
    for stage, depth in enumerate(depths):
        dim = 96 << stage
        for index in range(depth):
            prefix = f"layers.{stage}.blocks.{index}"
            result |= block(prefix, dim, scales=scales)
            result[f"{prefix}.attn.relative_position_bias_table"] = (169, 3 << stage)
        if stage:
            prefix = f"layers.{stage}.downsample"
            result |= affine(f"{prefix}.norm", 2 * dim)
            result |= affine(f"{prefix}.reduction", dim, 2 * dim, bias=False)
            if scales:
                result[f"{prefix}.reduction.scaling_factor"] = (dim, 1)
    return result


def normed(prefix, dim):
    """BatchNorm."""
    return affine(prefix, dim) | {f"{prefix}.running_mean": (dim,), f"{prefix}.running_var": (dim,),
                                  f"{prefix}.num_batches_tracked": ()}


def relu(prefix, dim):
    """RPReLU."""
    return {f"{prefix}.{name}": (dim,) for name in ("move1", "move2", "prelu.weight")}


def scale(prefix, dim):
    """Affine layer."""
    return {f"{prefix}.alpha": (dim,), f"{prefix}.move": (dim,)}


def dense(prefix, dim, out_dim, *, scaled=True):
    """Binary linear layer of BinaryViT with what surrounds it."""
    result = {f"{prefix}.move": (dim,), f"{prefix}.dense.weight": (out_dim, dim)}
    result |= normed(f"{prefix}.norm", out_dim) | relu(f"{prefix}.rprelu", out_dim)
    return result | scale(f"{prefix}.layerscale", out_dim) if scaled else result


def binaryvit(*, some_fp=False):
    """BinaryViT's checkpoint."""
    result = affine("vit.embeddings.patch_embeddings.projection", 64, 3, 4, 4)
    result |= normed("vit.embeddings.norm", 64) | normed("vit.layernorm", 512)
    result |= {"vit.embeddings.position_embeddings": (1, 3136, 64)}
    result |= affine("classifier", 1000, 512)
    for index, stage in enumerate([0] * 3 + [1] * 4 + [2] * 8 + [3] * 4):
        dim, hidden = 64 << stage, (512, 1024, 1024, 2048)[stage]
        layer = f"vit.encoder.layer.{index}"
        attention = f"{layer}.attention.attention"
        for letter, name in zip("qkv", ("query", "key", "value"), strict=True):
            result |= {f"{attention}.move{letter}": (dim,), f"{attention}.move{letter}2": (dim,)}
            result |= affine(f"{attention}.{name}", dim, dim, bias=False)
            result |= normed(f"{attention}.norm{letter}", dim)
            result |= relu(f"{attention}.rprelu{letter}", dim)
        if stage < 2:
            result |= {f"{attention}.mover": (dim,)} | normed(f"{attention}.norm_r", dim)
            result |= affine(f"{attention}.reduction", dim, dim, bias=False)
            result |= relu(f"{attention}.rprelur", dim)
        result |= {f"{attention}.att_prob_clip": ()} | normed(f"{attention}.norm_context", dim)
        result |= relu(f"{attention}.rprelu_context", dim)
        result |= dense(f"{layer}.attention.output", dim, dim)
        result |= dense(f"{layer}.intermediate", dim, hidden, scaled=False)
        result |= dense(f"{layer}.output", hidden, dim)
        for name in ("before", "after"):
            result |= normed(f"{layer}.layernorm_{name}", dim)
        for name in ("h3", "w3", "h5", "w5"):
            result |= scale(f"{layer}.layerscale_{name}", dim)
    for stage in (1, 2, 3):
        dim, out_dim, prefix = 32 << stage, 64 << stage, f"vit.encoder.patch_embed{stage}"
        result |= affine(f"{prefix}.proj", out_dim, dim, 2, 2, bias=False)
        result |= normed(f"{prefix}.norm0", dim) | normed(f"{prefix}.norm", out_dim)
        result[f"{prefix}.position_embeddings"] = (1, (56 >> stage) ** 2, out_dim)
        if not some_fp:
            result |= {f"{prefix}.move": (1, dim, 1, 1)} | relu(f"{prefix}.rprelu", out_dim)
    return result


def bi_vit_deit(dim, heads):
    """Bi-ViT's DeiT checkpoint."""
    result = deit(dim, distilled=True)
    for prefix in (f"blocks.{index}.attn" for index in range(12)):
        result |= affine(f"{prefix}.norm_q", 64) | affine(f"{prefix}.norm_k", 64)
        result |= quantizers(prefix, heads)
    return result


def quantizers(prefix, heads):
    """Scales and zero points of one attention."""
    return {f"{prefix}.{part}_act.{name}": (count,) for part in ("q", "k", "v", "attn")
            for name, count in (("alpha", heads), ("zero_point", heads), ("init_state", 1),
                                ("signed", 1))}


def bi_vit_swin(depths):
    """Bi-ViT's Swin checkpoint, in timm's names."""
    result = swin(depths)
    for stage, depth in enumerate(depths):
        for index in range(depth):
            result |= quantizers(f"layers.{stage}.blocks.{index}.attn", 3 << stage)
        if stage:
            prefix, dim = f"layers.{stage}.downsample.reduction", 96 << stage
            result |= {f"{prefix}.alpha": (dim,), f"{prefix}.init_state": (1,),
                       f"{prefix}.act.alpha": (2 * dim,), f"{prefix}.act.zero_point": (2 * dim,),
                       f"{prefix}.act.init_state": (1,), f"{prefix}.act.signed": (1,)}
    return result


NAMES = {
    "deit_tiny": (deit(192), 152), "deit_small": (deit(384), 152), "deit_base": (deit(768), 152),
    "distilled_deit_tiny": (deit(192, distilled=True), 155),
    "bivit_deit_tiny": (deit(192, scales=ALL), 200),
    "bivit_w1a32_deit_tiny": (deit(192, scales=ALL), 200),
    "bibert_deit_tiny": (deit(192), 152), "bi_real_deit_tiny": (deit(192), 152),
    "bi_vit_deit_tiny": (bi_vit_deit(192, 3), 395),
    "swin_tiny": (swin((2, 2, 6, 2)), 173), "swin_small": (swin((2, 2, 18, 2)), 329),
    "bivit_swin_tiny": (swin((2, 2, 6, 2), scales=ALL), 224),
    "bi_vit_swin_small": (bi_vit_swin((2, 2, 18, 2)), 731),
    "binaryvit": (binaryvit(), 1919), "some_fp_binaryvit": (binaryvit(some_fp=True), 1907),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_and_shapes_of_the_checkpoints(name):
    with torch.device("meta"):
        model = create(name)
    expected, count = NAMES[name]
    assert shapes(model) == expected and len(expected) == count


TIMM = {
    "deit_tiny": ("deit_tiny_patch16_224", {}),
    "distilled_deit_tiny": ("deit_tiny_distilled_patch16_224", {}),
    "swin_tiny": ("swin_tiny_patch4_window7_224", {}),
    "nest_tiny": ("nest_tiny", {}),
}


@pytest.mark.parametrize("name", TIMM)
def test_timm_gives_the_same_logits(name):
    torch.manual_seed(1)
    theirs = create_timm(TIMM[name][0]).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    ours = create(name).eval()
    ours.load_state_dict(theirs.state_dict())
    assert shapes(ours) == shapes(theirs)
    pixels = images(name, 1)
    with torch.no_grad():
        expected, logits = theirs((2 * pixels.float() - 255) / 255), ours(pixels)
    assert float(expected.std()) > 0.1
    assert torch.allclose(logits, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("name, eight_bits", [
    *((name, False) for name in MICRO), *((name, True) for name in EIGHT_BITS)])
def test_micro_networks_run_and_learn(name, eight_bits):
    torch.manual_seed(0)
    model, pixels = create(name, eight_bits=eight_bits), images(name, 4)
    logits = model.train()(pixels)
    assert logits.shape == (4, 10) and bool(torch.isfinite(logits).all())
    logits.square().mean().backward()
    missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    unused = [name for name in missing if not name.endswith(("qkv.bias", "proj.bias", "fc1.bias",
                                                             "fc2.bias"))]
    assert not unused and (not missing or name.startswith(("bi_vit", "bi_real")))
    model.eval()
    with torch.no_grad():
        together, alone = model(pixels), model(pixels[:1])
    assert torch.allclose(together[:1], alone, atol=1e-4)
    assert not torch.allclose(together[0], together[1])


def test_windows_and_masks():
    image = torch.arange(2 * 8 * 8 * 3).view(2, 8, 8, 3)
    parts = partition(image, 4)
    assert parts.shape == (2, 4, 16, 3)
    assert torch.equal(parts[1, 2].view(4, 4, 3), image[1, 4:, :4])
    assert torch.equal(merge(parts, 4, 8), image)
    mask = shift_mask(8, 4, 2)
    row, column = torch.arange(8).repeat_interleave(8), torch.arange(8).repeat(8)
    place = partition(torch.stack([row, column], -1).view(1, 8, 8, 2), 4)[0]
    wraps = place >= 6
    expected = torch.where((wraps[:, :, None] == wraps[:, None]).all(-1), 0.0, -100.0)
    assert torch.equal(mask, expected)


def test_a_stage_of_one_window_has_no_shift():
    model = Swin(SwinConfig(img_size=32, patch_size=2, embed_dims=(8, 16, 32), depths=(2, 2, 2),
                            num_heads=(1, 1, 2), window_size=4, num_classes=3))
    shifts = [[block.shift for block in stage.blocks] for stage in model.layers]
    assert shifts == [[0, 2], [0, 2], [0, 0]]


def test_configurations_that_cannot_be():
    with pytest.raises(ValueError, match="window_size 7 does not divide 16"):
        SwinConfig(img_size=64, embed_dims=(8,), depths=(1,), num_heads=(1,))
    with pytest.raises(ValueError, match="num_heads 3 does not divide embed_dim 8"):
        SwinConfig(embed_dims=(8,), depths=(1,), num_heads=(3,))
    with pytest.raises(ValueError, match="there is no network nothing"):
        create("nothing")
