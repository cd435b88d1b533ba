"""The ablation's variants build and learn, its script runs and goes on, its page is the figures."""

import json
import pathlib
import subprocess
import sys

import pytest
import torch

BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))

import ablation  # noqa: E402
import ablation_page  # noqa: E402
from ablation_variants import CLAIMS, SHARED, VARIANTS, Variant  # noqa: E402

from bivit.models.layers import BinaryLinear, softmax_bits  # noqa: E402
from bivit.models.training import TensorData  # noqa: E402
from bivit.models.training.losses import stage_loss  # noqa: E402
from bivit.models.training.trainer import train  # noqa: E402
from bivit.models.variants import (  # noqa: E402
    ActivationLinear,
    FixedScaleLinear,
    TwoStepTransformer,
    threshold_attention,
)

SHORT = ablation.Settings(epochs=1, teacher_epochs=1, images=50)
WITHOUT_EFFECT = {
    "attn.proj.bias", "attn.qkv.bias", "mlp.fc1.bias", "mlp.fc2.bias",
}
"""Parameters that Bi-ViT's and Bi-Real Net's layers have and never use."""


def teacher():
    torch.manual_seed(0)
    return ablation.TEACHER.build().eval()


def unused(name, variant):
    """Whether a parameter of a variant has no effect on its logits."""
    layers = {layer.__name__ for layer in variant.layers.values()
              if isinstance(layer, type)}
    without_bias = layers & {"HeadAttention", "HeadNormAttention", "SignAttention"}
    if without_bias and any(name.endswith(bias) for bias in WITHOUT_EFFECT):
        return True
    return variant.zero_points == "held" and name.endswith("zero_point")


def without_gradient(name):
    """Parameters of a variant that one step leaves alone."""
    variant = VARIANTS[name]
    (images, labels), _ = ablation.subset(SHORT, 0)
    torch.manual_seed(1)
    model = variant.network(0.3).build().train()
    stage_loss(ablation.recipe(variant, SHORT).stages[-1], model, teacher(), images,
               labels).backward()
    return {key for key, value in model.named_parameters()
            if not unused(key, variant) and not (value.grad is not None and value.grad.any())}


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "bi-real"])
def test_one_step_reaches_every_parameter(name):
    assert not without_gradient(name)


def test_no_gradient_passes_attention_that_counts_an_odd_number_of_keys():
    """A sum of 17 signs is never inside (-1, 1), where the polynomial gradient is."""
    assert {"blocks.1.attn.qkv.weight", "patch_embed.proj.weight"} <= without_gradient("bi-real")


def test_training_changes_what_learns():
    (images, labels), _ = ablation.subset(SHORT, 0)
    for name in ("clb", "two-step", "scales-head-ranking"):
        variant, source = VARIANTS[name], teacher()
        model = train(ablation.recipe(variant, SHORT), TensorData(images, labels),
                      own=variant.network(0.3), teacher=source, threads=1,
                      device=torch.device("cpu"))
        before = source.state_dict()
        for key, value in model.named_parameters():
            if key in before and not unused(key, variant):
                assert not torch.equal(value, before[key]), (name, key)


def test_threshold_is_the_share_of_the_maximum():
    scores = torch.tensor([[0.0, -0.5, -1.0, -2.0]])
    assert threshold_attention(0.5).bits(scores).tolist() == [[1, 1, 0, 0]]
    assert threshold_attention(0.3).bits(scores).tolist() == [[1, 1, 1, 0]]
    assert torch.equal(threshold_attention(0.25).bits(scores), softmax_bits(scores))


def test_fixed_scales_equal_learned_ones_at_the_start():
    torch.manual_seed(0)
    learned, fixed = BinaryLinear(6, 4), FixedScaleLinear(6, 4)
    fixed.load_state_dict({key: value for key, value in learned.state_dict().items()
                           if key != "scaling_factor"})
    x = torch.randn(5, 6)
    assert torch.equal(learned(x), fixed(x))
    assert len(list(learned.parameters())) == len(list(fixed.parameters())) + 1


def test_two_steps_binarize_activations_first():
    config = ablation.SIZES
    first, second = TwoStepTransformer(config), TwoStepTransformer(config, linear=BinaryLinear)
    for model, kind in ((first, ActivationLinear), (second, BinaryLinear)):
        block = model.blocks[0]
        for layer in (block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2):
            assert type(layer) is kind


def test_recipes_halve_the_epochs():
    settings = ablation.Settings(epochs=41)
    whole = ablation.recipe(VARIANTS["bivit"], settings)
    halves = ablation.recipe(VARIANTS["clb"], settings)
    assert whole.epochs == halves.epochs == 41
    assert [stage.layers for stage in halves.stages] == [("attention",), None]


def test_held_out_images_are_never_trained_on():
    (images, _), (measured, _) = ablation.subset(ablation.Settings(part="rest"), 3)
    assert len(images) == ablation.IMAGES and len(images) + len(measured) == 1437
    _, (held_out, _) = ablation.subset(ablation.Settings(), 3)
    assert torch.equal(held_out, torch.from_numpy(ablation.digits("held_out").images))


def test_claims_and_groups_name_variants():
    named = {name for claim in CLAIMS for name in (claim.better, claim.worse)}
    named |= {name for members in SHARED.values() for name in members}
    assert named <= set(VARIANTS)
    assert all(isinstance(variant, Variant) for variant in VARIANTS.values())


def test_verdicts():
    assert ablation_page.verdict([0.02, 0.021, 0.019]) == "holds"
    assert ablation_page.verdict([-0.02, -0.021, -0.019]) == "opposite"
    assert ablation_page.verdict([0.02, -0.01, 0.03]) == "undecided"
    assert ablation_page.verdict([0.02]) == "too few runs"


def test_quick_run_and_going_on(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "ablation.py"), "--quick", "--only", "bivit",
               "share-fitted", "binaryvit-4", "--folder", tmp_path / "runs", "--json",
               tmp_path / "figures.json", "--page", tmp_path / "page.md"]
    first = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "[3/3]" in first.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert set(figures["variants"]) == {"bivit", "share-fitted", "binaryvit-4"}
    page = (tmp_path / "page.md").read_text()
    (tmp_path / "runs" / "bivit-0.json").unlink()
    second = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "[1/1] bivit, seed 0" in second.stderr
    again = json.loads((tmp_path / "figures.json").read_text())
    one, other = (found["variants"]["bivit"]["seeds"]["0"] for found in (figures, again))
    assert {key: one[key] for key in ("top1", "loss")} == {
        key: other[key] for key in ("top1", "loss")}
    assert "### BinaryViT" in page


def test_the_committed_page_is_the_committed_figures():
    assert ablation.FIGURES.stat().st_size < 200_000
    figures = json.loads(ablation.FIGURES.read_text(encoding="utf-8"))
    page = ablation.PAGE.read_text(encoding="utf-8")
    for name, section in ablation_page.sections(figures).items():
        assert f"<!-- figures: {name} -->\n{section}\n<!-- end -->" in page, name
