"""From Verilog to a device: cells, clock rate, and what the vendor's tool needs."""

from bivit.hw.flow.counts import count_blocks
from bivit.hw.flow.design import Design, accelerator_design, component_design
from bivit.hw.flow.run import synthesise
from bivit.hw.flow.tools import FlowError
from bivit.hw.flow.vivado import write_vivado

__all__ = ["Design", "FlowError", "accelerator_design", "component_design", "count_blocks",
           "synthesise", "write_vivado"]
