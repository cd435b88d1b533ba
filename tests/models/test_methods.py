"""What the papers' layers compute, and the gradients that their training uses."""

import pytest
import torch
import torch.nn.functional as F

from bivit.models.baselines import (
    BiRealLinear,
    MeanLinear,
    SignedGELU,
    bool_bits,
    polynomial_sign,
    sign_bits,
)
from bivit.models.binaryvit import BinaryViT, BinaryViTConfig
from bivit.models.config import StageConfig
from bivit.models.headwise import HeadAttention, HeadMerge, HeadNormAttention, HeadSign
from bivit.models.layers import BinaryAttention
from bivit.models.multibit import CodedBinaryLinear, CodedLinear, fit_steps
from bivit.models.registry import create
from bivit.models.shifted import BinaryConv, RPReLU, ShiftLinear, clip_bits


def signs(x):
    """+1 where not negative."""
    return torch.where(x >= 0, 1.0, -1.0)


def test_polynomial_gradient_of_the_sign():
    x = torch.tensor([-2.0, -1.0, -0.75, -0.25, 0.0, 0.25, 0.5, 1.0, 3.0], requires_grad=True)
    y = polynomial_sign(x)
    assert y.tolist() == [-1, -1, -1, -1, 1, 1, 1, 1, 1]
    y.backward(torch.full((9,), 3.0))
    assert x.grad.tolist() == [0, 0, 1.5, 4.5, 6, 4.5, 3, 0, 0]


def test_bool_attention_ignores_the_softmax():
    scores = torch.tensor([-2.0, -1.0, -0.5, 0.0, 0.5, 1.5], requires_grad=True)
    bits = bool_bits(scores)
    assert bits.tolist() == [0, 0, 0, 1, 1, 1]
    bits.backward(torch.arange(1.0, 7.0))
    assert scores.grad.tolist() == [0, 2, 3, 4, 5, 0]


def test_sign_attention_keeps_every_key_that_is_not_masked():
    scores = torch.tensor([[3.0, -3.0, 0.0, -140.0]], requires_grad=True)
    weight = torch.tensor([[1.0, -2.0, 0.5, 3.0]])
    bits = sign_bits(scores)
    assert bits.tolist() == [[1, 1, 1, 0]]
    (gradient,) = torch.autograd.grad((bits * weight).sum(), scores)
    (expected,) = torch.autograd.grad((scores.softmax(-1) * weight).sum(), scores)
    assert torch.equal(gradient, expected)


def test_gelu_keeps_the_sign():
    x = torch.tensor([-80.0, -6.0, -0.3, -0.0, 0.0, 1e-6, 4.0])
    y = SignedGELU()(x)
    assert torch.equal(signs(y), signs(x)) and torch.allclose(y, F.gelu(x))
    assert not torch.equal(signs(F.gelu(x)), signs(x))


@pytest.mark.parametrize("kind, centred, slope", [
    (MeanLinear, True, lambda x: (x.abs() <= 1).float()),
    (ShiftLinear, True, lambda x: (2 - 2 * x.abs()).clamp(min=0)),
    (BiRealLinear, False, lambda x: (2 - 2 * x.abs()).clamp(min=0))])
def test_linear_layers_with_mean_scales(kind, centred, slope):
    torch.manual_seed(0)
    layer = kind(12, 5)
    with torch.no_grad():
        layer.weight.mul_(6).add_(0.3)
    x, gradient = torch.randn(2, 3, 12, requires_grad=True), torch.randn(2, 3, 5)
    latent = layer.weight - layer.weight.mean(1, keepdim=True) * centred
    scale, bias = layer.weight.abs().mean(1), layer.bias if kind is MeanLinear else 0
    assert torch.equal(layer(x), (signs(x) @ signs(latent).T) * scale + bias)
    layer(x).backward(gradient)
    assert torch.allclose(x.grad, (gradient * scale) @ signs(latent) * slope(x), atol=1e-5)
    dlatent = torch.einsum("bno,bni->oi", gradient, signs(x)) * (latent.abs() <= 1)
    expected = dlatent - dlatent.mean(1, keepdim=True) * centred
    assert torch.allclose(layer.weight.grad, expected, atol=1e-4)
    assert bool((latent.abs() > 1).any())


