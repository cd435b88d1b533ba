"""A small network as a checkpoint, and a space around it."""

import pytest

from explore_space import SPACE, save_network


@pytest.fixture(scope="session")
def network(tmp_path_factory):
    """The checkpoint."""
    path = tmp_path_factory.mktemp("network") / "net.safetensors"
    save_network(path)
    return path


@pytest.fixture
def space_file(network, tmp_path):
    """A function that writes a space."""
    def write(designs=10, method="nsga2"):
        path = tmp_path / "space.toml"
        path.write_text(SPACE.format(network=network, method=method, designs=designs))
        return path
    return write
