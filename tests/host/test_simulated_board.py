"""The whole board top in Verilator, pins and all, driven by the command."""

import dataclasses
import json

import numpy as np
import pytest

from bivit.cli.main import main
from bivit.compiler.build import compile, load_build
from bivit.compiler.ir import checkpoint
from bivit.hw.targets import TARGETS
from bivit.models.digits import CHECKPOINT
from graphs import random_image, random_vit_graph

SHAPE = (1, 4, 6)


@pytest.fixture(scope="module",
                params=["rom", pytest.param("loaded", marks=pytest.mark.slow)])
def build(request, tmp_path_factory):
    """A build of a small random network, and images for it."""
    folder = tmp_path_factory.mktemp("board")
    checkpoint.save(random_vit_graph(5, embed_dim=11, num_heads=2, image_shape=SHAPE, mlp_dim=9,
                                     num_classes=3), folder / "net.safetensors")
    compile(folder / "net.safetensors",
            dataclasses.replace(TARGETS["tiny"], name="board", weights=request.param),
            folder / "build")
    np.save(folder / "images.npy", np.array([random_image(seed, SHAPE) for seed in range(12)]))
    return folder / "build"


def run(capsys, *arguments, status=0):
    with pytest.raises(SystemExit) as exit_:
        main(["run", *map(str, arguments), "--json"])
    assert exit_.value.code == status
    return json.loads(capsys.readouterr().out)


def expected(folder, count):
    graph = load_build(folder).graph
    images = np.load(folder.parent / "images.npy")[:count]
    return [graph.evaluate(image)["logits"].reshape(-1).tolist() for image in images]


def test_logits_through_the_pins(build, capsys):
    result = run(capsys, build, "--sim", "--input", build.parent / "images.npy", "--images", 4)
    assert result["logits"] == expected(build, 4)
    assert result["mismatches"] == 0 and result["refused"] == []
    assert result["cycles_per_image"] > 0


def test_a_line_with_faults(build, capsys):
    result = run(capsys, build, "--sim", "--input", build.parent / "images.npy",
                 "--faults", 3)
    assert result["logits"] == expected(build, 12)
    assert result["faults"] > 0 and result["requests_repeated"] > 0


@pytest.mark.slow
def test_digits(tmp_path, capsys):
    compile(CHECKPOINT, "tiny", tmp_path / "digits")
    for faults in ([], ["--faults", 1]):
        result = run(capsys, tmp_path / "digits", "--sim", "--images", 20, *faults)
        assert (result["images"], result["mismatches"], result["refused"]) == (20, 0, [])
        assert result["top1"] >= 0.9
