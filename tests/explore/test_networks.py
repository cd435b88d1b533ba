"""Networks of a space: trained once, cached, refused with a reason; batches; workers."""

import pytest

from bivit.explore import networks
from bivit.explore.evaluate import evaluate
from bivit.explore.networks import Variant, prepare
from bivit.explore.space import Training
from bivit.explore.space_file import load_space
from bivit.explore.workers import workers_of
from explore_space import SPACE

SMALL = (("embed_dim", 8), ("depth", 1), ("num_heads", 1), ("patch_size", 4), ("mlp_ratio", 1.0))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BIVIT_CACHE", str(tmp_path))
    return tmp_path


def test_trained_once(cache, monkeypatch):
    """An integer network with its accuracy on held-out images, then from the cache."""
    variant = Variant(name="bivit_digits", overrides=(*SMALL, ("activations", "W1A8")),
                      training=Training(epochs=1e-9))
    first = prepare(variant)
    assert first.problem is None and 0 < first.accuracy < 1
    assert first.accuracy * 360 == pytest.approx(round(first.accuracy * 360))
    assert {node.op for node in first.graph.nodes} >= {"to_codes"} or any(
        node.op == "plane_linear" for node in first.graph.nodes[3:])
    monkeypatch.setattr(networks, "_make", None)
    assert prepare(variant).accuracy == first.accuracy
    other = Variant(name="bivit_digits", overrides=SMALL, training=Training(epochs=1e-9))
    assert other.key != variant.key


@pytest.mark.parametrize("overrides, words", [
    ((("num_heads", 3),), "num_heads 3 does not divide embed_dim 128"),
    ((("patch_size", 3),), "patch_size 3 does not divide the image"),
    ((("window_size", 3),), "bivit_digits has no window_size"),
    ((("activations", "W2A2"),), "there are no activations W2A2"),
    ((("img_size", 16),), "training is on digits")])
def test_sizes_that_contradict_each_other(cache, overrides, words):
    prepared = prepare(Variant(name="bivit_digits", overrides=overrides, training=Training()))
    assert prepared.graph is None and words in prepared.problem
    record = evaluate({"device": "up5k", "clock": 1.0}, prepared, {})
    assert record["status"] == "refused" and record["broken"][0]["constraint"] == "network"


def test_batches_and_streams(network):
    """Images that share a load of weights: fewer cycles each, the weights partly on chip."""
    design = {"device": "ecp5-85f", "clock": 100.0, "rows": 2, "cols": 4, "lanes": 16,
              "weights": "streamed", "port_bits": 16, "constants": 1.0}
    prepared = prepare(Variant(name=str(network)))
    alone = evaluate(design, prepared, {})
    both = evaluate(design | {"batch": 2}, prepared, {})
    part = evaluate(design | {"constants": 0.5}, prepared, {})
    assert both["cycles"] > alone["cycles"] == alone["interval"] > both["interval"]
    assert part["target"]["weight_depth"] < alone["target"]["weight_depth"]
    little = evaluate(design | {"weight_depth": 2}, prepared, {})
    assert little["broken"][0]["constraint"] in ("weight_depth", "compiler")


def test_workers_of_dask(network, tmp_path):
    """A cluster finds what this process finds."""
    path = tmp_path / "space.toml"
    path.write_text(SPACE.format(network=network, method="grid", designs=4))
    space = load_space(path)
    design = space.design({})
    jobs = {f"{cols}": (design | {"cols": cols}, Variant(name=str(network))) for cols in (2, 4)}
    found = []
    for count in (0, 1):
        with workers_of(space, count) as workers:
            found.append({key: {name: value for name, value in record.items() if name != "seconds"}
                          for key, record in workers.run(jobs)})
    assert found[0] == found[1] and len(found[0]) == 2
