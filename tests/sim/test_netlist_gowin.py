"""Netlists of Gowin, cell by cell, against the netlist of ECP5 of the same Verilog."""

import json

import numpy as np
import pytest

from bivit.hw.devices import DEVICES
from bivit.hw.flow.synthesis import NETLIST, commands, map_design
from bivit.sim.netlist import Netlist, NetlistError

MEMORIES = {"wide": (36, 512), "small": (4, 16)}
"""Name to bits and words: a block RAM, and one in LUTs."""
ROMS = {"rom_wide": (36, 512), "rom_middle": (18, 1024), "rom_narrow": (9, 2048)}
CELLS = {"LUT1", "LUT2", "LUT3", "LUT4", "ALU", "DFF", "DFFRE", "DFFSE", "RAM16SDP4", "SDPX9B",
         "SPX9", "IBUF", "OBUF", "GND", "VCC"}
CYCLES = 3000


def verilog():
    """Memories, which are not read where they are written, ROMs, a product, a counter."""
    ports, body = [], []
    for name, (bits, words) in (MEMORIES | ROMS).items():
        top = (words - 1).bit_length() - 1
        ports += [f"input [{top}:0] {name}_from", f"output reg [{bits - 1}:0] {name}_out"]
        body += [f"(* no_rw_check *) reg [{bits - 1}:0] {name} [0:{words - 1}];",
                 f'initial $readmemh("{name}.hex", {name});' if words > 16 else "",
                 f"wire [{top}:0] {name}_at = {name}_from;" if name in ROMS else
                 f"wire [{top}:0] {name}_at = {{{name}_from[{top}:1], ~{name}_to[0]}};",
                 f"always @(posedge clk) {name}_out <= {name}[{name}_at];"]
    for name, (bits, words) in MEMORIES.items():
        ports += [f"input {name}_we", f"input [{(words - 1).bit_length() - 1}:0] {name}_to",
                  f"input [{bits - 1}:0] {name}_in"]
        body.append(f"always @(posedge clk) if ({name}_we) {name}[{name}_to] <= {name}_in;")
    return "\n".join([
        f"module top(input clk, {', '.join(ports)},",
        "  input signed [11:0] a, b, output reg signed [23:0] product,",
        "  input clear, hold, output reg [23:0] count, down, output same);", *body,
        "assign same = count[3] ^ ~hold;",
        "always @(posedge clk) product <= a * b;",
        "always @(posedge clk) if (clear) count <= 24'd77; else if (!hold) count <= count + b;",
        "always @(posedge clk) if (clear) down <= 24'd5; else if (!hold) down <= down - a;",
        "endmodule"])


@pytest.fixture(scope="module")
def netlists(tmp_path_factory):
    """Of ECP5 and of Gowin."""
    folder, rng = tmp_path_factory.mktemp("gowin"), np.random.default_rng(0)
    for name, (bits, words) in (MEMORIES | ROMS).items():
        if words > 16:
            contents = rng.integers(0, 1 << bits, words)
            (folder / f"{name}.hex").write_text("".join(f"{word:x}\n" for word in contents))
    (folder / "design.v").write_text(verilog())
    found = []
    for name in ("ecp5-25f", "gw5a-25"):
        device = DEVICES[name]
        map_design(commands(device, "design.v", "top"), device, folder, lambda text: None)
        found.append((folder / NETLIST).read_text())
    return found


@pytest.fixture(scope="module")
def outputs(netlists):
    """Of the netlist of ECP5, from the second cycle on."""
    return simulated(netlists[0])


def simulated(text):
    rng = np.random.default_rng(1)
    inputs = {name: rng.integers(0, 1 << bits, CYCLES) for name, bits in
              (("a", 12), ("b", 12), ("clear", 1), ("hold", 1))}
    inputs["clear"] &= rng.integers(0, 8, CYCLES) == 0
    inputs["clear"][0] = 1
    for name, (bits, words) in (MEMORIES | ROMS).items():
        inputs[f"{name}_from"] = rng.integers(0, words, CYCLES)
        inputs[f"{name}_from"][::2] &= 63  # words are written and read again
        if name in MEMORIES:
            inputs[f"{name}_to"] = rng.integers(0, words, CYCLES) & 63
            inputs[f"{name}_in"] = rng.integers(0, 1 << bits, CYCLES)
            inputs[f"{name}_we"] = rng.integers(0, 2, CYCLES)
    return {name: values[1:] for name, values in Netlist(text).run(inputs).items()}


def differing(text, outputs):
    found = simulated(text)
    return sorted(name for name in outputs if (found[name] != outputs[name]).any())


def cells(netlist):
    return netlist["modules"]["top"]["cells"].values()


def test_both_families_do_the_same(netlists, outputs):
    assert {cell["type"] for cell in cells(json.loads(netlists[1]))} >= CELLS
    assert all(len(np.unique(values)) > 1 for values in outputs.values())
    assert differing(netlists[1], outputs) == []


@pytest.mark.parametrize(("kind", "parameter", "bit"), [
    ("LUT2", "INIT", 0), ("LUT4", "INIT", 0), ("RAM16SDP4", "INIT_1", 2),
    ("SDPX9B", "INIT_RAM_3F", 3), ("SPX9", "INIT_RAM_00", 9)])
def test_every_bit_counts(netlists, outputs, kind, parameter, bit):
    netlist = json.loads(netlists[1])
    for cell in cells(netlist):
        if cell["type"] == kind:
            bits = cell["parameters"][parameter]
            place = len(bits) - 1 - bit
            flipped = "1" if bits[place] == "0" else "0"
            cell["parameters"][parameter] = bits[:place] + flipped + bits[place + 1:]
    assert differing(json.dumps(netlist), outputs)


@pytest.mark.parametrize(("kind", "parameter", "value"), [
    ("ALU", "ALU_MODE", "101"), ("SPX9", "READ_MODE", "1"), ("SDPX9B", "BIT_WIDTH_1", "10010")])
def test_uses_without_a_model(netlists, kind, parameter, value):
    netlist = json.loads(netlists[1])
    next(cell for cell in cells(netlist) if cell["type"] == kind)["parameters"][parameter] = value
    with pytest.raises(NetlistError, match=f"no simulation model of the cell {kind}"):
        Netlist(json.dumps(netlist))
