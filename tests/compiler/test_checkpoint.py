"""Checkpoints: what goes in comes out, and everything else is refused by name."""

import json

import numpy as np
import pytest
import safetensors.numpy

from bivit.compiler.ir import checkpoint
from bivit.compiler.ir.checkpoint import CheckpointError
from bivit.compiler.ir.graph import Graph, Node
from graphs import random_image, random_vit_graph


@pytest.fixture
def small():
    return Graph((1, 4, 4), (
        Node("patches", "patchify", ("input",), {"patch_size": 2}),
        Node("linear", "plane_linear", ("patches",), {}, {"weight": np.array([[1, 3, -5, 255]])}),
        Node("numbers", "rescale", ("linear",), {"shift": 14, "bits": 12},
             {"scale": np.array([-3]), "bias": np.array([70000])})), {"note": "é"})


@pytest.fixture
def path(tmp_path, small):
    checkpoint.save(small, tmp_path / "small.safetensors")
    return tmp_path / "small.safetensors"


def rewrite(path, change):
    """Change the metadata of a checkpoint."""
    data = path.read_bytes()
    header = json.loads(data[8:8 + int.from_bytes(data[:8], "little")])
    content = json.loads(header["__metadata__"]["bivit"])
    tensors = change(content, dict(safetensors.numpy.load(data)))
    path.write_bytes(safetensors.numpy.save(tensors, {"bivit": checkpoint._canonical(content)}))


def refused(path, *words):
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(path)
    for word in (path.name, *words):
        assert word in str(caught.value)


def test_round_trip_and_equal_bytes(tmp_path):
    graph = random_vit_graph(1, depth=2, embed_dim=13)
    checkpoint.save(graph, tmp_path / "a")
    again = checkpoint.load(tmp_path / "a")
    checkpoint.save(again, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    image = random_image(2, graph.input_shape)
    expected, found = graph.evaluate(image), again.evaluate(image)
    assert all((expected[name] == found[name]).all() for name in expected)
    assert again.metadata == graph.metadata


def test_every_flipped_bit_is_refused(path):
    data = path.read_bytes()
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        path.write_bytes(changed)
        refused(path)


def test_truncated(path):
    data = path.read_bytes()
    for length in range(0, len(data), 13):
        path.write_bytes(data[:length])
        refused(path)


def test_missing_file(tmp_path):
    refused(tmp_path / "nothing.safetensors", "No such file")


def test_wrong_version(path):
    def change(content, tensors):
        content["version"] = 7
        return tensors
    rewrite(path, change)
    refused(path, "version 7")


@pytest.mark.parametrize("value, word", ((np.nan, "NaN"), (1.0, "F32")))
def test_float_tensors(path, value, word):
    def change(content, tensors):
        return tensors | {"linear/weight": np.full((1, 4), value, np.float32)}
    rewrite(path, change)
    refused(path, "linear/weight", word)


def test_other_safetensors_file(tmp_path):
    path = tmp_path / "other.safetensors"
    path.write_bytes(safetensors.numpy.save({"a": np.zeros(3, np.float32)}))
    refused(path, "no bivit checkpoint")


def with_fitting_hash(path, change):
    """Change the metadata of a checkpoint and mend the hash."""
    def change_and_mend(content, tensors):
        change(content)
        content["hash"] = checkpoint._hash(content, {name: value.tobytes()
                                                     for name, value in tensors.items()})
        return tensors
    rewrite(path, change_and_mend)


def test_illegal_graph_with_a_fitting_hash(path):
    def change(content):
        content["graph"]["nodes"][1]["op"] = "convolution"
    with_fitting_hash(path, change)
    refused(path, "linear", "unknown operation")


@pytest.mark.parametrize("numbers", (None, {}, {"bias_fraction": 9}))
def test_other_numeric_formats_with_a_fitting_hash(path, numbers):
    def change(content):
        content["numeric"] = {**content["numeric"], **numbers} if numbers else numbers
    with_fitting_hash(path, change)
    refused(path, "numeric formats")


@pytest.mark.parametrize("shape", ([1.0, 4.0, 4.0], [True, 4, 4], [1, 4], [1, 4, "4"], [1, 4, 0]))
def test_strange_input_shape_with_a_fitting_hash(path, shape):
    with_fitting_hash(path, lambda content: content["graph"].update(input_shape=shape))
    refused(path, "input shape")


@pytest.mark.parametrize("metadata", (None, 5, [], "x"))
def test_strange_metadata_with_a_fitting_hash(path, metadata):
    with_fitting_hash(path, lambda content: content.update(metadata=metadata))
    refused(path, "inconsistent")


def test_float_graph_is_not_saved(tmp_path, small):
    small.node("numbers").tensors["scale"] = np.array([0.5])
    with pytest.raises(CheckpointError, match="numbers.*not integer"):
        checkpoint.save(small, tmp_path / "x")
    assert not list(tmp_path.iterdir())
