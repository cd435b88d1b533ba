"""Comparison of observations, and their collection from results and write events."""

import numpy as np
import pytest

from bivit.hw.isa import Destination, Opcode
from bivit.hw.memories import memories
from bivit.hw.targets import TARGETS
from bivit.sim.compare import compare
from bivit.sim.observe import MISSING, observations
from bivit.sim.replay import Replay
from bivit.sim.stream import ImageError, check_images


def test_equal():
    tensors = {"a": np.arange(6).reshape(2, 3), "b": np.ones((2, 1), np.uint8)}
    assert compare(tensors, tensors) == (0, None)


def test_first_difference_in_network_order():
    expected = {"z": np.zeros((2, 3), int), "a": np.zeros((2, 2), int)}
    found = {"a": np.ones((2, 2), int), "z": np.array([[0, 0, 0], [0, 0, 7]])}
    count, first = compare(found, expected)
    assert count == 5
    assert (first.name, first.index, first.found, first.expected) == ("z", (1, 2), 7, 0)
    assert str(first) == "z[2] of image 1 is 7 and should be 0"


def test_names_and_shapes_must_fit():
    with pytest.raises(ValueError, match="only one side.*b"):
        compare({"a": np.zeros(1), "b": np.zeros(1)}, {"a": np.zeros(1)})
    with pytest.raises(ValueError, match="a has shape"):
        compare({"a": np.zeros((1, 2))}, {"a": np.zeros((1, 3))})


def test_images_are_checked():
    good = np.zeros((2, 1, 8, 8), np.uint8)
    assert check_images(good, (1, 8, 8)) is good
    for bad, message in ((good.astype(float), "uint8 array of pixels, not float64"),
                         (good[0], r"shape \(1, 8, 8\)"), (good[:, :, :7], "takes"),
                         (good[:0], "no images"), ([[1]], "not list")):
        with pytest.raises(ImageError, match=message):
            check_images(bad, (1, 8, 8))


MANIFEST = {
    "executed": [
        {"layer": 0, "observe": {"name": "x", "rows": [0, 2], "cols": [0, 3]}},
        {"layer": 0},
        {"layer": 0, "observe": {"name": "x", "head": None, "rows": [2, 3], "cols": [0, 3],
                                 "row": 1}}],
    "observations": [{"name": "x", "kind": "bits", "shape": [3, 3]}],
}


def test_observations_join_rectangles():
    result = np.arange(8).reshape(1, 2, 4)
    results = {(0, "observe"): result, (2, "observe"): 10 * result}
    tensor = observations(MANIFEST, results, 1)["x"]
    assert tensor.tolist() == [[[0, 1, 2], [4, 5, 6], [40, 50, 60]]]


def test_copies_must_be_alike():
    place = MANIFEST["executed"][0]
    manifest = {"executed": [place, place],
                "observations": [{"name": "x", "kind": "bits", "shape": [2, 3]}]}
    first, second = np.zeros((2, 1, 2, 4), int)
    copies = {(0, "observe"): first, (1, "observe"): second}
    assert not observations(manifest, copies, 1)["x"].any()
    first[0, 1, 2] = 1
    tensor = observations(manifest, copies, 1)
    count, difference = compare(tensor, {"x": first[..., :3]})
    assert count == 1 and "stored in two ways" in str(difference)


def test_what_nothing_gives_is_missing():
    results = {(0, "observe"): np.zeros((1, 2, 2), int)}
    tensors = observations(MANIFEST, results, 1)
    assert (tensors["x"] == MISSING).tolist() == [[[0, 0, 1], [0, 0, 1], [1, 1, 1]]]
    count, first = compare(tensors, {"x": np.zeros((1, 3, 3), int)})
    assert count == 5 and str(first) == "x[0, 2] of image 0 is not computed and should be 0"


def events_of(writes):
    """Addresses, masks and data of one image, from tuples of integers."""
    words = [np.array([[value >> 32 * i & 0xFFFFFFFF for i in range(4)] for value in column],
                      np.uint32) for column in list(zip(*writes, strict=True))[1:]]
    return np.array([write[0] for write in writes]), words[0], words[1][None]


def test_replay_applies_masks_and_starts_blank():
    arch = TARGETS["tiny"]
    fields = {"dst": Destination.HMEM.value, "dst_addr": 3, "dst_pos": 0, "n_tiles": 1}
    replay = Replay(arch, 1)
    row = (1 << arch.cols) - 1
    writes = [(3, row, 0b0101), (3, row << arch.lanes, row << arch.lanes), (3, 0b0001, 0)]
    found = replay.results(Opcode.MM_BITS, fields, {"hmem": events_of(writes)})
    assert found["observe"].tolist() == [
        [[0, 0, 1, 0], [1, 1, 1, 1]]]
    assert not replay.results(Opcode.MM_BITS, fields, {})["observe"].any()


def test_replay_of_numbers():
    arch = TARGETS["tiny"]
    fields = {"dst_addr": 0, "n_tiles": 1, "row_lo": 0, "row_hi": 2}
    everything = (1 << memories(arch)["resid"].width) - 1
    writes = {"resid": events_of([(0, everything, everything), (1, everything, 5)])}
    found = Replay(arch, 1).results(Opcode.MM_ACC, fields, writes)
    assert found["observe"].tolist() == [
        [[-1] * 4, [5, 0, 0, 0]]]
