"""Clock rate after place and route on ECP5-85F, speed grade 6, of target ``ecp5-85f``.

``python benchmarks/run.py clock``, and ``--rows array`` for some of it. Row ``array`` is the array
with a memory in block RAM on either side and a register behind it, as in the accelerator; the
counts go out. Row ``whole`` is the accelerator, which takes an hour or two a seed. Results of Yosys
and nextpnr are cached, so that a run that was stopped goes on. ``BIVIT_SEEDS=4,5,6`` takes other
seeds.
"""

import os
import sys

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bivit.hw.arch import Arch
from bivit.hw.blocks.array import SystolicArray
from bivit.hw.blocks.element import CONTROL, delayed_control
from bivit.hw.blocks.matmul import WORD_LATENCY
from bivit.hw.blocks.memory import Ram
from bivit.hw.emit import place
from bivit.hw.flow import accelerator_design, component_design, synthesise
from bivit.hw.targets import TARGETS

__all__ = ["ROWS", "EdgeArray", "measure"]

TARGET = DEVICE = "ecp5-85f"
SEEDS = "1,2,3"
DEPTH = 512
"""Words of each memory: a block RAM of 36 bits has as many."""


class EdgeArray(wiring.Component):
    """The array, and a memory of operands on either side.

    Parameters
    ----------
    arch : Arch

    Members
    -------
    a_we, b_we : ``In(rows)``, ``In(cols)``; write_addr, write_data : ``In``
        Writes a word of one row or column.
    a_addr, b_addr : ``In``
        Of the operands.
    control : ``In(CONTROL)``
        For the operands of these addresses.
    counts : ``Out``
    """

    def __init__(self, arch: Arch):
        self.arch = arch
        super().__init__({
            "a_we": In(arch.rows), "b_we": In(arch.cols),
            "write_addr": In(range(DEPTH)), "write_data": In(arch.lanes),
            "a_addr": In(range(DEPTH)), "b_addr": In(range(DEPTH)), "control": In(CONTROL),
            "counts": Out(arch.rows * arch.cols * arch.count_bits)})

    def elaborate(self, platform):
        m = Module()
        arch = self.arch
        array = place(m, platform, "array", SystolicArray(arch))
        for side, words in (("a", arch.rows), ("b", arch.cols)):
            memory = place(m, platform, f"{side}_memory", Ram(
                width=words * arch.lanes, depth=DEPTH, granularity=arch.lanes))
            source = Signal(words * arch.lanes, name=f"{side}_source", reset_less=True)
            m.d.comb += [
                memory.we.eq(getattr(self, f"{side}_we")), memory.write_addr.eq(self.write_addr),
                memory.write_data.eq(self.write_data.replicate(words)),
                memory.read_addr[0].eq(getattr(self, f"{side}_addr")),
                getattr(array, side).eq(source)]
            m.d.sync += source.eq(memory.read_data[0])
        control = self.control
        for cycle in range(WORD_LATENCY):
            control = delayed_control(m, control, name=f"word{cycle}")
        m.d.comb += [array.valid.eq(control.valid), array.first.eq(control.first),
                     array.last.eq(control.last), self.counts.eq(array.counts.as_value())]
        return m


DESIGNS = {"array": lambda arch: component_design(EdgeArray(arch), "edge-array"),
           "whole": accelerator_design}
"""Row to its design, by the target."""
ROWS = tuple(DESIGNS)


def measure(rows=ROWS) -> dict:
    """For each row its resources, and for each seed the clock rate."""
    return {"target": TARGET, "rows": {row: _row(row) for row in rows}}


def _row(row):
    arch = TARGETS[TARGET]
    seeds = [int(seed) for seed in os.environ.get("BIVIT_SEEDS", SEEDS).split(",")]
    result = synthesise(DESIGNS[row](arch), DEVICE, seeds=seeds,
                        progress=lambda done, total, text: print(
                            f"\r\033[K  {row} {done}/{total} {text}", end="", file=sys.stderr))
    print(file=sys.stderr)
    array = result["units"]["array"]
    return {
        "device": result["title"], "versions": result["versions"],
        "array": f"{arch.rows}x{arch.cols}x{arch.lanes}",
        "tile": f"{arch.tile_rows}x{arch.tile_cols}", "pop_stages": arch.pop_stages,
        "used": {name: found["used"] for name, found in result["resources"].items()},
        "units": result["units"],
        "array_per_bit": {kind: round(array[kind] / arch.macs_per_cycle, 3)
                          for kind in ("luts", "registers")},
        "fmax_mhz": result["fmax_mhz"],
        "runs": [{"seed": run["seed"], "fmax_mhz": run["fmax_mhz"], "seconds": run["seconds"],
                  "processor_seconds": run["processor_seconds"], "placed": run["placed"],
                  "critical_path": run["critical_path"]["words"]} for run in result["routes"]],
    }
