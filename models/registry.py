"""Named networks: how to make them, and the table of what they cost.

The table is a file, so that listing needs no PyTorch; ``python -m bivit.models.registry`` writes
it again by running every network without data.
"""

import dataclasses
import functools
import importlib
import tomllib
from pathlib import Path

from bivit.models.config import BinaryViTConfig, ViTConfig

__all__ = ["MODELS", "Network", "create", "listing", "measured", "network", "networks"]

MODELS = {
    "bivit_digits": ViTConfig(img_size=8, in_chans=1, patch_size=2, num_classes=10, embed_dim=128,
                              depth=4, num_heads=2),
    "bi_vit_digits": ViTConfig(img_size=8, in_chans=1, patch_size=2, num_classes=10, embed_dim=128,
                               depth=4, num_heads=2),
    "binaryvit_digits": BinaryViTConfig(
        img_size=8, in_chans=1, patch_size=1, num_classes=10, embed_dims=(32, 64, 128),
        depths=(1, 1, 2), num_heads=(1, 2, 4), mlp_ratios=(4, 4, 4), reductions=(2, 1, 1)),
}
"""Networks that come trained, ``METHOD_digits``: name to configuration."""

FAMILIES = ("deit", "swin", "nest", "binaryvit")
TABLE = Path(__file__).with_name("networks.toml")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """How to make one network.

    Parameters
    ----------
    config : ViTConfig, SwinConfig, NestConfig or BinaryViTConfig
    family : class
        The network's class.
    layers, eight_bits : dict of str to class
        Layers of the method; layers of the first and the last layer in 8 bits.
    """

    config: object
    family: type
    layers: dict
    eight_bits: dict

    def with_stem(self, bits: int | None) -> "Network":
        """The network with `bits` bits for each weight of its stem; None leaves what it has."""
        if bits is None:
            return self
        return dataclasses.replace(self, config=dataclasses.replace(self.config, stem_bits=bits))

    def build(self, *, eight_bits=False):
        """The network with random parameters.

        Parameters
        ----------
        eight_bits : bool
            First and last layer in 8 bits, as the integer form needs them; else in float, as the
            papers have them.
        """
        extra = self.eight_bits if eight_bits else {}
        return self.family(self.config, **(extra | self.layers))


@functools.cache
def networks() -> dict[str, Network]:
    """All networks by name: ``METHOD_BACKBONE``, or the backbone alone."""
    modules = {name: importlib.import_module(f"bivit.models.{name}") for name in FAMILIES}
    result = {}
    for name, config in MODELS.items():
        module = modules["deit" if isinstance(config, ViTConfig) else "binaryvit"]
        family, layers = module.METHODS[name.removesuffix("_digits")]
        result[name] = Network(config=config, family=family, layers=layers,
                               eight_bits=module.EIGHT_BITS)
    for module in modules.values():
        for backbone, config in module.CONFIGS.items():
            for method, (family, layers) in module.METHODS.items():
                name = backbone if method in ("float", "binaryvit") else f"{method}_{backbone}"
                result[name] = Network(config=config, family=family, layers=layers,
                                       eight_bits=module.EIGHT_BITS)
    return result


def network(name: str) -> Network:
    """The network of a name."""
    if name not in networks():
        raise ValueError(f"there is no network {name}; `bivit models` lists them")
    return networks()[name]


def create(name: str, *, eight_bits=False):
    """A network with random parameters, see :meth:`Network.build`."""
    return network(name).build(eight_bits=eight_bits)


def measured(name: str) -> dict:
    """The row of a network: its sizes, and its costs as counted on the network itself."""
    import torch

    from bivit.models.counts import costs

    entry = network(name)
    with torch.device("meta"):
        model = entry.build()
    config = entry.config
    return {
        "image": list(config.image_shape),
        **{key: list(value) if isinstance(value, tuple) else value
           for key, value in _sizes(config).items()},
        "num_classes": config.num_classes, **costs(model, config.image_shape)}


def _sizes(config):
    if isinstance(config, ViTConfig):
        return {key: getattr(config, key) for key in ("embed_dim", "depth", "num_heads")}
    return {"embed_dim": config.embed_dims, "depth": config.depths, "num_heads": config.num_heads}


def listing() -> list[dict]:
    """Every network's row, from the file."""
    rows = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    return [{"name": name, **row} for name, row in rows.items()]


def _write():
    rows = []
    for name in networks():
        lines = [f"{key} = {value}" for key, value in measured(name).items()]
        rows.append("\n".join([f"[{name}]", *lines]))
    TABLE.write_text("# Written by `python -m bivit.models.registry`.\n\n"
                     + "\n\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    _write()
