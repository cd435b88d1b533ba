"""Foreign checkpoints: recognised, equal logits, sign ties, and every refusal in one sentence."""

import argparse
import itertools
import json
import os

import pytest
import safetensors.torch
import torch

from bivit.cli.main import main
from bivit.compiler.ir.errors import UserError
from bivit.compiler.passes import lower
from bivit.hw.targets import TARGETS
from bivit.models import load
from bivit.models.floats import convert_file, load_float
from bivit.models.importers import import_file
from bivit.models.pixels import take_up_pixels
from bivit.models.registry import create, network
from bivit.sim.iss import InstructionSimulator
from bivit.sim.stream import image_stream
from named_networks import MICRO
from timm_models import create as create_timm

MEAN, DEVIATION = (torch.tensor(values).view(3, 1, 1) for values in (
    (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors gain nothing from threads, and tests run beside each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def images(count=2, size=32):
    """Random colour images."""
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def random_network(name):
    """A network in which no parameter is where it starts."""
    torch.manual_seed(5)
    model = create(name).eval()
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if key.endswith("running_var"):
                value.mul_(1.5)
            elif value.is_floating_point() and not key.endswith(("signed", "init_state")):
                change = torch.randn_like(value) * 0.02
                value.add_(change.abs() if key.endswith("att_prob_clip") else change)
    return model


def official_swin(state, windows, shifts):
    """Swin's tensors as its own repository saves them, with the buffers it computes.

    Parameters
    ----------
    windows, shifts : sequences
        By stage: side of the windows, and (side, shift) of the stage's odd blocks or None.
    """
    result = {}
    for name, value in state.items():
        parts = name.split(".")
        if parts[2:3] == ["downsample"]:
            parts[1] = str(int(parts[1]) - 1)
        result[".".join(parts).replace("head.fc.", "head.")] = value
    for stage, (size, shifted) in enumerate(zip(windows, shifts, strict=True)):
        tokens = list(itertools.product(range(size), repeat=2))
        index = torch.tensor([[(i - k + size - 1) * (2 * size - 1) + j - m + size - 1
                               for k, m in tokens] for i, j in tokens])
        for block in (0, 1):
            prefix = f"layers.{stage}.blocks.{block}"
            result[f"{prefix}.attn.relative_position_index"] = index
        if shifted:
            side, shift = shifted
            region = torch.zeros(side, side)
            parts = (slice(0, -size), slice(-size, -shift), slice(-shift, None))
            for number, (rows, columns) in enumerate(itertools.product(parts, repeat=2)):
                region[rows, columns] = number
            region = region.view(side // size, size, side // size, size).transpose(1, 2)
            region = region.reshape(-1, size * size)
            differs = region[:, None] != region[:, :, None]
            result[f"{prefix}.attn_mask"] = torch.where(differs, -100.0, 0.0)
    return result


def micro_swin(state):
    """`official_swin` of the micro networks: stages of 16, 8 and 4 tokens a side."""
    return official_swin(state, (4, 4, 4), ((16, 2), (8, 2), None))


SETTINGS = argparse.Namespace(lr=5e-4, model="some", output_dir="out")
PUBLISHED = {
    "deit_micro": lambda state: state,
    "distilled_deit_micro": lambda state: {"model": state},
    "swin_micro": lambda state: {"model": micro_swin(state)},
    "nest_micro": lambda state: state,
    "bivit_deit_micro": lambda state: {"state_dict": {f"module.{name}": value
                                                      for name, value in state.items()}},
    "bivit_w1a32_swin_micro": lambda state: {"model": micro_swin(state), "epoch": 3},
    "bivit_swin_micro": lambda state: state,
    "bivit_nest_micro": lambda state: state,
    "bi_vit_deit_micro": lambda state: {"model": state, "args": SETTINGS},
    "bi_vit_swin_micro": lambda state: {"model": micro_swin(state)},
    "binaryvit_micro": lambda state: {"model": state, "optimizer": {"state": {}}, "epoch": 1,
                                      "args": SETTINGS},
    "some_fp_binaryvit_micro": lambda state: state,
}
"""How a network's tensors are published."""

RECOGNISED = {
    "deit_micro": "float DeiT", "distilled_deit_micro": "float DeiT",
    "swin_micro": "float Swin in the official names", "nest_micro": "float NesT",
    "bivit_deit_micro": "BiViT DeiT",
    "bivit_w1a32_swin_micro": "BiViT Swin in the official names",
    "bivit_swin_micro": "BiViT Swin", "bivit_nest_micro": "BiViT NesT",
    "bi_vit_deit_micro": "Bi-ViT DeiT", "bi_vit_swin_micro": "Bi-ViT Swin in the official names",
    "binaryvit_micro": "BinaryViT", "some_fp_binaryvit_micro": "BinaryViT",
}
AMBIGUOUS = {"bivit_deit_micro": "bivit_w1a32_deit_micro",
             "bivit_nest_micro": "bivit_w1a32_nest_micro"}
"""W1A1 and W1A32 have the same names: the published setting is taken unless a name is given."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_logits_survive_the_round_trip(name, tmp_path):
    theirs = random_network(name)
    torch.save(PUBLISHED[name](theirs.state_dict()), tmp_path / "theirs.pth")
    wanted = name if name in AMBIGUOUS else None
    done = import_file(tmp_path / "theirs.pth", tmp_path / "ours.safetensors", pixels="half",
                       network=wanted)
    assert (done.recognised, done.network, done.classes) == (RECOGNISED[name], name, 10)
    assert done.parameters == sum(value.numel() for value in theirs.parameters())
    official = done.recognised.endswith("names")
    assert bool(done.renamed) == official and done.dropped == (8 if official else 0)
    ours = load_float(tmp_path / "ours.safetensors")
    with torch.no_grad():
        assert torch.equal(ours(images()), theirs(images()))
        assert not torch.equal(ours(images()), create(name).eval()(images()))


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_the_published_setting_is_taken_where_names_do_not_tell(name, tmp_path):
    torch.save(create(name).state_dict(), tmp_path / "theirs.pth")
    done = import_file(tmp_path / "theirs.pth")
    assert done.network == AMBIGUOUS[name] and done.also_fits == [name] and done.output is None


SIZES = {
    "deit_micro": ("deit_tiny_patch16_224", {"patch_size": 4, "embed_dim": 64, "depth": 2,
                                             "num_heads": 2}),
    "distilled_deit_micro": ("deit_tiny_distilled_patch16_224", {
        "patch_size": 4, "embed_dim": 64, "depth": 2, "num_heads": 2}),
    "swin_micro": ("swin_tiny_patch4_window7_224", {
        "patch_size": 2, "embed_dim": 16, "depths": (2, 2, 2), "num_heads": (1, 2, 4),
        "window_size": 4}),
}


@pytest.mark.parametrize("classes", (7, 10))
@pytest.mark.parametrize("name", SIZES)
def test_timm_gives_the_same_logits_on_its_own_pixels(name, classes, tmp_path):
    torch.manual_seed(2)
    timm_name, options = SIZES[name]
    theirs = create_timm(timm_name, img_size=32, num_classes=classes, **options).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    safetensors.torch.save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    done = import_file(tmp_path / "model.safetensors", tmp_path / "ours.safetensors")
    assert done.network == name and done.classes == classes and done.pixels == "imagenet"
    assert done.binary_layers == [] and done.ties == []
    ours, pixels = load_float(tmp_path / "ours.safetensors"), images()
    with torch.no_grad():
        expected, logits = theirs((pixels / 255 - MEAN) / DEVIATION), ours(pixels)
    assert float(expected.std()) > 0.1
    assert torch.allclose(logits, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_pixels_are_taken_up():
    torch.manual_seed(0)
    weight, bias = torch.randn(5, 3, 2, 2), torch.randn(5)
    ours, shift = take_up_pixels(weight, bias)
    pixels = images(4, 2)
    expected = ((pixels / 255 - MEAN) / DEVIATION).flatten(1) @ weight.flatten(1).T + bias
    result = ((2 * pixels.float() - 255) / 255).flatten(1) @ ours.flatten(1).T + shift
    assert torch.allclose(result, expected, atol=1e-4)


def sums(done):
    """Zeros and signs by layer and kind."""
    return {(ties.layer, ties.kind): (ties.zeros, ties.signs) for ties in done.ties}


def test_ties_of_centred_weights_and_of_activations(tmp_path):
    model = random_network("bivit_deit_micro")
    with torch.no_grad():
        model.blocks[0].mlp.fc1.weight[3] = 0.25       # equal to its mean: 64 zeros
        model.blocks[1].attn.proj.weight[:] = torch.tensor([1.0, 2.0]).repeat(32)
        model.blocks[1].attn.proj.weight[5, ::2] += 1  # 2, 2, ...: 64 zeros
        model.blocks[1].attn.qkv.scaling_factor[:] = 0.5
        model.blocks[1].attn.qkv.scaling_factor[:7] = -0.5
        for block in model.blocks:
            for layer in (block.attn.proj, block.mlp.fc1, block.mlp.fc2):
                layer.scaling_factor.abs_()
        model.blocks[0].attn.qkv.scaling_factor.abs_()
        model.blocks[0].norm1.weight[:] = model.blocks[0].norm1.bias[:] = 0
    torch.save(model.state_dict(), tmp_path / "theirs.pth")
    done = import_file(tmp_path / "theirs.pth", network="bivit_deit_micro")
    found = sums(done)
    assert {key: zeros for key, (zeros, _) in found.items() if key[1] == "weights" and zeros} == {
        ("blocks.0.mlp.fc1", "weights"): 64, ("blocks.1.attn.proj", "weights"): 64}
    assert found["blocks.0.attn.qkv", "activations"] == (2 * 65 * 64, 2 * 65 * 64)
    assert found["blocks.0.attn", "activations"][1] == 2 * 65 * 64 * 3
    assert found["blocks.0.mlp.fc1", "weights"][1] == 256 * 64
    assert done.negative_scales == 7 and done.images == 2
    assert done.binary_layers == [{"layers": 8, "signs": "sign(w - mean of the row)",
                                   "scale": "learned scaling_factor of the row"}]


def test_ties_of_weights_that_are_not_centred(tmp_path):
    model = random_network("binaryvit_micro")
    merge, layer = model.vit["encoder"].patch_embed1, model.vit["encoder"].layer[0]
    with torch.no_grad():
        merge.proj.weight[2, :, 0, 0] = 0      # 16 zeros
        merge.proj.weight[3] = 0.5             # not centred: none
        layer.intermediate.dense.weight[4] = 0.5  # centred: 16 zeros
        layer.intermediate.dense.weight[5, 0] = 0  # centred: none
    torch.save(model.state_dict(), tmp_path / "theirs.pth")
    done = import_file(tmp_path / "theirs.pth")
    prefix = "vit.encoder"
    assert {key: zeros for key, (zeros, _) in sums(done).items()
            if key[1] == "weights" and zeros} == {
        (f"{prefix}.patch_embed1.proj", "weights"): 16,
        (f"{prefix}.layer.0.intermediate.dense", "weights"): 16}
    assert [row["layers"] for row in done.binary_layers] == [26, 3]


def test_ties_of_bi_vit_and_a_file_of_images(tmp_path):
    import numpy as np

    model = random_network("bi_vit_deit_micro")
    with torch.no_grad():
        model.blocks[0].attn.qkv.weight[0] = 0.5
        model.blocks[0].attn.qkv.weight[1, :9] = 0
        model.blocks[1].attn.v_act.zero_point[:] = 0
        model.blocks[1].norm1.weight[:] = model.blocks[1].norm1.bias[:] = 0
    torch.save(model.state_dict(), tmp_path / "theirs.pth")
    np.save(tmp_path / "images.npy", images(3).numpy())
    done = import_file(tmp_path / "theirs.pth", calibration=tmp_path / "images.npy")
    assert done.images == 3
    found = sums(done)
    assert found["blocks.0.attn.qkv", "weights"] == (9, 192 * 64)
    assert found["blocks.1.attn.qkv", "activations"] == (3 * 66 * 64, 3 * 66 * 64)
    with pytest.raises(UserError, match="images.npy"):
        np.save(tmp_path / "images.npy", images(3, 16).numpy())
        import_file(tmp_path / "theirs.pth", calibration=tmp_path / "images.npy")


def without(*names):
    """A change that removes tensors."""
    return lambda state: {name: value for name, value in state.items() if name not in names}


def half(state):
    """All tensors in fp16."""
    return {name: value.half() for name, value in state.items()}


def spoiled(state):
    """One NaN."""
    return state | {"norm.bias": state["norm.bias"] * float("nan")}


EXTRA = {"extra.weight": torch.zeros(2)}
REFUSED = {
    "missing": (without("norm.weight"), r"looks like float DeiT, but does not fit deit_micro: "
                                        r"1 tensor missing \(norm.weight\)$"),
    "many missing": (without(*(f"blocks.0.mlp.fc{i}.{part}" for i in (1, 2)
                               for part in ("weight", "bias"))),
                     r"4 tensors missing \(blocks.0.mlp.fc1.weight, blocks.0.mlp.fc1.bias, "
                     r"blocks.0.mlp.fc2.weight, …\)$"),
    "unexpected": (lambda state: state | EXTRA, r"1 tensor unexpected \(extra.weight\)$"),
    "both": (lambda state: without("norm.bias")(state) | EXTRA,
             r"1 tensor missing \(norm.bias\), 1 tensor unexpected \(extra.weight\)$"),
    "shape": (lambda state: state | {"pos_embed": torch.zeros(1, 197, 64)},
              r"1 tensor of wrong shape or type \(pos_embed is 1x197x64 and not 1x65x64\)$"),
    "integers": (lambda state: state | {"norm.weight": torch.ones(64, dtype=torch.int64)},
                 r"norm.weight is 64 of integers and not 64\)$"),
    "two backbones": (lambda state: state | create("swin_micro").state_dict(),
                      r"mixes tensors of DeiT \(blocks.0\S+\) and Swin \(layers.0\S+\); give"),
    "two methods": (lambda state: create("bivit_deit_micro").state_dict()
                    | create("bi_vit_deit_micro").state_dict(),
                    r"mixes tensors of BiViT \(\S+scaling_factor\) and Bi-ViT \(\S+q_act\S+\)"),
    "fp16": (half, r"holds cls_token as fp16 \(float16\), and signs are taken of float32"),
    "bf16": (lambda state: state | {"norm.bias": torch.ones(64).bfloat16()},
             r"holds norm.bias as bf16 \(bfloat16\)"),
    "float64": (lambda state: state | {"norm.bias": torch.ones(64).double()}, "as float64"),
    "sparse": (lambda state: state | {"norm.bias": torch.ones(64).to_sparse()}, "norm.bias as"),
    "NaN": (spoiled, r"NaN or infinite values in norm.bias"),
    "no tensors": (lambda state: {}, "holds no tensors"),
    "no inner tensors": (lambda state: {"model": {}}, "holds no tensors"),
    "nobody's": (lambda state: {"conv1.weight": torch.zeros(3, 3)},
                 r"no network that bivit knows: none of its 1 tensors \(conv1.weight\)"),
    "not a tensor": (lambda state: state | {"norm.bias": [1.0]}, "holds a list as 'norm.bias'"),
    "a list": (lambda state: list(state.values()), "holds a list and no dictionary"),
    "scalar": (lambda state: state | {"patch_embed.proj.bias": torch.tensor(0.0)},
               r"patch_embed.proj.bias is a scalar and not 64\)$"),
    "twice": (lambda state: state | {"module.norm.bias": state["norm.bias"]}, "norm.bias twice"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case, tmp_path, capsys):
    change, sentence = REFUSED[case]
    path, out = tmp_path / "bad.pth", tmp_path / "ours.safetensors"
    torch.save(change(create("deit_micro").state_dict()), path)
    with pytest.raises(UserError, match=sentence) as error:
        import_file(path, out)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)
    refused(capsys, str(error.value), "import", path, "-o", out)
    assert not out.exists()


def refused(capsys, sentence, *arguments):
    """Exit status 2 and that one sentence, with and without --json."""
    capsys.readouterr()
    for options in ((), ("--json",)):
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in (*arguments, *options)])
        assert stop.value.code == 2
        out, err = capsys.readouterr()
        assert err == f"bivit: {sentence}\n"
        assert (json.loads(out) if out else {"error": sentence}) == {"error": sentence}


def test_official_windows_must_be_the_published_ones(tmp_path):
    state = micro_swin(create("swin_micro").state_dict())
    state["layers.0.blocks.1.attn_mask"] = -state["layers.0.blocks.1.attn_mask"]
    torch.save(state, tmp_path / "bad.pth")
    with pytest.raises(UserError, match="layers.0.blocks.1.attn_mask with other values"):
        import_file(tmp_path / "bad.pth")


FILES = {
    "empty": (b"", "is empty"), "text": (b"no checkpoint at all", "neither a checkpoint of"),
    "cut": (b"PK\x03\x04 and so on", "neither a checkpoint of"),
    "safetensors": (b"\x40" + bytes(7) + b'{"a": 1', "is a damaged safetensors file"),
}


@pytest.mark.parametrize("case", FILES)
def test_damaged_files(case, tmp_path):
    content, sentence = FILES[case]
    (tmp_path / "bad.pth").write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        import_file(tmp_path / "bad.pth")


def test_no_file_and_wrong_choices(tmp_path):
    with pytest.raises(UserError, match="cannot be read: No such file"):
        import_file(tmp_path / "nothing.pth")
    path = tmp_path / "theirs.pth"
    torch.save(create("deit_micro").state_dict(), path)
    with pytest.raises(UserError, match="there is no network nothing"):
        import_file(path, network="nothing")
    with pytest.raises(UserError, match="pixels cannot be"):
        import_file(path, pixels="other")
    with pytest.raises(UserError, match="does not fit bivit_deit_micro: 8 tensors missing"):
        import_file(path, network="bivit_deit_micro")


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("legacy", (False, True))
def test_code_in_a_pickle_does_not_run(legacy, tmp_path):
    trap, path = tmp_path / "trap", tmp_path / "bad.pth"
    content = {"model": create("deit_micro").state_dict(), "args": Malicious(trap)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match=r"holds \w+.mkdir and not only tensors, and loading that "
                                        "could run code, so nothing was loaded"):
        import_file(path)
    assert not trap.exists()
    torch.load(path, weights_only=False)
    assert trap.is_dir()  # the trap works


def test_files_of_bivit_and_no_folder(tmp_path):
    torch.save(create("deit_micro").state_dict(), tmp_path / "theirs.pth")
    import_file(tmp_path / "theirs.pth", tmp_path / "ours.safetensors")
    with pytest.raises(UserError, match="is a file of bivit already"):
        import_file(tmp_path / "ours.safetensors")
    with pytest.raises(UserError, match="folder .*nowhere does not exist"):
        import_file(tmp_path / "theirs.pth", tmp_path / "nowhere" / "ours.safetensors")


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name in MICRO])
def test_what_was_imported_runs_on_the_machine(name, tmp_path):
    theirs, ours, integers = (tmp_path / file for file in ("theirs.pth", "ours.safetensors",
                                                           "integers.safetensors"))
    torch.save(PUBLISHED[name](random_network(name).state_dict()), theirs)
    import_file(theirs, ours, network=name if name in AMBIGUOUS else None)
    graph = convert_file(ours, integers, images(4))
    program = lower(graph, TARGETS["tiny"])
    stream = image_stream(images(1).numpy()[0], next(
        node for node in graph.nodes if node.op == "patchify").attributes["patch_size"])
    run = InstructionSimulator(program.arch, program.words, program.constants).run([stream])
    assert (run.logits == load(integers)(images(1)).numpy()).all()
    assert len(set(run.logits[0].tolist())) > 1


def test_what_has_no_integer_form_is_refused(tmp_path):
    theirs, ours = tmp_path / "theirs.pth", tmp_path / "ours.safetensors"
    torch.save(random_network("bivit_w1a32_deit_micro").state_dict(), theirs)
    import_file(theirs, ours, network="bivit_w1a32_deit_micro")
    with pytest.raises(UserError, match="BinaryWeightMlp has no integer form"):
        convert_file(ours, tmp_path / "none.safetensors", images(4))
    assert not (tmp_path / "none.safetensors").exists()


def test_a_whole_module_is_refused(tmp_path):
    torch.save(create("deit_micro"), tmp_path / "bad.pth")
    with pytest.raises(UserError, match="holds bivit.models.vit.VisionTransformer and not only"):
        import_file(tmp_path / "bad.pth")


def test_command_line(tmp_path, capsys):
    torch.save(random_network("bivit_deit_micro").state_dict(), tmp_path / "theirs.pth")
    arguments = ["import", str(tmp_path / "theirs.pth"), "-o", str(tmp_path / "ours.safetensors")]
    for options in ([], ["--json", "--network", "bivit_deit_micro"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments + options)
        assert stop.value.code == 0
        out, _ = capsys.readouterr()
        assert ("recognised          BiViT DeiT" in out) != bool(options)
    said = json.loads(out)
    assert said["network"] == "bivit_deit_micro" and said["classes"] == 10
    assert said["also_fits"] == ["bivit_w1a32_deit_micro"]
    assert sum(ties["zeros"] for ties in said["ties"]) > 0
    model = load_float(tmp_path / "ours.safetensors", eight_bits=True)
    assert model.config == network("bivit_deit_micro").config
    assert float(model.patch_embed.step) == 0
