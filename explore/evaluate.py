"""One design: its target, its cycles, what bounds it and what it costs; or what speaks against it.

``evaluate`` is a pure function of its arguments, so that any process may call it.
"""

import dataclasses
import hashlib
import json
import time

from bivit.compiler.structures import CompileError, TooSmall
from bivit.explore.compiled import compiled
from bivit.explore.costs import costs_of, least_costs, modelled
from bivit.explore.hardware import arch_of, check_hardware, device_of
from bivit.explore.networks import Prepared
from bivit.explore.space import AT_LEAST
from bivit.hw.arch import ArchError
from bivit.hw.devices import RESOURCES

__all__ = ["design_key", "evaluate"]


def design_key(design: dict, network: str) -> str:
    """Hash of a design and of the key of its network."""
    text = json.dumps([design, network], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


class _Refusal(Exception):
    """A design that cannot work."""

    def __init__(self, constraint, text, value=None, limit=None):
        super().__init__(text)
        self.broken = {"constraint": constraint, "value": value, "limit": limit, "text": text}


def evaluate(design: dict, network: Prepared, constraints: dict[str, float]) -> dict:
    """The record of a design (``docs/explore.md``).

    Parameters
    ----------
    design : dict
        Parameter to value.
    network : Prepared
    constraints : dict of str to float
        Limits besides those of the device.
    """
    begin = time.perf_counter()
    record = {"design": design, "status": "refused", "broken": [],
              "accuracy": network.accuracy, "not_modelled": modelled(device_of(design))}
    try:
        record |= _figures(design, network)
    except _Refusal as refusal:
        record["broken"] = [refusal.broken]
    else:
        record["status"] = "done"
        record["broken"] = [*_over_device(record, device_of(design)),
                            *_over_limits(record, constraints)]
    return record | {"seconds": round(time.perf_counter() - begin, 3)}


def _figures(design, network):
    if network.problem is not None:
        raise _Refusal("network", network.problem)
    device = device_of(design)
    try:
        check_hardware(design)
        arch = arch_of(design)
        for name, least in least_costs(arch, device, network.graph).items():
            if least > device.available[name]:
                what = {"luts": "the array alone", "block_ram": "the weights alone"}[name]
                raise _Refusal(name, f"{what} would take {least:,} {device.family.units[name]} "
                               f"and {design['device']} has {device.available[name]:,}", least,
                               device.available[name])
        target, figures = compiled(design, network)
        costs = costs_of(target, device)
    except ArchError as error:
        raise _Refusal("architecture", str(error)) from None
    except TooSmall as error:
        name, needed = next(iter(error.needed.items()))
        raise _Refusal(name, str(error), needed, getattr(arch, name)) from None
    except CompileError as error:
        raise _Refusal("compiler", str(error)) from None
    hertz = 1e6 * design["clock"]
    return figures | costs | {
        "latency_ms": 1e3 * figures["cycles"] / hertz, "fps": hertz / figures["interval"],
        "target": {name: value for name, value in dataclasses.asdict(target).items()
                   if name != "name"}}


def _over_device(record, device):
    """Resources that the device has too few of."""
    for name in RESOURCES:
        used = record[name]
        if used is None:  # what is known of it
            used = {"luts": record["array_luts"],
                    "block_ram": record["memory_block_ram"]}.get(name)
        if used is not None and used > device.available[name]:
            yield {"constraint": name, "value": used, "limit": device.available[name],
                   "text": f"{used:,} {device.family.units[name]} are needed and the device has "
                           f"{device.available[name]:,}"}


def _over_limits(record, constraints):
    """Limits of the space that are broken, or not known to be kept."""
    for name, limit in constraints.items():
        value, least = record.get(name), name in AT_LEAST
        if value is not None and (value >= limit if least else value <= limit):
            continue
        text = f"{name} is not known" if value is None else (
            f"{name} is {value:,.6g} and must be at {'least' if least else 'most'} {limit:,.6g}")
        yield {"constraint": name, "value": value, "limit": limit, "text": text}
