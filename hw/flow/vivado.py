"""What Vivado needs: a script that implements a target, and one that packages it as IP."""

import pathlib
import shutil

from bivit.hw.devices import DEVICES
from bivit.hw.flow.design import CORE, Design
from bivit.hw.flow.packaged import package_script
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
    (folder / f"{CORE}.v").write_text(design.verilog)
    (folder / "implement.tcl").write_text(
        IMPLEMENT.format(name=design.name, part=part, core=CORE, period=PERIOD))
    (folder / "package.tcl").write_text(package_script(design, part))
    for file, _ in design.memories:
        shutil.copyfile(pathlib.Path(build) / file, folder / file)
