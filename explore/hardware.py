"""A design's hardware parameters as a target: what follows from others, and depths that fit."""

import dataclasses

from bivit.compiler.batch import LARGEST_BATCH
from bivit.hw.arch import LARGEST, Arch, ArchError
from bivit.hw.devices import DEVICES, Device

__all__ = ["FITTED", "HARDWARE", "arch_of", "check_hardware", "device_of", "fitted",
           "own_hardware"]

_FIELDS = {field.name: field for field in dataclasses.fields(Arch) if field.name != "name"}
HARDWARE = {name: field.type for name, field in _FIELDS.items()} | {
    "device": str, "clock": float, "constants": float, "room": float,
    "batch": int}
"""Hardware parameter to the type of its values."""

FITTED = tuple(name for name in _FIELDS
               if name.endswith("_depth") and name not in ("sums_depth", "queue_depth")
               ) + ("score_tiles",)
"""Depths that are as small as the network allows, unless a design names them."""

_PORT = ("port_bits", "port_burst", "port_reads", "port_timeout", "constants")
_LARGEST_TILE = 4
_ROOM = {"program_depth": 1 << 16}
"""Depths that a target may have at most, where no instruction limits them."""


def device_of(design: dict) -> Device:
    """The device of a design."""
    return DEVICES[design["device"]]


def check_hardware(design: dict) -> None:
    """Refuse parameters that mean nothing beside the others.

    Raises
    ------
    ArchError
    """
    if design.get("weights", "rom") != "streamed":
        for name in _PORT:
            if name in design:
                raise ArchError(f"{name} is for weights = streamed and not for weights = "
                                f"{design.get('weights', 'rom')}")
    if not 0 < design.get("constants", 1) <= 1:
        raise ArchError(f"constants must be a share above 0 and up to 1, not {design['constants']}")
    if design.get("room", 1) < 1:
        raise ArchError(f"room must be 1 or more, not {design['room']}")
    if not 1 <= design.get("batch", 1) <= LARGEST_BATCH:
        raise ArchError(f"batch must be 1 to {LARGEST_BATCH} images, not {design['batch']}")
    if not 0 < design["clock"] <= 1000:
        raise ArchError(f"clock must be above 0 and at most 1000 MHz, not {design['clock']}")


def arch_of(design: dict) -> Arch:
    """The target of a design; depths that are to fit are as large as can be.

    Raises
    ------
    ArchError
        If the parameters contradict each other.
    """
    fields = {name: value for name, value in design.items() if name in _FIELDS}
    for name, of in (("tile_rows", "rows"), ("tile_cols", "cols")):
        if name not in fields and type(fields.get(of)) is int and fields[of] > 0:
            fields[name] = max(tile for tile in range(1, _LARGEST_TILE + 1)
                               if fields[of] % tile == 0)
    largest = {name: _ROOM.get(name) or LARGEST[name] for name in FITTED}
    try:
        return Arch(**{"name": "design", "fabric": device_of(design).family.fabric} | largest
                    | fields)
    except TypeError as error:
        raise ArchError(str(error).replace("Arch.__init__() ", "")) from None
    except ArchError as error:
        raise ArchError(str(error).removeprefix("target design: ").replace(
            " of target design", "")) from None


def own_hardware(arch: Arch) -> dict:
    """The hardware parameters of a target, as a design names them."""
    return {name: getattr(arch, name) for name in _FIELDS
            if name != "fabric" and (arch.weights == "streamed" or name not in _PORT)}


def fitted(arch: Arch, design: dict, needed: dict[str, int]) -> Arch:
    """The target with depths of `needed`, where the design leaves them open."""
    return dataclasses.replace(arch, **{name: max(1, words) for name, words in needed.items()
                                        if name in FITTED and name not in design})
