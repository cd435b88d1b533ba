"""LUTs, registers, block RAM and multipliers of a target, without synthesis.

Memories follow from their sizes by rule (:mod:`bivit.hw.memory_resources`), and the array's
elements from their own netlists. Of every block LUTs, registers and multipliers beyond that are
sums of features of the parameters; ``benchmarks/resources.py`` fits the coefficients to synthesis
and writes ``resources.json``.
"""

import functools
import json
import pathlib
from collections.abc import Callable

from bivit.hw.arch import PARTS, Arch, ArchError
from bivit.hw.blocks.norm import NormWidths, number_products, row_products
from bivit.hw.devices import RESOURCES, Family
from bivit.hw.fabric.element import make_netlist, make_unit
from bivit.hw.memories import constant_memories, score_shape
from bivit.hw.memory_resources import all_memory_resources

__all__ = ["BLOCKS", "BORROWED", "COEFFICIENTS", "FEATURES", "by_rule", "elements", "left_out",
           "predict"]

COEFFICIENTS = pathlib.Path(__file__).with_name("resources.json")
"""Fabric to what :func:`predict` takes as coefficients."""

BORROWED = {"lut6-xcup": "lut6-xc7"}
"""Fabric to the one whose blocks take as much."""

FEATURES: dict[str, Callable[[Arch], float]] = {
    "one": lambda arch: 1,
    "rows": lambda arch: arch.rows,
    "columns": lambda arch: arch.cols,
    "lanes": lambda arch: arch.lanes,
    "post rows": lambda arch: arch.post_rows,
    "arithmetic lanes": lambda arch: arch.post_rows * arch.cols,
    "turned lanes": lambda arch: arch.post_rows * arch.cols * (arch.post_rows - 1),
    "drained counts": lambda arch: (arch.drain_cycles - 1) * arch.post_rows * arch.cols,
    "stored lanes": lambda arch: arch.post_rows * arch.cols * (arch.drain_cycles > 1),
    "drained scores": lambda arch: (arch.exponentials * (arch.drain_cycles - 1) * arch.post_rows
                                    * arch.keys_per_group * score_shape(arch).width),
    "drain cycles": lambda arch: arch.drain_cycles,
    "keys of post rows": lambda arch: arch.post_rows * arch.keys_per_group,
    "channels": lambda arch: NormWidths(arch).channels,
    "row channels": lambda arch: arch.post_rows * NormWidths(arch).channels,
    "lane channels": lambda arch: arch.post_rows * arch.cols * NormWidths(arch).channels,
    "elements": lambda arch: arch.rows * arch.cols,
    "scores": lambda arch: arch.rows * arch.cols * score_shape(arch).width,
    "biased scores": lambda arch: (arch.score_biases * arch.rows * arch.cols
                                   * score_shape(arch).width),
    "exponentials": lambda arch: arch.exponentials,
    "bent lanes": lambda arch: arch.bends * arch.post_rows * arch.cols,
    "moved row bits": lambda arch: arch.row_moves * arch.rows * arch.lanes,
    "summed lanes": lambda arch: arch.row_sums * arch.post_rows * arch.cols,
    "exponential rows": lambda arch: arch.exponentials * arch.rows,
    "row bits": lambda arch: arch.rows * arch.lanes,
    "column bits": lambda arch: arch.cols * arch.lanes,
    "turned bits": lambda arch: arch.rows * (arch.rows - 1).bit_length() * arch.lanes,
    "post bits": lambda arch: arch.post_rows * arch.lanes,
    "chunks": lambda arch: arch.chunks_per_word,
    "mesh operands": lambda arch: (arch.rows * arch.cols // arch.tile_cols
                                   + arch.cols * arch.rows // arch.tile_rows) * arch.lanes,
    "mesh rows": lambda arch: arch.rows * (arch.cols // arch.tile_cols),
    "mesh delays": lambda arch: _mesh_delays(arch),
    "count delays": lambda arch: _count_delays(arch),
    "tiles": lambda arch: arch.rows * arch.cols // (arch.tile_rows * arch.tile_cols),
    "several post rows": lambda arch: arch.post_rows > 1,
    "times post rows": lambda arch: arch.post_rows.bit_count() > 1,
    "times drain cycles": lambda arch: arch.drain_cycles.bit_count() > 1,
    "times rows": lambda arch: arch.rows.bit_count() > 1,
    "times chunks": lambda arch: arch.chunks_per_word.bit_count() > 1,
    "loaded": lambda arch: arch.weights == "loaded",
    "loaded bits": lambda arch: (arch.weights == "loaded") * _constant_bits(arch),
    "streamed": lambda arch: arch.weights == "streamed",
    "streamed bits": lambda arch: (arch.weights == "streamed") * _constant_bits(arch),
    "streamed lanes": lambda arch: (arch.weights == "streamed") * arch.post_rows * arch.cols,
    "port bits": lambda arch: (arch.weights == "streamed") * arch.port_bits,
    "plain": lambda arch: not arch.stem_macs,
    "plain lanes": lambda arch: (not arch.stem_macs) * arch.lanes,
    "plain row bits": lambda arch: (not arch.stem_macs) * arch.rows * arch.lanes,
    "stem": lambda arch: arch.stem_macs > 0,
    "stem lanes": lambda arch: arch.stem_lanes,
    "stem products": lambda arch: arch.stem_macs,
    "stem numbers": lambda arch: (arch.stem_macs > 0) * arch.post_rows * arch.cols,
}
"""Feature to its value for a target."""

_ANY = ("one", "rows", "columns", "lanes", "arithmetic lanes", "row bits", "column bits")

BLOCKS: dict[str, tuple[str, ...]] = {
    "accelerator": ("one", "streamed", "arithmetic lanes", "row bits"),
    "registers": ("one", "streamed"),
    "sequencer": ("one", "streamed"),
    "instruction_queue": ("one", "streamed"),
    "flow": ("one",),
    "taker": ("one",),
    "freedom": ("one",),
    "load_unit": ("plain", "plain lanes", "plain row bits"),
    "stem_unit": ("stem", "stem lanes", "stem products", "stem numbers"),
    "stem_lane": ("stem lanes", "stem products"),
    "matmul_issue": ("one", "row bits", "column bits", "times drain cycles"),
    "systolic_array": ("one", "mesh operands", "mesh delays", "count delays", "elements"),
    "element": ("elements",),
    "row_control": ("mesh rows",),
    "mesh_tile": ("tiles", "mesh operands", "elements"),
    "post_processing": ("one", "columns", "elements", "arithmetic lanes", "stem numbers"),
    "drain": ("one", "elements", "drain cycles", "times drain cycles"),
    "compare_lanes": ("one", "columns", "elements"),
    "compare_column": ("columns", "elements"),
    "score_buffer": ("one", "rows", "columns", "scores"),
    "row_minimum": ("rows", "scores", "biased scores"),
    "arithmetic_lanes": ("one", "columns", "elements", "arithmetic lanes", "drained counts",
                         "times post rows", "stem numbers", "bent lanes"),
    "arithmetic_lane": ("arithmetic lanes", "stored lanes", "drained counts", "bent lanes"),
    "rescale": ("arithmetic lanes", "bent lanes", "stem"),
    "bend": ("bent lanes",),
    "bit_writer": ("one", "rows", "columns", "chunks", "row bits", "column bits", "times rows",
                   "times chunks"),
    "bit_column": ("columns", "elements"),
    "softmax_threshold": ("one", "rows", "scores", "drained scores", "row bits",
                          "keys of post rows", "turned lanes", "lanes", "times rows",
                          "exponentials", "exponential rows"),
    "attention_row": ("post rows", "rows", "keys of post rows"),
    "exponential": ("keys of post rows",),
    "vector_unit": ("one", "columns", "row bits", "column bits", "arithmetic lanes", "streamed",
                    "moved row bits", "summed lanes"),
    "normaliser": ("one", "columns", "arithmetic lanes", "row bits", "channels"),
    "norm_lane": ("post rows", "arithmetic lanes", "row channels"),
    "norm_column": ("arithmetic lanes", "lane channels"),
    "square_root": ("post rows", "row channels"),
    "reciprocal": ("post rows", "row channels"),
    "norm_writer": ("one", "arithmetic lanes", "row bits", "post bits", "post rows", "lanes",
                    "times post rows"),
    "row_adder": ("one", "columns", "arithmetic lanes", "turned lanes", "several post rows",
                  "times post rows"),
    "run_walk": ("one", "rows", "post rows", "several post rows", "times post rows"),
    "gelu": ("columns",),
    "row_writer": ("one", "post rows", "lanes", "post bits", "arithmetic lanes", "turned lanes",
                   "times post rows"),
    "row_column": ("arithmetic lanes",),
    "row_mover": ("one", "rows", "row bits", "turned bits"),
    "output_streamer": ("one", "arithmetic lanes", "streamed", "port bits"),
    "row_sums": ("one", "arithmetic lanes"),
    "source_walk": ("one", "rows", "times rows"),
    "destination_walk": ("one", "rows", "times rows"),
    "constant_loader": ("loaded", "loaded bits", "streamed"),
    "fetch_unit": ("streamed", "streamed bits", "port bits"),
    "fetch_unit__waiting": ("streamed",),
    "storer": ("streamed", "streamed lanes", "port bits"),
    "read_port": ("streamed", "port bits"),
    "write_port": ("streamed", "port bits"),
}
"""Blocks whose resources are fitted, without the blocks in them, by the names of their modules in
Verilog; what the resources of all of a kind may depend on."""

WITHOUT = {
    ("row_sums",): ("row_adder", "run_walk", "gelu", "row_writer", "row_column", "row_sums"),
    ("row_moves",): ("row_mover", "source_walk"),
    ("row_sums", "row_moves"): ("destination_walk",),
    ("exponentials",): ("attention_row", "exponential"),
    ("score_biases",): ("bias memory",),
    ("bends",): ("bend", "bend memory"),
}
"""Parts, and the blocks that a machine without them does not have."""

_MEMORY_IN = {"sums": "row_sums", "pv": "bit_column"}
"""Memories that are part of a block of the list."""


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


def _constant_bits(arch):
    """Bits of a word of every memory of constants together."""
    return sum(size.width for size in constant_memories(arch).values())


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


@functools.cache
def _stored():
    return json.loads(COEFFICIENTS.read_text())


def _coefficients(arch):
    """Those of the fabric of a target."""
    fabric = BORROWED.get(arch.fabric, arch.fabric)
    if fabric not in _stored():
        raise ArchError(f"target {arch.name}: there is no resource model of the fabric "
                        f"{arch.fabric}; benchmarks/resources.py fits one to synthesis")
    unknown = [*(f"no {name}" for name in PARTS
                 if not getattr(arch, name) and (name,) not in WITHOUT),
               *["a stem engine"] * (arch.stem_macs > 0)]
    if unknown:
        raise ArchError(f"target {arch.name}: the resource model is fitted to whole machines, and "
                        f"this one has {', '.join(unknown)}")
    return _stored()[fabric]


def predict(arch: Arch, family: Family, coefficients: dict | None = None) -> dict:
    """Resources of a target in the fabric of a family.

    Parameters
    ----------
    arch : Arch
    family : Family
        Whose fabric the target has.
    coefficients : dict, optional
        Block to resource to feature to coefficient. Those of ``resources.json`` if not given.

    Returns
    -------
    dict of str to dict of str to int
        Resources of all blocks of each kind, and of each memory.

    Raises
    ------
    ArchError
        If there are no coefficients for the fabric.
    """
    if coefficients is None:
        coefficients = _coefficients(arch)
    values = {name: feature(arch) for name, feature in FEATURES.items()}
    found = {block: {name: sum(factor * values[feature] for feature, factor in factors.items())
                     for name, factors in resources.items()}
             for block, resources in coefficients.items()}
    for block, counted in by_rule(arch, family).items():
        own = found.setdefault(block, {})
        for name, count in counted.items():
            own[name] = own.get(name, 0) + count
    gone = left_out(arch)
    return {block: {name: round(resources.get(name, 0)) for name in RESOURCES}
            for block, resources in found.items() if block not in gone}


def left_out(arch: Arch) -> set[str]:
    """The blocks that a machine without some parts does not have."""
    return {block for parts, blocks in WITHOUT.items()
            if not any(getattr(arch, part) for part in parts) for block in blocks}


def by_rule(arch: Arch, family: Family) -> dict[str, dict[str, int]]:
    """What follows by rule, by the blocks that have it: elements, memories, and multipliers of
    LayerNorm, whose widths follow from the channels that there is room for."""
    found = {"element": elements(arch, family)}
    for memory, counts in all_memory_resources(arch, family).items():
        found[_MEMORY_IN.get(memory, f"{memory} memory")] = counts
    of_row, of_number = (sum(family.multiplier.count(left, right, signed=signed)
                             for left, right, signed in products)
                         for products in (row_products(arch), number_products(arch)))
    found["norm_lane"] = {"multipliers": arch.post_rows * of_row}
    found["norm_column"] = {"multipliers": arch.post_rows * arch.cols * of_number}
    return found
