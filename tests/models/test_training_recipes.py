"""Recipes: those that ship, and sentences for those that are wrong."""

import dataclasses

import pytest
import torch

from bivit.models.headwise import HeadAttention
from bivit.models.layers import Attention, Mlp, OddPatchEmbed
from bivit.models.registry import network
from bivit.models.training import TrainError, load_recipe, recipes
from bivit.models.training.recipe import stage_network

GOOD = """
network = "bivit_digits"
[[stages]]
name = "one"
epochs = 2
learning_rate = 1e-3
"""


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_builds(name):
    recipe = load_recipe(name)
    assert recipe.name == name and recipe.about
    for stage in recipe.stages:
        with torch.device("meta"):
            model = stage_network(recipe, stage).build(eight_bits=stage.eight_bits)
        assert isinstance(model, network(stage.network or recipe.network).family)
        binary = [layer for layer in model.modules() if hasattr(layer, "products")]
        assert bool(binary) == (stage.layers != ())
    assert recipe.stages[-1].layers is None and recipe.stages[-1].eight_bits


def test_published_settings():
    binaryvit, = load_recipe("binaryvit").stages
    assert (binaryvit.optimiser, binaryvit.learning_rate, binaryvit.min_learning_rate) == (
        "adamw", 5e-4, 1e-5)
    assert (binaryvit.epochs, binaryvit.batch, binaryvit.distil) == (300, 512, 1)
    bi_vit, = load_recipe("bi_vit_deit_tiny").stages
    assert (bi_vit.optimiser, bi_vit.epochs, bi_vit.batch, bi_vit.ranking, bi_vit.warm_up) == (
        "lamb", 300, 512, 10, 0)
    bivit = load_recipe("bivit_w1a32_swin_tiny")
    assert bivit.epochs == 300 and bivit.pretrained and bivit.teacher == "swin_tiny"
    assert all((stage.optimiser, stage.learning_rate, stage.warm_up) == ("adam", 5e-4, 5)
               for stage in bivit.stages)


def test_layers_of_a_stage():
    recipe = load_recipe("bivit_digits")
    models = [stage_network(recipe, stage).build(eight_bits=stage.eight_bits)
              for stage in recipe.stages]
    kinds = [(type(model.blocks[0].attn) is Attention, type(model.blocks[0].mlp) is Mlp,
              isinstance(model.patch_embed, OddPatchEmbed)) for model in models]
    assert kinds == [(True, True, False), (False, True, True), (False, False, True)]
    entry = network("bi_vit_deit_micro")
    own = dataclasses.replace(entry, config=dataclasses.replace(entry.config, num_classes=3))
    recipe = dataclasses.replace(load_recipe("bi_vit_digits"), network="bi_vit_deit_micro")
    model = stage_network(recipe, recipe.stages[1], own).build()
    assert isinstance(model.blocks[0].attn, HeadAttention) and model.head.out_features == 3


@pytest.mark.parametrize("change, sentence", [
    (("epochs = 2\n", ""), "stage 1: the key epochs is missing"),
    (("epochs = 2", "epochs = 0"), "epochs is 0, but must lie between 1"),
    (("epochs = 2", "epochs = 2.5"), "epochs is 2.5, but must be of type int"),
    (("epochs = 2", "epoches = 2"), "there is no key epoches; keys are name, epochs"),
    (("learning_rate = 1e-3", "learning_rate = nan"), "learning_rate is nan, but must lie"),
    (("bivit_digits", "vgg"), "there is no network vgg"),
    (("network = \"bivit_digits\"", ""), "the key network is missing"),
    (("name = \"one\"", "name = \"one\"\ndistil = 0.5"), "distil and ranking need a teacher"),
    (("name = \"one\"", "name = \"one\"\nwarm_up = 2"), "warm_up must be shorter"),
    (("name = \"one\"", "name = \"one\"\nlayers = [\"gelu\"]"), "has no layers gelu; it has att"),
    (("name = \"one\"", "name = \"one\"\nlayers = \"mlp\""), "layers must be a list of names"),
    (("name = \"one\"", "name = \"one\"\nnetwork = \"deit_tiny\""), "the last stage must train"),
    (("name = \"one\"", "name = \"one\"\noptimiser = \"sgd\""), "one of adam, adamw, lamb"),
    (("[[stages]]", "pretrained = true\n[[stages]]"), "pretrained needs a teacher"),
    (("[[stages]]", "augment = \"mixup\"\n[[stages]]"), "one of none, affine, crop"),
    (("[[stages]]", "[stages]"), "needs at least one table"),
    (("[[stages]]", "[[stages"), "is not a TOML file"),
])
def test_wrong_recipes(tmp_path, change, sentence):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    load_recipe(path)
    assert change[0] in GOOD
    path.write_text(GOOD.replace(*change))
    with pytest.raises(TrainError) as caught:
        load_recipe(path)
    assert sentence in str(caught.value) and "mine.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_recipes_that_are_not_there(tmp_path):
    with pytest.raises(TrainError, match="there is no recipe imagenet; give a .toml file or one"):
        load_recipe("imagenet")
    with pytest.raises(TrainError, match="none.toml does not exist"):
        load_recipe(tmp_path / "none.toml")
