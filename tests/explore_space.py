"""A small network, and a space around it in which a design takes little time."""

from bivit.compiler.ir import checkpoint
from graphs import random_vit_graph

__all__ = ["SPACE", "save_network"]

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


def save_network(path) -> None:
    """Write the checkpoint."""
    checkpoint.save(random_vit_graph(2), path)
