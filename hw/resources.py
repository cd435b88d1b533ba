"""LUTs, registers, block RAM and multipliers of a target, without synthesis.

Block RAM follows from sizes by rule, and the array's elements from their own netlists. Other units
are sums of features of the parameters; ``benchmarks/resources.py`` fits the coefficients to
synthesis and writes them to ``resources.json``.
"""

import functools
import json
import pathlib
from collections.abc import Callable

from bivit.hw.arch import Arch, ArchError
from bivit.hw.blocks.array import SystolicArray
from bivit.hw.blocks.constant_loader import ConstantLoader
from bivit.hw.blocks.load import LoadUnit
from bivit.hw.blocks.matmul import MatmulIssue
from bivit.hw.blocks.post import PostProcessing
from bivit.hw.blocks.registers import Registers
from bivit.hw.blocks.sequencer import Sequencer
from bivit.hw.blocks.softmax import SoftmaxThreshold
from bivit.hw.blocks.vector import VectorUnit
from bivit.hw.devices import RESOURCES, Device, Family
from bivit.hw.fabric.element import make_netlist, make_unit
from bivit.hw.memories import constant_memories, memories, write_granularity

__all__ = ["COEFFICIENTS", "FEATURES", "UNITS", "UNIT_FEATURES", "block_ram", "elements",
           "memory_block_ram", "memory_places", "predict"]

COEFFICIENTS = pathlib.Path(__file__).with_name("resources.json")
"""Fabric to unit to resource to feature to coefficient."""

UNITS: dict[str, Callable] = {
    "registers": lambda arch: Registers(), "sequencer": Sequencer, "load": LoadUnit,
    "issue": MatmulIssue, "array": SystolicArray, "post": PostProcessing,
    "softmax": SoftmaxThreshold, "vector": VectorUnit, "loader": ConstantLoader,
}
"""Name of a unit in the machine to what makes it."""

