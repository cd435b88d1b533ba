"""Costs of the networks: the published tables, and the file that lists them."""

import pytest
import torch

from bivit.models.counts import costs, products
from bivit.models.registry import listing, measured, network, networks

# Binary multiply-accumulates, those with 1-bit weights only, others, 1-bit weights.
PUBLISHED = {
    "deit_tiny": (0, 0, 1_253_683_200, 0),
    "deit_small": (0, 0, 4_598_882_304, 0),
    "deit_base": (0, 0, 17_563_828_224, 0),
    "swin_tiny": (0, 0, 4_490_566_656, 0),
    "swin_small": (0, 0, 8_740_875_264, 0),
    "distilled_deit_tiny": (0, 0, 1_261_003_776, 0),
    "distilled_deit_small": (0, 0, 4_624_140_288, 0),
    "bivit_deit_tiny": (1_224_589_824, 0, 29_093_376, 5_308_416),
    "bivit_deit_small": (4_540_695_552, 0, 58_186_752, 21_233_664),
    "bivit_deit_base": (17_447_454_720, 0, 116_373_504, 84_934_656),
    "bivit_swin_tiny": (4_475_347_968, 0, 15_218_688, 27_426_816),
    "bivit_swin_small": (8_725_656_576, 0, 15_218_688, 48_660_480),
    "bivit_fp_merging_swin_tiny": (4_301_939_712, 0, 188_626_944, 25_878_528),
    "bivit_fp_merging_swin_small": (8_552_248_320, 0, 188_626_944, 47_112_192),
    "bivit_w1a8_deit_tiny": (527_417_856, 697_171_968, 29_093_376, 5_308_416),
    "bivit_w1a8_deit_small": (1_752_007_680, 2_788_687_872, 58_186_752, 21_233_664),
    "bivit_w1a8_deit_base": (6_292_703_232, 11_154_751_488, 116_373_504, 84_934_656),
    "bivit_w1a8_swin_tiny": (1_527_407_616, 2_774_532_096, 188_626_944, 25_878_528),
    "bivit_w1a8_swin_small": (3_003_184_128, 5_549_064_192, 188_626_944, 47_112_192),
    "bi_vit_deit_tiny": (1_231_718_400, 0, 29_285_376, 5_308_416),
    "bi_vit_deit_small": (4_565_569_536, 0, 58_570_752, 21_233_664),
    "bi_vit_swin_tiny": (4_475_347_968, 0, 15_218_688, 27_426_816),
    "bi_vit_swin_small": (8_725_656_576, 0, 15_218_688, 48_660_480),
    "bi_real_deit_tiny": (1_224_589_824, 0, 29_093_376, 5_308_416),
    "bibert_swin_tiny": (4_475_347_968, 0, 15_218_688, 27_426_816),
    "binaryvit": (3_822_206_976, 0, 10_145_792, 21_196_800),
    "some_fp_binaryvit": (3_745_136_640, 0, 87_216_128, 20_508_672),
}
PARAMETERS = {
    "deit_tiny": 5_717_416, "deit_small": 22_050_664, "deit_base": 86_567_656,
    "swin_tiny": 28_288_354, "swin_small": 49_606_258, "binaryvit": 22_491_771,
}
SCALES = {
    "deit_tiny": 20_736, "deit_small": 41_472, "deit_base": 82_944, "swin_tiny": 39_744,
    "swin_small": 81_216,
}
MATRICES = {
    "bivit_deit_tiny": 339_456, "bivit_deit_small": 678_912, "bivit_deit_base": 1_357_824,
    "bivit_swin_tiny": 772_608, "bivit_fp_merging_swin_tiny": 772_608 + 1_548_288,
    "bivit_swin_small": 772_608, "binaryvit": 515_072,
}
LAYERS = {
    "deit_tiny": {"patch_embed": 28_901_376, "qkv": 261_439_488, "attn": 2 * 89_415_936,
                  "proj": 87_146_496, "fc1": 348_585_984, "fc2": 348_585_984, "head": 192_000},
    "swin_tiny": {"patch_embed": 14_450_688, "qkv": 1_040_449_536, "attn": 2 * 70_070_784,
                  "proj": 346_816_512, "fc1": 1_387_266_048, "fc2": 1_387_266_048,
                  "reduction": 173_408_256, "fc": 768_000},
    "swin_small": {"patch_embed": 14_450_688, "qkv": 2_080_899_072, "attn": 2 * 114_326_016,
                   "proj": 693_633_024, "fc1": 2_774_532_096, "fc2": 2_774_532_096,
                   "reduction": 173_408_256, "fc": 768_000},
    "binaryvit": {"patch_embeddings": 9_633_792, "query": 244_056_064, "key": 157_954_048,
                  "value": 157_954_048, "reduction": 3_813_376, "attention": 2 * 132_765_696,
                  "attention.output.dense": 244_056_064, "intermediate.dense": 1_335_885_824,
                  "output.dense": 1_335_885_824, "patch_embed.proj": 77_070_336,
                  "classifier": 512_000},
}
COUNTS = ("binary_macs", "binary_weight_macs", "other_macs", "binary_weight_bits")
TABLE = {row["name"]: row for row in listing()}
COUNTED_AGAIN = ("bivit_digits", "bivit_deit_tiny", "bi_vit_deit_micro", "bivit_w1a8_swin_micro",
                 "bi_vit_swin_micro", "bivit_nest_tiny", "bivit_swin_tiny", "binaryvit",
                 "some_fp_binaryvit_micro")


def test_the_published_tables():
    for name, expected in PUBLISHED.items():
        assert tuple(TABLE[name][key] for key in COUNTS) == expected, name
    for name, expected in PARAMETERS.items():
        assert TABLE[name]["parameters"] == expected, name
    for name, expected in SCALES.items():
        method = "bivit" if name.startswith("deit") else "bivit_fp_merging"
        assert TABLE[f"{method}_{name}"]["parameters"] - TABLE[name]["parameters"] == expected
    for name, expected in MATRICES.items():
        row = TABLE[name]
        rest = row["parameters"] - row["binary_weight_bits"] - expected
        assert row["other_bits"] == 8 * expected + 16 * rest, name


def layer_type(path):
    """A layer's row in the published table."""
    parts = path.split(".")
    if parts[-1] == "dense":
        return ".".join(parts[-3 if parts[-3] == "attention" else -2:])
    if path.startswith("vit.encoder.patch_embed"):
        return "patch_embed.proj"
    return parts[-1]


@pytest.mark.parametrize("name", LAYERS)
def test_products_by_layer(name):
    with torch.device("meta"):
        model = network(name).build()
    found = {}
    for product in products(model, network(name).config.image_shape):
        kind = layer_type(product.layer)
        found.setdefault(kind, []).append(product.macs)
    assert {kind: sum(macs) for kind, macs in found.items()} == LAYERS[name]
    attention = found["attention" if name == "binaryvit" else "attn"]
    assert attention[::2] == attention[1::2]


@pytest.mark.parametrize("name", COUNTED_AGAIN)
def test_the_file_is_what_the_networks_cost(name):
    assert {"name": name, **measured(name)} == TABLE[name]


@pytest.mark.slow
def test_the_whole_file_is_what_the_networks_cost():
    assert list(TABLE) == list(networks())
    for name in set(networks()) - set(COUNTED_AGAIN):
        assert {"name": name, **measured(name)} == TABLE[name]


def test_the_file_names_every_network():
    assert list(TABLE) == list(networks())


def test_counting_leaves_the_network_as_it_was():
    model = network("bivit_deit_micro").build().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    costs(model, (3, 32, 32))
    assert model.training and not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
