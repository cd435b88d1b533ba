"""What a target costs on a device: resources as far as they are known."""

from bivit.compiler.ir.graph import Graph
from bivit.hw.arch import Arch, ArchError
from bivit.hw.devices import RESOURCES, ULTRA_RAM_BITS, Device
from bivit.hw.memories import memories
from bivit.hw.memory_resources import memory_block_ram, memory_places
from bivit.hw.resources import elements, predict

__all__ = ["costs_of", "least_costs", "modelled"]


def modelled(device: Device) -> str | None:
    """None, or why not all resources of targets of a device are known: a sentence."""
    try:
        predict(Arch(name="probe", rows=1, cols=2, lanes=4, fabric=device.family.fabric),
                device.family)
    except ArchError as error:
        return str(error).removeprefix("target probe: ")
    return None


def least_costs(arch: Arch, device: Device, graph: Graph) -> dict[str, int]:
    """What a target takes at least, whatever the compiler does with the network."""
    bits = max(width * words for width, words, _ in device.family.geometries)
    ultra = device.ultra_ram * ULTRA_RAM_BITS if arch.weights == "loaded" else 0
    weights = {"binary_linear": 1, "plane_linear": 8}
    needed = sum(node.tensors["weight"].size * weights[node.op] for node in graph.nodes
                 if node.op in weights)
    return {"luts": _array_luts(arch, device) or 0,
            "block_ram": 0 if arch.weights == "streamed" else max(0, -(-(needed - ultra) // bits))}


def costs_of(arch: Arch, device: Device) -> dict:
    """Resources of a target on a device.

    Returns
    -------
    dict
        ``luts``, ``registers``, ``block_ram``, ``multipliers``, each None where no model knows it,
        and why not: ``not_modelled``, a sentence or None;
        what is counted by rule in any case: ``array_luts`` (the elements of the array, None for the
        generic fabric), ``memory_block_ram`` and ``ultra_ram`` (memories between the units),
        ``memory_kbit``; ``device_share``, the greatest share of the device's that is known.
    """
    spread = memory_block_ram(arch, device.family)
    places = _places(arch, device, spread)
    memory, found, reason = places["block_ram"], dict.fromkeys(RESOURCES), None
    try:
        blocks = predict(arch, device.family)
    except ArchError as error:
        reason = str(error).removeprefix(f"target {arch.name}: ")
    else:
        found = {name: sum(block[name] for block in blocks.values()) for name in RESOURCES}
        found["block_ram"] += memory - sum(spread.values())
    array = _array_luts(arch, device)
    known = {"luts": array, "block_ram": memory} | {
        name: count for name, count in found.items() if count is not None}
    return found | {
        "not_modelled": reason, "array_luts": array, "memory_block_ram": memory,
        "ultra_ram": places["ultra_ram"],
        "memory_kbit": sum(size.width * size.depth for size in memories(arch).values()) / 1024,
        "device_share": max(count / device.available[name] for name, count in known.items()
                            if count is not None)}


def _places(arch, device, spread):
    """Block RAMs and ultra RAMs of the memories: LUTs of six inputs hold those of few words."""
    if device.family.lut_inputs == 6:
        return memory_places(arch, device)
    return {"block_ram": sum(spread.values()), "ultra_ram": 0}


def _array_luts(arch, device):
    """LUTs of the array's elements, None where they are plain Verilog and no netlist says."""
    return None if arch.fabric == "generic" else elements(arch, device.family)["luts"]