FEATURES: dict[str, Callable[[Arch], float]] = {
    "one": lambda arch: 1,
    "rows": lambda arch: arch.rows,
    "columns": lambda arch: arch.cols,
    "lanes": lambda arch: arch.lanes,
    "post rows": lambda arch: arch.post_rows,
    "arithmetic lanes": lambda arch: arch.post_rows * arch.cols,
    "elements": lambda arch: arch.rows * arch.cols,
    "row bits": lambda arch: arch.rows * arch.lanes,
    "column bits": lambda arch: arch.cols * arch.lanes,
    "mesh operands": lambda arch: (arch.rows * arch.cols // arch.tile_cols
                                   + arch.cols * arch.rows // arch.tile_rows) * arch.lanes,
    "mesh delays": lambda arch: _mesh_delays(arch),
    "count delays": lambda arch: _count_delays(arch),
    "program address": lambda arch: arch.program_depth.bit_length(),
    "loaded bits": lambda arch: sum(size.width for size in constant_memories(arch).values()),
}
"""Feature to its value for a target."""

UNIT_FEATURES = {
    "registers": ("one",),
    "sequencer": ("one", "program address"),
    "load": ("one", "lanes", "row bits"),
    "issue": ("one", "row bits", "column bits"),
    "array": ("one", "mesh operands", "mesh delays", "count delays", "elements"),
    "post": ("one", "columns", "arithmetic lanes", "elements", "row bits", "column bits"),
    "softmax": ("one", "rows", "arithmetic lanes", "elements", "row bits"),
    "vector": ("one", "rows", "columns", "post rows", "arithmetic lanes", "row bits",
               "column bits"),
    "loader": ("one", "loaded bits"),
}
"""Unit to the features that it may depend on."""

_READ_PORTS = {"resid": 2, "vmem": 2, "xmem": 2, "hmem": 2}
"""Memories with more than one read port, each a copy."""

_SHALLOW = 64
"""Words up to which a memory is made of LUTs of six inputs."""
_SHORT = 1024
"""Words up to which a memory fills too little of an ultra RAM."""
_IN_UNITS = ("score", "sums", "pv")
"""Memories that lie in a unit."""


def _mesh_delays(arch):
    """Register bits that let operands into the mesh later, row by row and column by column."""
    rows, cols = arch.rows // arch.tile_rows, arch.cols // arch.tile_cols
    return arch.lanes * (arch.tile_rows * rows * (rows - 1) + arch.tile_cols * cols
                         * (cols - 1)) // 2


def _count_delays(arch):
    """Register bits that align the counts of all tiles."""
    rows, cols = arch.rows // arch.tile_rows, arch.cols // arch.tile_cols
    late = rows * cols * (rows - 1 + cols - 1) // 2
    return late * arch.tile_rows * arch.tile_cols * arch.count_bits


def elements(arch: Arch, family: Family) -> dict[str, int]:
    """LUTs and registers of the array's elements, counted in their netlist."""
    luts, registers = _element(family, arch.fabric, arch.lanes, arch.pop_stages, arch.count_bits)
    number = arch.rows * arch.cols
    return {"luts": number * luts, "registers": number * (registers + arch.count_bits)}


@functools.cache
def _element(family, fabric, lanes, stages, count_bits):
    """LUTs and registers of one netlist."""
    netlist = make_netlist(make_unit(fabric=fabric, lanes=lanes, stages=stages,
                                     count_bits=count_bits), fabric)
    return family.count(netlist.cells)["luts"], netlist.registers


def block_ram(*, width: int, depth: int, granularity: int, family: Family) -> int:
    """Block RAMs of a memory with one write and one read port.

    A block RAM has an enable for each `lane` of its bits, so that a piece that is written alone
    takes whole lanes. The geometry that takes the fewest is chosen; where all of a word is written
    together, what is left over at its end may take another one.
    """
    found = []
    for bits, words, lane in family.geometries:
        rows = -(-depth // words)
        whole, rest = divmod(width // granularity * -(-granularity // lane), bits // lane)
        if granularity < width:
            found.append((whole + bool(rest)) * rows)
        else:
            whole, rest = divmod(width, bits)
            found.append(whole * rows + min(-(-rest // last) * -(-depth // deep)
                                            for last, deep, _ in family.geometries))
    return min(found)


def memory_block_ram(arch: Arch, family: Family) -> dict[str, int]:
    """Block RAMs of each memory between the units."""
    constants, parts = constant_memories(arch), write_granularity(arch)
    return {f"{name}_{'rom' if name in constants and arch.weights == 'rom' else 'ram'}":
            _READ_PORTS.get(name, 1) * block_ram(
                width=size.width, depth=size.depth, granularity=parts.get(name, size.width),
                family=family)
            for name, size in memories(arch).items() if name not in _IN_UNITS}


def memory_places(arch: Arch, device: Device) -> dict[str, int]:
    """Block RAMs and ultra RAMs of the memories between the units, where each lies best.

    Memories of few words are made of LUTs; of the others, those with the most block RAMs become
    ultra RAM, two ports a copy, as long as there is some. ROMs do not: ultra RAM starts empty.
    """
    sizes, found = memories(arch), {"block_ram": 0, "ultra_ram": 0}
    counts = memory_block_ram(arch, device.family)
    for name, count in sorted(counts.items(), key=lambda item: -item[1]):
        memory = name.rsplit("_", 1)[0]
        width, depth = sizes[memory]
        ultra = _READ_PORTS.get(memory, 1) * -(-width // 72) * -(-depth // 4096)
        if depth <= _SHALLOW:
            continue
        room = found["ultra_ram"] + ultra <= device.ultra_ram
        if depth > _SHORT and room and not name.endswith("_rom"):
            found["ultra_ram"] += ultra
        else:
            found["block_ram"] += count
    return found


def _coefficients(arch):
    """Those of the fabric of a target, of all units."""
    known = json.loads(COEFFICIENTS.read_text()).get(arch.fabric, {})
    if missing := [unit for unit in UNITS if unit not in known]:
        raise ArchError(f"target {arch.name}: there is no resource model of the fabric "
                        f"{arch.fabric} for {', '.join(missing)}; benchmarks/resources.py fits it")
    return known


def predict(arch: Arch, family: Family, coefficients: dict | None = None) -> dict:
    """Resources of a target in the fabric of a family.

    Parameters
    ----------
    arch : Arch
    family : Family
        Whose fabric the target has.
    coefficients : dict, optional
        Unit to resource to feature to coefficient; those of ``resources.json`` if not given.

    Returns
    -------
    dict of str to dict of str to int
        Resources of each unit and memory.

    Raises
    ------
    ArchError
        If there are no coefficients for the fabric.
    """
    known = coefficients or _coefficients(arch)
    found = {}
    for unit, resources in known.items():
        if unit == "loader" and arch.weights == "rom":
            continue
        found[unit] = {name: sum(factor * FEATURES[feature](arch)
                                 for feature, factor in resources.get(name, {}).items())
                       for name in RESOURCES}
        if unit == "array":
            for name, count in elements(arch, family).items():
                found[unit][name] += count
    for memory, count in memory_block_ram(arch, family).items():
        found[memory] = {name: 0 for name in RESOURCES} | {"block_ram": count}
    return {unit: {name: round(count) for name, count in resources.items()}
            for unit, resources in found.items()}
