"""What Vivado needs: a script that implements a target, and one that packages it as IP."""

import pathlib
import shutil

from bivit.hw.devices import DEVICES
from bivit.hw.flow.design import CORE, Design
from bivit.hw.flow.tools import FlowError

__all__ = ["write_vivado"]

PERIOD = 5.0
"""Nanoseconds between clock edges that the script asks for."""

IMPLEMENT = """\
# Implements {name} on {part} out of context: vivado -mode batch -source implement.tcl
set_part {part}
read_verilog -sv {core}.v
read_mem [glob -nocomplain rom/*.hex]
synth_design -top {core} -part {part} -mode out_of_context
create_clock -name clk -period {period} [get_ports clk]
opt_design
place_design
phys_opt_design
route_design
report_utilization -hierarchical -file utilisation.txt
report_timing_summary -file timing.txt
write_checkpoint -force {core}.dcp
"""

PACKAGE = """\
# Packages {name} as IP in the folder ip: vivado -mode batch -source package.tcl
create_project -force -part {part} package_project package_project
add_files [concat {core}.v [glob -nocomplain rom/*.hex]]
set_property file_type SystemVerilog [get_files {core}.v]
set_property top {core} [current_fileset]
update_compile_order -fileset sources_1
ipx::package_project -root_dir ip -vendor bivit -library hardware -taxonomy /UserIP -import_files
set core [ipx::current_core]
set_property name {ip} $core
set_property version 1.0 $core
set_property display_name {{bivit {name}}} $core
set_property description {{Binary vision transformer accelerator, target {name}}} $core
ipx::infer_bus_interfaces xilinx.com:interface:aximm_rtl:1.0 $core
ipx::infer_bus_interfaces xilinx.com:interface:axis_rtl:1.0 $core
ipx::infer_bus_interface clk xilinx.com:signal:clock_rtl:1.0 $core
ipx::infer_bus_interface rst xilinx.com:signal:reset_rtl:1.0 $core
set_property value ACTIVE_HIGH [ipx::add_bus_parameter POLARITY \\
    [ipx::get_bus_interfaces rst -of_objects $core]]
foreach interface {{s_axil s_axis m_axis}} {{
  ipx::associate_bus_interfaces -busif $interface -clock clk $core
}}
ipx::create_xgui_files $core
ipx::update_checksums $core
ipx::check_integrity $core
ipx::save_core $core
close_project
"""


def write_vivado(build: pathlib.Path, design: Design, device: str, folder) -> None:
    """Write scripts for Vivado, and copies of the Verilog and the memories' contents.

    Parameters
    ----------
    build : path
        The build folder, where ``rom`` is.
    design : Design
    device : str
        A device with a ``part``.
    folder : path
        Is made; must be empty if it is there.

    Raises
    ------
    FlowError
    """
    part = DEVICES[device].part if device in DEVICES else None
    if part is None:
        parts = ", ".join(name for name, known in DEVICES.items() if known.part)
        raise FlowError(f"Vivado does not know the device {device!r}; take one of {parts}")
    folder = pathlib.Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FlowError(f"{folder} is there and not an empty folder; name another one")
    (folder / "rom").mkdir(parents=True)
    values = {"name": design.name, "part": part, "core": CORE, "period": PERIOD,
              "ip": f"bivit_{design.name.replace('-', '_')}"}
    (folder / f"{CORE}.v").write_text(design.verilog)
    (folder / "implement.tcl").write_text(IMPLEMENT.format(**values))
    (folder / "package.tcl").write_text(PACKAGE.format(**values))
    for file, _ in design.memories:
        shutil.copyfile(pathlib.Path(build) / file, folder / file)
