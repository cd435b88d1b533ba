"""A small network as a checkpoint, and a space around it in which a design takes little time."""

import pytest

from bivit.compiler.ir import checkpoint
from graphs import random_vit_graph

SPACE = """
objectives = ["interval", "device_share"]

[hardware]
device = ["ecp5-25f", "ecp5-85f"]
clock = 50
rows = [2, 3]
cols = {{ low = 2, high = 4, times = 2 }}
lanes = 16
weights = ["rom", "loaded"]

[network]
name = "{network}"

[search]
method = "{method}"
designs = {designs}
generation = 5
seed = 3
"""


@pytest.fixture(scope="session")
def network(tmp_path_factory):
    """The checkpoint."""
    path = tmp_path_factory.mktemp("network") / "net.safetensors"
    checkpoint.save(random_vit_graph(2), path)
    return path


@pytest.fixture
def space_file(network, tmp_path):
    """A function that writes a space."""
    def write(designs=10, method="nsga2"):
        path = tmp_path / "space.toml"
        path.write_text(SPACE.format(network=network, method=method, designs=designs))
        return path
    return write