def test_binary_convolution():
    torch.manual_seed(0)
    layer, x = BinaryConv(3, 4), torch.randn(2, 3, 6, 6)
    scale = layer.weight.abs().mean((1, 2, 3))
    expected = F.conv2d(signs(x), signs(layer.weight), stride=2) * scale[:, None, None]
    assert torch.allclose(layer(x), expected, atol=1e-6)


def test_clip_bits_and_their_gradients():
    attention = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4, 0.9], requires_grad=True)
    clip = torch.tensor(0.4, requires_grad=True)
    bits = clip_bits(attention, clip)
    assert bits.tolist() == [0, 0, 0, 1, 1, 1]
    upstream = torch.arange(1.0, 7.0)
    (bits * clip).backward(upstream)
    q = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0, 2.25])
    assert torch.allclose(attention.grad, upstream * (q <= 1))
    slope = torch.where(q <= 1, q.round() - q, 1.0)
    assert torch.allclose(clip.grad, (upstream * slope).sum())


def test_rprelu():
    layer, x = RPReLU(3), torch.randn(2, 4, 3)
    with torch.no_grad():
        layer.move1.copy_(torch.tensor([0.1, -0.2, 0.0]))
        layer.move2.copy_(torch.tensor([1.0, 0.0, -1.0]))
        layer.prelu.weight.copy_(torch.tensor([0.25, -0.5, 2.0]))
    expected = F.prelu((x - layer.move1).transpose(1, 2), layer.prelu.weight).transpose(1, 2)
    assert torch.allclose(layer(x), expected + layer.move2)


def test_head_scales_clip_the_gradient():
    layer = HeadSign(2).eval()
    with torch.no_grad():
        layer.alpha.copy_(torch.tensor([0.5, 2.0]))
        layer.zero_point.copy_(torch.tensor([0.2, -0.8]))
    x = torch.tensor([[-1.0, -0.4, 0.0, 0.6], [-1.0, 1.0, 3.0, 5.0]]).view(1, 2, 1, 4)
    x.requires_grad_()
    y = layer(x)
    assert y.flatten().tolist() == [-0.5, -0.5, 0.5, 0.5, 0, 0, 4, 4]
    upstream = torch.arange(1.0, 9.0).view(1, 2, 1, 4)
    y.backward(upstream)
    inside = torch.tensor([[0, 1, 1, 0], [0, 1, 1, 0]]).view(1, 2, 1, 4)
    assert torch.equal(x.grad, upstream * inside)
    alpha, zero = layer.alpha.view(2, 1, 1), torch.tensor([0.0, -1.0]).view(2, 1, 1)
    factor = 8 ** -0.5
    level = y.detach() / alpha
    dalpha = (upstream * (level - inside * x.detach() / alpha)).sum((0, 2, 3)) * factor
    dzero = (upstream * alpha * (inside - 1)).sum((0, 2, 3)) * factor
    assert torch.allclose(layer.alpha.grad, dalpha, atol=1e-5)
    assert torch.allclose(layer.zero_point.grad, dzero, atol=1e-5)
    assert torch.equal(level, signs(x / alpha + zero) - zero)


def test_head_scales_start_from_the_first_batch():
    layer, x = HeadSign(2), torch.randn(3, 2, 5, 7)
    layer.eval()(x)
    assert layer.init_state.tolist() == [0] and layer.alpha.tolist() == [1, 1]
    layer.train()(x)
    assert torch.allclose(layer.alpha, 2 * x.abs().mean()) and layer.signed.tolist() == [1]
    assert torch.allclose(layer.zero_point, 0.1 * (x.min() + layer.alpha))
    before = layer.alpha.clone()
    layer(3 * x)
    assert torch.equal(layer.alpha, before)


