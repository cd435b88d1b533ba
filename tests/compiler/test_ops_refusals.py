"""Operations: what hardware cannot hold is refused in one sentence that names the layer."""

import numpy as np
import pytest

from bivit.compiler.ir.graph import Graph, GraphError, Node
from bivit.compiler.ir.ops import OPS, OpError, TensorType
from operations import make


def _set(name, value, *places):
    def change(case):
        if name in case.attributes:
            case.attributes[name] = value
            return
        tensor = case.tensors[name] = case.tensors[name].copy()
        tensor[places[0] if places else (0,) * tensor.ndim] = value
    return change


def _longer(name):
    def change(case):
        case.tensors[name] = np.concatenate([case.tensors[name], case.tensors[name][:1]])
    return change


def _masked_row(case):
    case.tensors["bias"] = np.full_like(case.tensors["bias"], -8192)


@pytest.mark.parametrize("name, change, says", [
    ("plane_linear codes", _set("weight", 2), "even"),
    ("plane_linear bits", _set("weight", 257), "outside -255..255"),
    ("binary_linear", _set("weight", 2), "outside 0..1"),
    ("scores", _set("num_heads", 0), "0 heads"),
    ("window_scores", _set("windows", 0), "windows 0 is not in"),
    ("window_scores", _set("windows", 10**6), "windows 1000000 is not in"),
    ("attend_levels", _set("zero", 2), "zero has values outside -1..1"),
    ("attend_levels", _longer("zero"), "zero has shape"),
    ("score_bias", _set("bias", 8192), "bias has values outside -8192..8191"),
    ("score_bias", _set("kind", 9), "kind has values outside"),
    ("score_bias", _longer("kind"), "kind has shape"),
    ("score_bias", _masked_row, "masks every key of a query"),
    ("softmax_threshold dot", _set("delta", 2**13), "delta 8192 is not in 0..8191"),
    ("softmax_threshold scores", _set("delta", 2**18), "delta 262144 is not in 0..262143"),
    ("score_threshold dot", _set("limit", 2**23), "limit 8388608 is not in"),
    ("softmax_absolute dot", _set("multiplier", 0), "multiplier has values outside 1..65535"),
    ("softmax_absolute dot", _set("threshold", 2**21), "threshold has values outside 1..2097151"),
    ("softmax_absolute scores", _set("flip", 2), "flip has values outside 0..1"),
    ("softmax_absolute dot", _longer("flip"), "flip has shape"),
    ("rescale", _set("scale", 2**15), "scale has values outside"),
    ("rescale", _set("bias", 2**23), "bias has values outside"),
    ("rescale", _set("shift", 9), "shift 9 is not one of"),
    ("rescale", _set("bits", 17), "bits 17 is not in 2..16"),
    ("embed", _set("table", 2**15), "table has values outside"),
    ("bend", _set("knee", 2**15), "knee has values outside"),
    ("bend", _set("scale_below", -2**15 - 1), "scale_below has values outside"),
    ("bend", _set("bias_above", 2**23), "bias_above has values outside"),
    ("add_table", _set("table", 2**15), "table has values outside"),
    ("add_table", _longer("table"), "table has shape"),
    ("tile_channels", _set("copies", 0), "copies 0 is not in"),
    ("fold_channels", _set("group", 0), "groups of 0 channels"),
    ("weighted_sum", _set("index", -2), "index has values below -1"),
    ("weighted_sum", _set("index", 99), "index names token 99 of input"),
    ("weighted_sum", _set("part", 9), "part has values outside"),
    ("weighted_sum", _set("source", 4), "source has values outside"),
    ("weighted_sum", _set("scale", 2**15), "scale has values outside"),
    ("weighted_sum", _longer("part"), "part has shape"),
    ("weighted_sum", _longer("scale"), "scale has shape"),
    ("max_pool", _set("index", -1, slice(None)), "nothing to take the greatest of"),
    ("max_pool", _set("index", 99), "index names token 99"),
    ("norm_numbers", _set("eps", 0), "eps 0 is not in"),
    ("head_norm_bits", _set("num_heads", 99), "99 heads do not divide"),
    ("head_norm_bits", _set("kind", 4), "kind has values outside 0..3"),
    ("codes", _set("scale", 2**15), "scale has values outside"),
    ("gather bits", _set("index", -1), "index has values below 0"),
    ("gather numbers", _set("fill", 1), "fill 1 is not in 0..0"),
    ("gather codes", _set("fill", 256), "fill 256 is not in 0..255"),
    ("gather codes", _set("index", 99), "index names token 99"),
    ("threshold numbers", _set("threshold", 2**31), "threshold has values outside"),
    ("select", _set("token", 99), "there is no token 99"),
])
def test_bad_constants(name, change, says):
    case = make(name, 3)
    case.infer()
    change(case)
    with pytest.raises(OpError, match=says) as refusal:
        case.infer()
    assert "\n" not in str(refusal.value)


def test_a_sum_that_outgrows_the_adders():
    sizes = {"index": np.zeros((1, 600), np.int64), "part": np.zeros(600, np.int64),
             "source": np.zeros(1, np.int64), "scale": np.full((1, 2), 2**15 - 1),
             "bias": np.zeros(2, np.int64)}
    numbers = TensorType("numbers", (1, 2))
    with pytest.raises(OpError, match="more than 16777216; use a smaller shift"):
        OPS["weighted_sum"].infer([numbers], {"shift": 8, "bits": 16}, sizes)


def test_sources_need_equal_channels():
    case = make("weighted_sum", 0)
    with pytest.raises(OpError, match="they need equally many"):
        OPS["weighted_sum"].infer([TensorType("numbers", (3, 4)), TensorType("numbers", (3, 5))],
                                  case.attributes, case.tensors)


def _graph(*nodes):
    return Graph((1, 4, 4), (Node("patches", "patchify", ("input",), {"patch_size": 2}), *nodes))


def test_kinds_are_named():
    graph = _graph(Node("bits", "threshold", ("patches",), {}, {
        "threshold": np.zeros(4, np.int64), "descending": np.zeros(4, np.int64)}))
    with pytest.raises(GraphError, match="layer bits .*: needs dot or numbers and patches gives "
                                         "codes"):
        graph.infer()


def test_inputs_are_counted():
    graph = _graph(Node("moved", "gather", ("patches", "patches"), {"fill": 0},
                        {"index": np.zeros((1, 1), np.int64)}))
    with pytest.raises(GraphError, match="takes 1 to 1 inputs, not 2"):
        graph.infer()


def test_scores_are_no_rows():
    tensors = {"threshold": np.zeros(3, np.int64), "descending": np.zeros(3, np.int64)}
    with pytest.raises(OpError, match="needs \\(tokens, channels\\)"):
        OPS["threshold"].infer([TensorType("dot", (2, 3, 3))], {}, tensors)
