"""Operations: random uses are legal, and compute what a loop over single elements computes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bivit.compiler.ir import numeric
from bivit.compiler.ir.ops_attention import MASKED
from operations import CASES, make

RANGES = {"bits": (0, 1), "attention": (0, 1), "codes": (0, 255), "numbers": (-2**15, 2**15 - 1)}


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_results_have_the_stated_type(name, seed):
    case = make(name, seed)
    result = case.infer()
    low, high = RANGES.get(result.kind, (-2**31, 2**31 - 1))
    for value in case.evaluate():
        assert np.issubdtype(value.dtype, np.integer) and value.shape == result.shape
        assert value.min() >= low and value.max() <= high


def _each(name, element):
    """Check a use element by element: ``element(case, inputs, *position) -> int``."""
    @settings(max_examples=20, deadline=None)
    @given(seed=st.integers(0, 2**32))
    def run(seed):
        case = make(name, seed, images=1)
        (result,) = case.evaluate()
        for position in np.ndindex(result.shape):
            assert result[position] == element(case, case.images[0], *position), position
    run()


def _scaled(total, scale, bias, shift):
    """The rounding in whole numbers of Python."""
    return (int(total) * int(scale) + (int(bias) << (shift - 8)) + (1 << (shift - 1))) >> shift


def _clip(value, bits):
    return max(-(1 << (bits - 1)), min((1 << (bits - 1)) - 1, value))


def test_weighted_sum():
    def element(case, inputs, token, channel):
        t, total = case.tensors, 0
        for tap, place in enumerate(t["index"][token]):
            part = t["part"][tap]
            if place >= 0:
                total += int(inputs[t["source"][part]][place, channel]) * int(
                    t["scale"][part, channel])
        return _clip(_scaled(total, 1, t["bias"][channel], case.attributes["shift"]),
                     case.attributes["bits"])
    _each("weighted_sum", element)


@pytest.mark.parametrize("addend", (False, True))
def test_bend(addend):
    def element(case, inputs, token, channel):
        x, t = int(inputs[0][token, channel]), case.tensors
        side = "above" if x >= t["knee"][channel] else "below"
        y = _scaled(x, t[f"scale_{side}"][channel], t[f"bias_{side}"][channel],
                    case.attributes["shift"])
        return _clip(y + (int(inputs[1][token, channel]) if addend else 0),
                     case.attributes["bits"])
    _each("bend addend" if addend else "bend", element)


def test_fold_channels():
    def element(case, inputs, token, channel):
        group = case.attributes["group"]
        total = sum(int(x) for x in inputs[0][token, channel * group:(channel + 1) * group])
        return _clip(_scaled(total, case.tensors["scale"][channel], case.tensors["bias"][channel],
                             case.attributes["shift"]), case.attributes["bits"])
    _each("fold_channels", element)


def test_tile_channels():
    _each("tile_channels", lambda case, inputs, token, channel:
          inputs[0][token, channel % inputs[0].shape[1]])


def test_max_pool():
    _each("max_pool", lambda case, inputs, token, channel:
          max(inputs[0][place, channel] for place in case.tensors["index"][token] if place >= 0))


@pytest.mark.parametrize("kind", ("numbers", "bits", "codes"))
def test_gather(kind):
    def element(case, inputs, token, channel):
        part, inside = divmod(channel, inputs[0].shape[1])
        place = case.tensors["index"][token, part]
        return case.attributes["fill"] if place < 0 else inputs[0][place, inside]
    _each(f"gather {kind}", element)


def _head(x, token, head, heads):
    size = x.shape[1] // heads
    return [2 * int(bit) - 1 for bit in x[token, head * size:(head + 1) * size]]


def test_window_scores():
    def element(case, inputs, head, query, key):
        heads, size = case.attributes["num_heads"], len(inputs[0]) // case.attributes["windows"]
        queries = _head(inputs[0], query, head, heads)
        keys = _head(inputs[1], query // size * size + key, head, heads)
        return sum(a * b for a, b in zip(queries, keys, strict=True))
    _each("window_scores", element)


@pytest.mark.parametrize("name", ("attend", "attend windows", "attend_levels"))
def test_attend(name):
    def element(case, inputs, query, channel):
        attention, values = inputs
        heads, _, size = attention.shape
        head, start = channel // (values.shape[1] // heads), query // size * size
        zero = int(case.tensors["zero"][head]) if case.tensors else 0
        return sum(2 * int(values[start + key, channel]) - 1 - zero for key in range(size)
                   if attention[head, query, key])
    _each(name, element)


def test_score_bias():
    def element(case, inputs, head, query, key):
        size = inputs[0].shape[2]
        kind = case.tensors["kind"][query // size]
        bias = int(case.tensors["bias"][kind, head, query % size, key])
        return MASKED if bias == -8192 else 16 * int(inputs[0][head, query, key]) + bias
    _each("score_bias", element)


@pytest.mark.parametrize("kind, units", (("dot", 16), ("scores", 1)))
def test_softmax_absolute(kind, units):
    def element(case, inputs, head, query, key):
        row, t = [int(score) for score in inputs[0][head, query]], case.tensors
        if row[key] == MASKED:
            return 0
        powers = [0 if score == MASKED else int(numeric.exponential(
            units * (max(row) - score), int(t["multiplier"][head]))) for score in row]
        reached = powers[key] << 20 >= int(t["threshold"][head]) * sum(powers)
        return int(reached != bool(t["flip"][head]))
    _each(f"softmax_absolute {kind}", element)


def test_softmax_absolute_is_about_a_softmax():
    scale, limit, multiplier = 0.25, 0.1, round(0.25 * 64 / 16 * np.log2(np.e) * 2**12)
    scores = np.random.default_rng(0).integers(-20, 20, (1, 400, 9))
    tensors = {"multiplier": [multiplier], "threshold": [round(limit * 2**20)], "flip": [0]}
    case = make("softmax_absolute dot", 0)
    from bivit.compiler.ir.ops import OPS
    bits = OPS[case.op].evaluate([scores], {}, {n: np.array(v) for n, v in tensors.items()})
    power = np.exp(scale * (scores - scores.max(-1, keepdims=True)))
    share = power / power.sum(-1, keepdims=True)
    clear = abs(share / limit - 1) > 0.02
    assert clear.mean() > 0.9 and (bits == (share >= limit))[clear].all()


@pytest.mark.parametrize("op", ("softmax_threshold", "score_threshold"))
@pytest.mark.parametrize("kind", ("dot", "scores"))
def test_thresholds_of_scores(op, kind):
    def element(case, inputs, head, query, key):
        row = inputs[0][head, query]
        limit = (case.attributes["limit"] if op == "score_threshold"
                 else row.max() - case.attributes["delta"])
        return int(row[key] != MASKED and row[key] >= limit)
    _each(f"{op} {kind}", element)


def test_head_norm_bits():
    def element(case, inputs, token, channel):
        size = inputs[0].shape[1] // case.attributes["num_heads"]
        own = slice(channel // size * size, channel // size * size + size)
        bits = numeric.normalise_to_bits(inputs[0][token, own], case.tensors["k"][own],
                                         case.tensors["kind"][own], case.attributes["eps"])
        return bits[channel % size]
    _each("head_norm_bits", element)


@pytest.mark.parametrize("kind", ("codes", "bits"))
def test_plane_linear(kind):
    def element(case, inputs, token, channel):
        levels = [2 * int(x) - (255 if kind == "codes" else 1) for x in inputs[0][token]]
        return sum(a * int(w) for a, w in zip(levels, case.tensors["weight"][channel],
                                              strict=True))
    _each(f"plane_linear {kind}", element)
