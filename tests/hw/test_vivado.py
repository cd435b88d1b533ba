"""What is written for Vivado: its scripts, the one that packages IP run with commands of ours."""

import re

import pytest

from bivit.hw.accelerator import accelerator_verilog
from bivit.hw.arch import Arch
from bivit.hw.blocks.registers import ADDRESSES
from bivit.hw.flow import FlowError, accelerator_design, write_vivado
from bivit.hw.memories import constant_memories

tkinter = pytest.importorskip("tkinter", reason="Python without Tcl")

ARCHES = {weights: Arch(name=f"small-{weights}", rows=1, cols=2, lanes=16, weights=weights,
                        row_sums=False, row_moves=False, exponentials=False, bends=False,
                        loops=False) for weights in ("rom", "streamed")}
COMMANDS = """
set ports {}; set registers {}; set properties {}; set added {}; set associated {}
proc record {list args} { upvar #0 $list found; lappend found $args; return [lindex $args end] }
proc unknown args { error "no such command: $args" }
foreach name {create_project update_compile_order close_project ipx::package_project
    ipx::remove_bus_interface ipx::remove_memory_map ipx::create_xgui_files ipx::update_checksums
    ipx::check_integrity ipx::save_core} { namespace eval ipx {}; proc $name args {} }
proc add_files file { record added $file }
proc get_files file { return $file }
proc current_fileset {} { return sources }
proc get_property {what of} { return $of }
proc set_property {name value of} { record properties $of $name $value }
proc ipx::current_core {} { return core }
proc ipx::get_bus_interfaces {of core} { return {s_axil clk} }
proc ipx::get_memory_maps {of core} { return s_axil }
proc ipx::associate_bus_interfaces args { record associated $args }
foreach name {
    bus_interface bus_parameter memory_map address_block address_space register port_map
} {
    proc ipx::add_$name {name of} { return $of/$name }
}
"""


@pytest.fixture(scope="module", params=ARCHES)
def written(request, tmp_path_factory):
    arch = ARCHES[request.param]
    build = tmp_path_factory.mktemp(request.param)
    (build / "rom").mkdir()
    for name in constant_memories(arch):
        (build / "rom" / f"{name}.hex").write_text("0\n")
    design = accelerator_design(arch, accelerator_verilog(arch))
    write_vivado(build, design, "k26", build / "vivado")
    return arch, design, build


@pytest.fixture
def tcl(written, monkeypatch):
    """An interpreter that has run the script."""
    monkeypatch.chdir(written[2] / "vivado")
    interpreter = tkinter.Tcl()
    interpreter.eval(COMMANDS)
    interpreter.eval(open("package.tcl").read())
    return interpreter


def test_the_script_that_implements(written):
    arch, design, build = written
    folder = build / "vivado"
    assert "synth_design -top accelerator -part xck26-sfvc784-2LV-c" in (
        folder / "implement.tcl").read_text()
    assert (folder / "accelerator.v").read_text() == design.verilog
    with pytest.raises(FlowError, match="is there and not an empty folder"):
        write_vivado(build, design, "k26", folder)
    with pytest.raises(FlowError, match="does not know the device 'up5k'; take one of zynq-7020"):
        write_vivado(build, design, "up5k", build / "other")


def test_packaged_ip(written, tcl):
    """Every port of the Verilog's top is in an interface, every register at its address."""
    arch, design, _ = written
    properties = [tcl.splitlist(item) for item in tcl.splitlist(tcl.eval("set properties"))]
    found = {(of, name): value for of, name, value in properties}

    top = re.search(r"(?m)^module accelerator\((.*?)\);", design.verilog, re.DOTALL)[1]
    assert sorted(value for (_, name), value in found.items() if name == "physical_name") == sorted(
        re.split(r"\s*,\s*", top.strip()))
    assert not re.search(r"(?m)^module accelerator #", design.verilog)
    kinds = {of.split("/")[1]: (value, found[of, "interface_mode"])
             for (of, name), value in found.items() if name == "bus_type_vlnv"}
    streamed = {"m_axi": ("xilinx.com:interface:aximm:1.0", "master")}
    assert kinds == {
        "s_axil": ("xilinx.com:interface:aximm:1.0", "slave"),
        "s_axis": ("xilinx.com:interface:axis:1.0", "slave"),
        "m_axis": ("xilinx.com:interface:axis:1.0", "master"),
        "clk": ("xilinx.com:signal:clock:1.0", "slave"),
        "rst": ("xilinx.com:signal:reset:1.0", "slave"),
    } | (streamed if arch.weights == "streamed" else {})
    assert found["core/s_axil/AWADDR", "physical_name"] == "s_axil_awaddr"
    assert found["core/rst/POLARITY", "value"] == "ACTIVE_HIGH"
    assert found["core/s_axil", "slave_memory_map_ref"] == "s_axil"
    assert ("core/m_axi", "master_address_space_ref") in found or arch.weights == "rom"
    assert {of.rsplit("/", 1)[1]: int(value, 16) for (of, name), value in found.items()
            if name == "address_offset"} == ADDRESSES
    busses = " ".join(tcl.splitlist(tcl.eval("set associated")))
    assert all(f"-busif {name} -clock clk" in busses for name in kinds if "_" in name)


def test_sources_of_the_ip(written, tcl):
    """Memories are found by the names of their files beside the Verilog."""
    arch, design, build = written
    sources = build / "vivado" / "sources"
    files = re.findall(r'\.INIT_FILE\("(.*?)"\)', (sources / "accelerator.v").read_text())
    names = [f"{name}.hex" for name in constant_memories(arch)] if arch.weights == "rom" else []
    assert sorted(files) == sorted(names)
    assert sorted(path.name for path in sources.iterdir()) == sorted(["accelerator.v", *names])
    assert sorted(tcl.splitlist(tcl.eval("set added"))) == sorted(
        f"sources/{path.name}" for path in sources.iterdir())
