"""The script by which Vivado packages a design as IP: interfaces, ports, registers by name."""

import re

from bivit.hw.blocks.registers import ADDRESSES
from bivit.hw.flow.design import CORE, Design

__all__ = ["package_script"]

_INTERFACE = re.compile(r"(s_axil|s_axis|m_axis|m_axi)_(\w+)")
_KINDS = {"axil": "aximm", "axi": "aximm", "axis": "axis"}
"""What Vivado calls an interface."""
_MODES = {"s": "slave", "m": "master"}
_SINGLE = {"clk": ("clock", "CLK"), "rst": ("reset", "RST")}
"""Ports that are an interface of their own: its kind, and the port's name in it."""
_READ_ONLY = {"ID", "VERSION", "STATUS", "ERROR", "CYCLES"}
_COUNTERS = ("_RUN", "_STALL", "_IDLE")
_REGISTERS, _EXTERNAL = "s_axil", "m_axi"

_BEGIN = """\
# Packages {name} as IP in the folder ip: vivado -mode batch -source package.tcl
# Its memories are read by the names of their files alone, which lie beside the Verilog there.
file mkdir sources
set verilog [open {core}.v]
set text [string map {{\\"rom/ \\"}} [read $verilog]]
close $verilog
set verilog [open sources/{core}.v w]
puts -nonewline $verilog $text
close $verilog
create_project -force -part {part} package_project package_project
add_files sources/{core}.v
set_property file_type SystemVerilog [get_files {core}.v]
foreach contents [glob -nocomplain rom/*.hex] {{
  file copy -force $contents sources
  add_files sources/[file tail $contents]
  set_property file_type {{Memory Initialization Files}} [get_files [file tail $contents]]
}}
set_property top {core} [current_fileset]
update_compile_order -fileset sources_1
ipx::package_project -root_dir ip -vendor bivit -library hardware -taxonomy /UserIP -import_files
set core [ipx::current_core]
set_property name bivit_{identifier} $core
set_property version 1.0 $core
set_property display_name {{bivit {name}}} $core
set_property description {{Binary vision transformer accelerator, target {name}}} $core

# The interfaces, instead of those that Vivado finds by itself.
foreach found [ipx::get_bus_interfaces -of_objects $core] {{
  ipx::remove_bus_interface [get_property name $found] $core
}}
foreach found [ipx::get_memory_maps -of_objects $core] {{
  ipx::remove_memory_map [get_property name $found] $core
}}
proc interface {{core name library kind mode ports}} {{
  set bus [ipx::add_bus_interface $name $core]
  set_property bus_type_vlnv xilinx.com:$library:$kind:1.0 $bus
  set_property abstraction_type_vlnv xilinx.com:$library:${{kind}}_rtl:1.0 $bus
  set_property interface_mode $mode $bus
  foreach {{logical physical}} $ports {{
    set_property physical_name $physical [ipx::add_port_map $logical $bus]
  }}
  return $bus
}}
"""

_END = """\
ipx::create_xgui_files $core
ipx::update_checksums $core
ipx::check_integrity $core
ipx::save_core $core
close_project
"""


def package_script(design: Design, part: str) -> str:
    """Tcl for Vivado, beside ``accelerator.v`` and the folder ``rom``.

    All ports are named in an interface: AXI ones by the prefixes of their names, clock and reset.
    The registers are in the memory map of ``s_axil``. Design parameters are fixed in the Verilog.

    Parameters
    ----------
    design : Design
    part : str
        The vendor's name of a device of the family that the IP is for.
    """
    script = [_BEGIN.format(name=design.name, part=part, core=CORE,
                            identifier=re.sub(r"\W", "_", design.name))]
    interfaces = _interfaces(design)
    for name, ports in interfaces.items():
        role, kind = name.split("_")
        script.append(_interface(name, "interface", _KINDS[kind], _MODES[role], ports))
    for name, (kind, logical) in _SINGLE.items():
        script.append(_interface(name, "signal", kind, "slave", {logical: name}))
    script.append("set_property value ACTIVE_HIGH [ipx::add_bus_parameter POLARITY $rst]\n"
                  "ipx::associate_bus_interfaces -clock clk -reset rst $core\n")
    script += [f"ipx::associate_bus_interfaces -busif {name} -clock clk $core\n"
               for name in interfaces]
    if _REGISTERS in interfaces:
        script.append(_memory_map())
    if _EXTERNAL in interfaces:
        script.append(f"set space [ipx::add_address_space {_EXTERNAL} $core]\n"
                      "set_property range 4G $space\nset_property width 32 $space\n"
                      f"set_property master_address_space_ref {_EXTERNAL} ${_EXTERNAL}\n")
    return "".join([*script, _END])


def _interfaces(design):
    """Interface to its ports, each by its name in the interface."""
    found = {}
    for port, _ in (*design.inputs, *design.outputs):
        if match := _INTERFACE.fullmatch(port):
            found.setdefault(match[1], {})[match[2].upper()] = port
    return found


def _interface(name, library, kind, mode, ports):
    listed = "".join(f"  {logical} {physical}\n" for logical, physical in ports.items())
    return f"set {name} [interface $core {name} {library} {kind} {mode} {{\n{listed}}}]\n"


def _memory_map():
    lines = [f"set map [ipx::add_memory_map {_REGISTERS} $core]",
             f"set_property slave_memory_map_ref {_REGISTERS} ${_REGISTERS}",
             "set block [ipx::add_address_block registers $map]",
             *(f"set_property {name} $block" for name in ("usage register", "width 32",
                                                          "range 4096")),
             "foreach {name offset access} {"]
    for name, offset in sorted(ADDRESSES.items(), key=lambda item: item[1]):
        access = "read-only" if name in _READ_ONLY or name.endswith(_COUNTERS) else "read-write"
        lines.append(f"  {name} 0x{offset:02x} {access}")
    return "\n".join([*lines, "} {", "  set register [ipx::add_register $name $block]",
                      "  set_property address_offset $offset $register",
                      "  set_property size 32 $register",
                      "  set_property access $access $register", "}", ""])
