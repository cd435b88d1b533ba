"""LUTs, registers, block RAM and multipliers of a target, without synthesis.

Block RAM follows from sizes by rule, and the array's elements from their own netlists. Of every
other block LUTs, registers and multipliers are sums of features of the parameters;
``benchmarks/resources.py`` fits the coefficients to synthesis and writes ``resources.json``.
"""

import collections
import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable

from bivit.hw.arch import Arch, ArchError
from bivit.hw.blocks.norm import NormWidths
from bivit.hw.devices import RESOURCES, Device, Family
from bivit.hw.fabric.element import make_netlist, make_unit
from bivit.hw.memories import constant_memories, memories, write_granularity

__all__ = ["BLOCKS", "COEFFICIENTS", "FEATURES", "Block", "block_ram", "elements",
           "memory_block_ram", "memory_places", "predict"]

COEFFICIENTS = pathlib.Path(__file__).with_name("resources.json")
"""Fabric to what :func:`predict` takes as coefficients."""

FEATURES: dict[str, Callable[[Arch], float]] = {
    "one": lambda arch: 1,
    "rows": lambda arch: arch.rows,
    "columns": lambda arch: arch.cols,
    "lanes": lambda arch: arch.lanes,
    "post rows": lambda arch: arch.post_rows,
    "arithmetic lanes": lambda arch: arch.post_rows * arch.cols,
    "turned lanes": lambda arch: arch.post_rows * arch.cols * (arch.post_rows - 1),
    "drained counts": lambda arch: (arch.drain_cycles - 1) * arch.post_rows * arch.cols,
    "keys of post rows": lambda arch: arch.post_rows * arch.keys_per_group,
    "row channels": lambda arch: arch.post_rows * NormWidths(arch).channels,
    "lane channels": lambda arch: arch.post_rows * arch.cols * NormWidths(arch).channels,
    "elements": lambda arch: arch.rows * arch.cols,
    "row bits": lambda arch: arch.rows * arch.lanes,
    "column bits": lambda arch: arch.cols * arch.lanes,
    "turned bits": lambda arch: arch.rows * (arch.rows - 1) * arch.lanes,
    "mesh operands": lambda arch: (arch.rows * arch.cols // arch.tile_cols
                                   + arch.cols * arch.rows // arch.tile_rows) * arch.lanes,
    "mesh delays": lambda arch: _mesh_delays(arch),
    "count delays": lambda arch: _count_delays(arch),
    "times post rows": lambda arch: arch.post_rows.bit_count() > 1,
    "times drain cycles": lambda arch: arch.drain_cycles.bit_count() > 1,
    "loaded bits": lambda arch: sum(size.width for size in constant_memories(arch).values()),
}
"""Feature to its value for a target."""


@dataclasses.dataclass(frozen=True)
class Block:
    """A block, or all of its kind, with what lies in it and is no block of the list.

    Parameters
    ----------
    unit : str
        Of the machine, in which it lies.
    features : tuple of str
        What its resources may depend on.
    """

    unit: str
    features: tuple[str, ...]


BLOCKS = {
    "registers": Block("registers", ("one",)),
    "sequencer": Block("sequencer", ("one",)),
    "load_unit": Block("load", ("one", "lanes", "rows", "row bits")),
    "matmul_issue": Block("issue", ("one", "row bits", "column bits", "times drain cycles")),
    "systolic_array": Block("array", ("one", "mesh operands", "mesh delays", "count delays",
                                      "elements")),
    "post_processing": Block("post", ("one", "columns", "elements", "arithmetic lanes")),
    "arithmetic_lanes": Block("post", ("one", "columns", "elements", "arithmetic lanes",
                                       "drained counts", "times post rows")),
    "arithmetic_lane": Block("post", ("arithmetic lanes", "drained counts")),
    "score_buffer": Block("post", ("one", "rows", "columns")),
    "row_minimum": Block("post", ("rows", "elements")),
    "compare_column": Block("post", ("columns", "elements")),
    "bit_writer": Block("post", ("one", "rows", "columns", "row bits", "column bits")),
    "bit_column": Block("post", ("columns", "elements")),
    "softmax_threshold": Block("softmax", ("one", "rows", "elements", "row bits",
                                           "keys of post rows", "turned lanes")),
    "attention_row": Block("softmax", ("post rows", "rows", "keys of post rows")),
    "exponential": Block("softmax", ("keys of post rows",)),
    "vector_unit": Block("vector", ("one", "columns", "row bits", "column bits",
                                    "arithmetic lanes")),
    "normaliser": Block("vector", ("one", "columns", "arithmetic lanes", "row bits")),
    "norm_lane": Block("vector", ("post rows", "arithmetic lanes", "row channels")),
    "norm_column": Block("vector", ("arithmetic lanes", "lane channels")),
    "row_adder": Block("vector", ("one", "columns", "arithmetic lanes", "turned lanes")),
    "gelu": Block("vector", ("columns",)),
    "row_writer": Block("vector", ("one", "post rows", "lanes", "arithmetic lanes",
                                   "turned lanes")),
    "row_column": Block("vector", ("arithmetic lanes",)),
    "row_sums": Block("vector", ("one", "arithmetic lanes")),
    "row_mover": Block("vector", ("one", "rows", "row bits", "turned bits")),
    "constant_loader": Block("loader", ("one", "loaded bits")),
}
"""Blocks whose resources are fitted; names are those of their modules in Verilog."""

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
    """Those of the fabric of a target."""
    known = json.loads(COEFFICIENTS.read_text()).get(arch.fabric, {"blocks": {}})
    missing = [block.unit for name, block in BLOCKS.items() if name not in known["blocks"]]
    if missing or not known["borders"]:
        units = ", ".join(dict.fromkeys(missing)) or "units in a whole accelerator"
        raise ArchError(f"target {arch.name}: there is no resource model of the fabric "
                        f"{arch.fabric} for {units}; benchmarks/resources.py fits it")
    if arch.stem_macs or arch.weights == "streamed":
        raise ArchError(f"target {arch.name}: the resource model knows neither stem engines nor "
                        "streamed weights")
    return known


def predict(arch: Arch, family: Family, coefficients: dict | None = None) -> dict:
    """Resources of a target in the fabric of a family.

    Parameters
    ----------
    arch : Arch
    family : Family
        Whose fabric the target has.
    coefficients : dict, optional
        ``blocks``: block to resource to feature to coefficient; ``borders``: unit to resource to
        what it takes beyond its blocks. Those of ``resources.json`` if not given.

    Returns
    -------
    dict of str to dict of str to int
        Resources of each unit and memory.

    Raises
    ------
    ArchError
        If there are no coefficients for the fabric, or for a unit of the target.
    """
    coefficients = coefficients or _coefficients(arch)
    absent = {"loader"} if arch.weights == "rom" else set()
    parts = [*coefficients["borders"].items(), ("array", elements(arch, family))]
    parts += [(BLOCKS[block].unit, {
        name: sum(factor * FEATURES[feature](arch) for feature, factor in factors.items())
        for name, factors in resources.items()})
        for block, resources in coefficients["blocks"].items()]
    score = memories(arch)["score"]
    parts.append(("post", {"block_ram": block_ram(width=score.width, depth=score.depth,
                                                  granularity=score.width, family=family)}))
    parts += [(memory, {"block_ram": count})
              for memory, count in memory_block_ram(arch, family).items()]
    found = collections.defaultdict(lambda: dict.fromkeys(RESOURCES, 0))
    for unit, resources in parts:
        for name, count in resources.items():
            found[unit][name] += count
    return {unit: {name: max(0, round(count)) for name, count in resources.items()}
            for unit, resources in found.items() if unit not in absent}
