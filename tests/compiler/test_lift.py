"""Signs of scaled numbers as signs of the numbers: exhaustive, and what the pass leaves alone."""

import dataclasses

import numpy as np
import pytest

from bivit.compiler.ir import numeric
from bivit.compiler.ir.graph import Graph, Node
from bivit.compiler.lift import lift_signs, lifted_threshold

NUMBERS = np.arange(-2**15, 2**15)[:, None]


def nodes(rng, channels=40):
    """A sum of one term and its sign, of every kind of channel."""
    scale = rng.choice([0, 1, -1, 3, -700, 2**15 - 1, -2**15], channels)
    bias = rng.integers(-2**23, 2**23, channels) >> rng.integers(0, 20, channels)
    sums = Node("n", "weighted_sum", ("x",), {"bits": 16, "shift": 14}, {
        "index": np.arange(3)[:, None], "part": np.zeros(1, int), "source": np.zeros(1, int),
        "scale": scale[None], "bias": bias})
    threshold = rng.integers(-2**16, 2**16, channels) >> rng.integers(0, 16, channels)
    sign = Node("s", "threshold", ("n",), {}, {
        "threshold": threshold, "descending": rng.integers(0, 2, channels)})
    return sums, sign


@pytest.mark.parametrize("seed", range(4))
def test_every_number_gives_the_same_bit(seed):
    sums, sign = nodes(np.random.default_rng(seed))
    numbers = numeric.saturate(numeric.rescale(
        NUMBERS, sums.tensors["scale"][0], sums.tensors["bias"], 14), 16)
    expected = numeric.threshold_bits(numbers, *(sign.tensors[name] for name in
                                                 ("threshold", "descending")))
    threshold, descending = lifted_threshold(sums, sign)
    found = numeric.threshold_bits(NUMBERS, threshold, descending)
    assert (found == expected).all()
    assert (expected.any(0) & ~expected.all(0)).sum() > 5


def chain(total, sign, **changes):
    """A graph (not a legal network) of a product's numbers, the sum and two signs of it."""
    other = dataclasses.replace(sign, name="t")
    reader = Node("l", "binary_linear", ("s",))
    return Graph((1, 1, 1), (Node("x", changes.get("maker", "bend"), ("y",)),
                             dataclasses.replace(total, **changes.get("sums", {})), sign, other,
                             dataclasses.replace(reader, op=changes.get("reader", reader.op))))


def test_one_sign_of_a_product_is_lifted():
    sums, sign = nodes(np.random.default_rng(0))
    inputs = {node.name: node.inputs for node in lift_signs(chain(sums, sign)).nodes}
    assert inputs["s"] == ("x",) and inputs["t"] == ("n",)


def test_limits_beyond_the_type_of_the_thresholds():
    sums, sign = nodes(np.random.default_rng(0))
    sign = dataclasses.replace(sign, tensors={  # as a checkpoint stores small numbers
        name: array.clip(-99, 99).astype(np.int8) for name, array in sign.tensors.items()})
    lifted = next(node for node in lift_signs(chain(sums, sign)).nodes if node.name == "s")
    threshold, descending = lifted_threshold(sums, sign)
    assert (lifted.tensors["threshold"] == threshold).all() and np.ptp(threshold) > 999
    assert (lifted.tensors["descending"] == descending).all()


@pytest.mark.parametrize("changes", [
    {"maker": "max_pool"}, {"reader": "scores"}, {"sums": {"inputs": ("x", "x")}},
    {"sums": {"tensors": {"index": np.array([[1], [0], [2]])}}}])
def test_what_is_left_alone(changes):
    sums, sign = nodes(np.random.default_rng(0))
    graph = chain(sums, sign, **changes)
    found = {node.name: node.inputs for node in lift_signs(graph).nodes}
    assert found["s"] == ("n",)