@pytest.mark.parametrize("kind", [HeadAttention, HeadNormAttention])
def test_head_attention(kind):
    torch.manual_seed(3)
    layer = kind(StageConfig(embed_dim=16, num_heads=2)).eval()
    quantizers = [layer.q_act, layer.k_act, layer.v_act, layer.attn_act]
    with torch.no_grad():
        for quantizer in quantizers:
            quantizer.alpha.copy_(torch.tensor([0.5, 0.25]))
            quantizer.zero_point.copy_(torch.tensor([0.0, -1.0]))
        layer.attn_act.alpha.copy_(torch.tensor([0.125, 0.0625]))
        layer.attn_act.zero_point.fill_(-1)
    x, bias = torch.randn(3, 10, 16), torch.randn(2, 10, 10)
    q, k, v = layer.qkv(x).view(3, 10, 3, 2, 8).permute(2, 0, 3, 1, 4)
    if kind is HeadNormAttention:
        q, k = F.layer_norm(q, (8,)), F.layer_norm(k, (8,))
    q, k, v = layer.q_act(q), layer.k_act(k), layer.v_act(v)
    scores = (q @ k.transpose(-2, -1)) / 8 ** 0.5 + bias
    context = layer.attn_act(scores.softmax(-1)) @ v
    expected = layer.proj(context.transpose(1, 2).reshape(3, 10, 16))
    assert torch.equal(layer(x, bias), expected)
    assert {0.0, 0.25} == set(layer.attn_act(scores.softmax(-1))[:, 0].flatten().tolist())


def test_head_merging_has_scales_of_inputs():
    torch.manual_seed(0)
    layer = HeadMerge(8, 3).eval()
    with torch.no_grad():
        layer.act.alpha.copy_(torch.linspace(0.5, 2, 8))
        layer.act.zero_point.copy_(torch.tensor([0.0, 1, -1, 0, 0.4, -0.6, 0, 0]))
        layer.alpha.copy_(torch.tensor([0.5, -0.25, 1.0]))
    x = torch.randn(2, 5, 8)
    zero = layer.act.zero_point.round()
    inputs = (signs(x / layer.act.alpha + zero) - zero) * layer.act.alpha
    weight = signs(layer.weight / layer.alpha[:, None]) * layer.alpha[:, None]
    assert torch.allclose(layer(x), inputs @ weight.T, atol=1e-6)


def test_scores_take_a_bias_before_the_threshold():
    torch.manual_seed(0)
    layer = BinaryAttention(StageConfig(embed_dim=16, num_heads=2))
    x, bias = torch.randn(2, 9, 16), torch.randn(2, 9, 9)
    q, k, v = signs(layer.qkv(x)).view(2, 9, 3, 2, 8).permute(2, 0, 3, 1, 4)
    scores = (q @ k.transpose(-2, -1)) / 8 ** 0.5 + bias
    bits = (scores >= scores.amax(-1, keepdim=True) - 1.3862943611).float()
    expected = layer.proj((bits @ v).transpose(1, 2).reshape(2, 9, 16))
    assert torch.equal(layer(x, bias), expected)
    assert not torch.equal(layer(x), expected)


def test_layers_with_8_bit_inputs():
    torch.manual_seed(0)
    layer = CodedBinaryLinear(6, 4)
    x = torch.randn(5, 6, requires_grad=True)
    layer.step.fill_(1 / 255)
    codes = (2 * torch.floor(x.detach() * 255 / 2) + 1).clamp(-255, 255)
    weight = signs(layer.weight - layer.weight.mean(1, keepdim=True))
    expected = (codes / 255) @ weight.T * layer.scaling_factor[:, 0] + layer.bias
    assert torch.allclose(layer(x), expected, atol=1e-5)
    layer(x).sum().backward()
    assert torch.equal(x.grad == 0, (x.abs() > 1) | (x.grad == 0)) and bool((x.abs() > 1).any())
    assert bool((x.grad[x.abs() > 1] == 0).all())


