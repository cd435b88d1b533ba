"""A goal instead of a space: the cheapest design that reaches it, or why none does."""

import dataclasses
import re

from bivit.explore.front import title
from bivit.explore.hardware import device_of
from bivit.explore.networks import SHIPPED
from bivit.explore.space import ExploreError, Search, Space
from bivit.explore.store import constraint_values
from bivit.hw.arch import PORT_BITS
from bivit.hw.devices import RESOURCES

__all__ = ["Goal", "space_of", "verdict"]

_ARRAYS = {"rows": (2, 3, 4, 6, 8, 12, 16), "cols": (4, 8, 16), "lanes": (16, 32, 64),
           "post_rows": (1, 2, 3, 4, 8)}
_SHARES = (0.125, 0.25, 0.5, 1.0)
_GENERATION = 24


@dataclasses.dataclass(frozen=True, kw_only=True)
class Goal:
    """What is wanted.

    Parameters
    ----------
    network : str
        Of the registry, ``digits``, or a checkpoint.
    device : str
    clock : float
        MHz.
    memory : str, optional
        External memory that weights are streamed from, by its data bits: ``16bit``.
    batch : int
        Images that share a load of weights.
    fps, latency_ms, accuracy : float, optional
        Images a second at least, milliseconds of one at most, top-1 at least.
    designs : int
        How many are looked at.
    """

    network: str
    device: str
    clock: float = 100.0
    memory: str | None = None
    batch: int = 1
    fps: float | None = None
    latency_ms: float | None = None
    accuracy: float | None = None
    designs: int = 96
    seed: int = 0


def space_of(goal: Goal) -> Space:
    """The space around a device in which the cheapest design is looked for.

    Raises
    ------
    ExploreError
    """
    hardware = {"device": (goal.device,), "clock": (goal.clock,),
                "batch": (goal.batch,), **_ARRAYS}
    if goal.memory is not None:
        found = re.fullmatch(r"(\d+) ?-?bit", goal.memory)
        if not found or int(found[1]) not in PORT_BITS:
            raise ExploreError(f"there is no memory {goal.memory!r}; take one of "
                               f"{', '.join(f'{bits}bit' for bits in PORT_BITS)}")
        hardware |= {"weights": ("streamed",), "port_bits": (int(found[1]),),
                     "constants": _SHARES}
    limits = {"fps": goal.fps, "latency_ms": goal.latency_ms, "accuracy": goal.accuracy}
    for name, limit in limits.items():
        if limit is not None and limit <= 0:
            raise ExploreError(f"{name} must be above 0, not {limit:g}")
    if goal.accuracy is not None and goal.network != SHIPPED and not goal.network.endswith(
            ".safetensors"):
        raise ExploreError(f"{goal.network} has random weights, and so no accuracy; name a trained "
                           "checkpoint, or train networks in a space")
    space = Space(hardware=hardware, network={"name": (goal.network,)},
                  constraints={name: limit for name, limit in limits.items() if limit is not None},
                  objectives=("device_share",), where="the goal",
                  search=Search(designs=goal.designs, generation=_GENERATION, seed=goal.seed))
    space.check()
    return space


def verdict(records: list[dict], space: Space) -> str:
    """One sentence for a search that found nothing: how close it came and what binds."""
    done = [record for record in records if record["status"] == "done"]
    if not done:
        reasons = {}
        for record in records:
            broken = record["broken"][0]
            reasons.setdefault(broken["constraint"], []).append(broken["text"])
        most = max(reasons, key=lambda name: len(reasons[name]))
        return (f"none of {len(records)} designs can work; of {len(reasons[most])} the reason is "
                f"{most}: {reasons[most][0]}")
    closest = min(done, key=lambda record: (sum(constraint_values(record)), record["number"]))
    broken = "; ".join(one["text"] for one in closest["broken"])
    return (f"none of {len(records)} designs keeps all limits; {title(closest)} comes closest, "
            f"where {broken}; what binds is {_binding(done, closest, space)}")


def _binding(done, closest, space):
    """The resource that the closest design, or those that reach the limits, have too little of."""
    resources = [one["constraint"] for one in closest["broken"] if one["constraint"] in RESOURCES]
    if resources:
        return _named(resources[0], closest)
    reaching = [record for record in done
                if not any(one["constraint"] in space.constraints for one in record["broken"])]
    if reaching:
        best = min(reaching, key=lambda record: sum(constraint_values(record)))
        return (_named(best["broken"][0]["constraint"], best)
                + f" ({title(best)} reaches the limits, but {best['broken'][0]['text']})")
    return f"the {closest['bound']} ({100 * closest['bounds'][closest['bound']]:.0f} % of cycles)"


def _named(resource, record):
    return device_of(record["design"]).family.units.get(resource, resource)
