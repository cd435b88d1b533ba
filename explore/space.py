"""What is explored: parameters and their values, constraints, objectives, the search."""

import dataclasses
import hashlib
import itertools
import json
import math

from bivit.compiler.ir.errors import UserError
from bivit.explore.hardware import HARDWARE, arch_of, check_hardware
from bivit.hw.arch import ArchError
from bivit.hw.devices import DEVICES, RESOURCES

__all__ = ["AT_LEAST", "AT_MOST", "METHODS", "OBJECTIVES", "ExploreError", "Search", "Space",
           "Training"]

OBJECTIVES = {
    "cycles": "minimize", "interval": "minimize", "latency_ms": "minimize",
    **dict.fromkeys(RESOURCES, "minimize"), "array_luts": "minimize", "memory_kbit": "minimize",
    "device_share": "minimize", "fps": "maximize", "accuracy": "maximize",
    "utilization": "maximize",
}
"""What can be optimised, and where to."""
AT_LEAST = ("fps", "accuracy", "utilization")
"""Constraints that are lower limits."""
AT_MOST = tuple(name for name in OBJECTIVES if name not in AT_LEAST)
"""Constraints that are upper limits."""
METHODS = ("nsga2", "random", "grid")
"""Values of ``Search.method``."""
_COMBINATIONS = 20_000
"""So many combinations of hardware parameters are tried in search of one that can be built."""


class ExploreError(UserError):
    """A space or goal that cannot be explored: one sentence."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """How network variants are trained on the digits.

    Parameters
    ----------
    recipe : str
        Name or file; that of the network if empty.
    epochs : float
        Share of the recipe's epochs.
    seed : int
    """

    recipe: str = ""
    epochs: float = 0.1
    seed: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """How designs are proposed.

    Parameters
    ----------
    method : {"nsga2", "random", "grid"}
    designs : int
        How many are proposed.
    generation : int
        How many of them together, before results are looked at.
    seed : int
    """

    method: str = "nsga2"
    designs: int = 200
    generation: int = 40
    seed: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Space:
    """A space of designs.

    Parameters
    ----------
    hardware, network : dict of str to tuple
        Parameter to its values.
    training : Training or None
        None: random weights, or those of a checkpoint.
    constraints : dict of str to float
        Lower limits of :data:`AT_LEAST`, upper ones of :data:`AT_MOST`.
    objectives : tuple of str
    search : Search
    where : str
        What errors call it.
    """

    hardware: dict[str, tuple]
    network: dict[str, tuple]
    training: Training | None = None
    constraints: dict[str, float] = dataclasses.field(default_factory=dict)
    objectives: tuple[str, ...] = ("interval", "device_share")
    search: Search = Search()
    where: str = "the space"

    @property
    def parameters(self) -> dict[str, tuple]:
        """All parameters that a design names."""
        return self.hardware | {_NETWORK.get(name, name): values
                                for name, values in self.network.items()}

    @property
    def varied(self) -> dict[str, tuple]:
        """Those with more than one value."""
        return {name: values for name, values in self.parameters.items() if len(values) > 1}

    @property
    def size(self) -> int:
        """How many designs there are."""
        return math.prod(map(len, self.parameters.values()))

    def design(self, chosen: dict) -> dict:
        """A design from values of the parameters that are varied."""
        return {name: chosen.get(name, values[0]) for name, values in self.parameters.items()}

    @property
    def hash(self) -> str:
        """Of all that decides on the course of a search."""
        content = dataclasses.asdict(self)
        del content["where"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def check(self) -> None:
        """Refuse a space in which nothing can be found.

        Raises
        ------
        ExploreError
        """
        for name, values in self.parameters.items():
            if not values:
                raise ExploreError(f"{self.where}: {name} has no value to choose; give it one")
            if len(set(map(repr, values))) < len(values):
                raise ExploreError(f"{self.where}: {name} has a value twice; name each once")
        for name in ("device", "clock"):
            if name not in self.hardware:
                raise ExploreError(f"{self.where}: hardware has no {name}; name at least one")
        if "name" not in self.network:
            raise ExploreError(f"{self.where}: network has no name; `bivit models` lists them")
        for device in self.hardware["device"]:
            if device not in DEVICES:
                raise ExploreError(f"{self.where}: there is no device {device}; take of "
                                   f"{', '.join(DEVICES)}")
        self._check_goals()
        self._check_combinations()

    def _check_goals(self):
        if not self.objectives:
            raise ExploreError(f"{self.where}: there is no objective; name one of "
                               f"{', '.join(OBJECTIVES)}")
        for kind, names in (("objective", self.objectives), ("constraint", self.constraints)):
            for name in names:
                if name not in OBJECTIVES:
                    raise ExploreError(f"{self.where}: there is no {kind} {name}; take of "
                                       f"{', '.join(OBJECTIVES)}")
        if "accuracy" in (*self.objectives, *self.constraints) and self.training is None and any(
                not str(name).endswith(".safetensors") for name in self.network["name"]):
            raise ExploreError(f"{self.where}: accuracy needs trained networks; add [training], "
                               "or name a checkpoint with an accuracy")

    def _check_combinations(self):
        """At least one combination of the hardware parameters is a machine."""
        names, first = list(self.hardware), None
        for combination in itertools.islice(
                itertools.product(*self.hardware.values()), _COMBINATIONS):
            design = dict(zip(names, combination, strict=True))
            try:
                check_hardware(design)
                arch_of(design)
                return
            except ArchError as error:
                first = first or str(error)
        if math.prod(map(len, self.hardware.values())) <= _COMBINATIONS:
            raise ExploreError(f"{self.where}: no combination of the hardware parameters can be "
                               f"built; the first: {first}")


_NETWORK = {"name": "network"}
"""Parameters of the network that are called otherwise in a design."""

assert not set(HARDWARE) & {"network", "activations"}