def test_steps_fit_the_images():
    torch.manual_seed(0)
    model = create("bivit_w1a8_swin_micro", eight_bits=True).eval()
    pixels = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8)
    fit_steps(model, pixels, batch=4)
    layers = [layer for layer in model.modules()
              if isinstance(layer, (CodedBinaryLinear, CodedLinear))]
    assert len(layers) == 2 * 6 + 2 + 1
    assert all(float(layer.step) != pytest.approx(4 / 255) for layer in layers)
    assert not any(layer._forward_pre_hooks for layer in layers)


class Reference:
    """BinaryViT from its checkpoint, written down from the paper's code, one line a formula."""

    def __init__(self, model):
        self.config, self.values = model.config, model.state_dict()

    def bn(self, name, x):
        value = self.values
        return F.batch_norm(x.transpose(1, 2), value[f"{name}.running_mean"],
                            value[f"{name}.running_var"], value[f"{name}.weight"],
                            value[f"{name}.bias"]).transpose(1, 2)

    def rprelu(self, name, x):
        y = (x - self.values[f"{name}.move1"]).transpose(1, 2)
        y = F.prelu(y, self.values[f"{name}.prelu.weight"]).transpose(1, 2)
        return y + self.values[f"{name}.move2"]

    def affine(self, name, x):
        return self.values[f"{name}.alpha"] * x + self.values[f"{name}.move"]

    def linear(self, name, x):
        weight = self.values[f"{name}.weight"]
        binary = signs(weight - weight.mean(1, keepdim=True))
        return (signs(x) @ binary.T) * weight.abs().mean(1)

    def attention(self, name, n, heads, ratio):
        batch, count, dim = n.shape
        side, value = int(count ** 0.5), self.values

        def part(letter, layer, x):
            y = self.bn(f"{name}.norm{letter}",
                        self.linear(f"{name}.{layer}", x + value[f"{name}.move{letter}"])) + x
            y = self.rprelu(f"{name}.rprelu{letter}", y)
            bits = signs(y + value[f"{name}.move{letter}2"])
            return y, bits.view(batch, -1, heads, dim // heads).transpose(1, 2)

        s = n
        if ratio > 1:
            s = n.view(batch, side // ratio, ratio, side // ratio, ratio, dim).mean((2, 4))
            s = s.reshape(batch, -1, dim)
            r = self.linear(f"{name}.reduction", s + value[f"{name}.mover"])
            s = self.rprelu(f"{name}.rprelur", self.bn(f"{name}.norm_r", r) + s)
        (q, qb), (k, kb) = part("q", "query", n), part("k", "key", s)
        v, vb = part("v", "value", s)
        share = (qb @ kb.transpose(-2, -1) / (dim // heads) ** 0.5).softmax(-1)
        clip = value[f"{name}.att_prob_clip"]
        c = (share > clip / 2).float() @ vb * clip
        c = c.transpose(1, 2).reshape(batch, count, dim)
        if ratio > 1:
            small = side // ratio
            k, v = (x.view(batch, small, small, dim).repeat_interleave(ratio, 1).repeat_interleave(
                ratio, 2).reshape(batch, count, dim) for x in (k, v))
        return self.rprelu(f"{name}.rprelu_context", self.bn(f"{name}.norm_context", c) + q + k + v)

    def layer(self, name, x, heads, ratio):
        value = self.values
        c = self.attention(f"{name}.attention.attention",
                           self.bn(f"{name}.layernorm_before", x), heads, ratio)
        out = f"{name}.attention.output"
        o = self.bn(f"{out}.norm", self.linear(f"{out}.dense", c + value[f"{out}.move"])) + c
        x = self.affine(f"{out}.layerscale", self.rprelu(f"{out}.rprelu", o)) + x
        n = self.bn(f"{name}.layernorm_after", x)
        mid = f"{name}.intermediate"
        t = self.bn(f"{mid}.norm", self.linear(f"{mid}.dense", n + value[f"{mid}.move"]))
        times = t.shape[-1] // n.shape[-1]
        t = self.rprelu(f"{mid}.rprelu", t + n.repeat(1, 1, times))
        out = f"{name}.output"
        u = self.bn(f"{out}.norm", self.linear(f"{out}.dense", t + value[f"{out}.move"]))
        u = self.rprelu(f"{out}.rprelu", u + F.avg_pool1d(t, times))
        y = self.affine(f"{out}.layerscale", u) + x
        side = int(n.shape[1] ** 0.5)
        image = n.transpose(1, 2).unflatten(2, (side, side))
        for kind, size in (("h", 3), ("w", 3), ("h", 5), ("w", 5)):
            kernel = torch.ones(n.shape[2], 1, *((size, 1) if kind == "h" else (1, size))) / size
            pooled = F.conv2d(image, kernel, padding="same", groups=n.shape[2])
            y = y + self.affine(f"{name}.layerscale_{kind}{size}", pooled.flatten(2).mT)
        return y

    def merge(self, name, x):
        value, side = self.values, int(x.shape[1] ** 0.5)
        n = self.bn(f"{name}.norm0", x).transpose(1, 2).unflatten(2, (side, side))
        weight = value[f"{name}.proj.weight"]
        y = F.conv2d(signs(n + value[f"{name}.move"]), signs(weight), stride=2).flatten(2).mT
        y = self.bn(f"{name}.norm", y * weight.abs().mean((1, 2, 3)))
        mean = F.avg_pool2d(n, 2).flatten(2).mT
        y = self.rprelu(f"{name}.rprelu", y + torch.cat([mean, mean], -1))
        return y + value[f"{name}.position_embeddings"]

    def logits(self, pixels):
        value, index = self.values, 0
        stem = "vit.embeddings.patch_embeddings.projection"
        x = F.conv2d((2 * pixels.float() - 255) / 255, value[f"{stem}.weight"],
                     value[f"{stem}.bias"], stride=self.config.patch_size).flatten(2).mT
        x = self.bn("vit.embeddings.norm", x) + value["vit.embeddings.position_embeddings"]
        for stage, depth in enumerate(self.config.depths):
            if stage:
                x = self.merge(f"vit.encoder.patch_embed{stage}", x)
            for _ in range(depth):
                x = self.layer(f"vit.encoder.layer.{index}", x, self.config.num_heads[stage],
                               self.config.reductions[stage])
                index += 1
        x = self.bn("vit.layernorm", x).mean(1)
        return F.linear(x, value["classifier.weight"], value["classifier.bias"])


def test_binaryvit_computes_what_its_code_does():
    torch.manual_seed(5)
    model = create("binaryvit_micro").eval()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2)
            elif name.endswith("att_prob_clip"):
                value.fill_(0.05)
            elif value.is_floating_point():
                value.add_(torch.randn_like(value) * 0.2)
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        logits, expected = model(pixels), Reference(model).logits(pixels)
    assert torch.allclose(logits, expected, atol=1e-3)
    assert float((expected[0] - expected[1]).abs().max()) > 0.1


@pytest.mark.parametrize("left_out", ["average_head", "branches", "affine"])
def test_what_binaryvit_adds_can_be_left_out(left_out):
    torch.manual_seed(0)
    sizes = {"img_size": 16, "patch_size": 4, "num_classes": 3, "embed_dims": (16,), "depths": (2,),
             "num_heads": (2,), "mlp_ratios": (2,), "reductions": (1,)}
    whole = BinaryViT(BinaryViTConfig(**sizes)).eval()
    part = BinaryViT(BinaryViTConfig(**sizes, **{left_out: False})).eval()
    with torch.no_grad():
        for name, value in whole.state_dict().items():
            if "layerscale" in name:
                value.add_(0.3)
    missing, unexpected = part.load_state_dict(whole.state_dict(), strict=False)
    marks = {"average_head": None, "branches": ("layerscale_",), "affine": ("layerscale.",)}
    expected = [name for name in whole.state_dict()
                if marks[left_out] and any(mark in name for mark in marks[left_out])]
    assert not missing and sorted(unexpected) == sorted(expected)
    pixels = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    with torch.no_grad():
        assert not torch.allclose(whole(pixels), part(pixels), atol=1e-4)
