"""Netlists of ECP5, cell by cell, against what their Verilog means."""

import json

import numpy as np
import pytest

from bivit.hw.devices import DEVICES
from bivit.hw.flow.synthesis import NETLIST, commands, map_design
from bivit.sim.netlist import Netlist, NetlistError
from bivit.sim.netlist_board import NetlistPort

MEMORIES = {"wide": (36, 512), "middle": (18, 1024), "narrow": (9, 2048), "nibbles": (4, 4096),
            "pairs": (2, 8192), "small": (4, 16)}
"""Name to bits and words: one block RAM each, the last one in LUTs."""
CYCLES = 3000


def verilog():
    """Memories, a signed product, and a counter that is set, held and cleared."""
    ports, body = [], []
    for name, (bits, words) in MEMORIES.items():
        address = (words - 1).bit_length()
        ports += [f"input {name}_we", f"input [{address - 1}:0] {name}_to, {name}_from",
                  f"input [{bits - 1}:0] {name}_in", f"output reg [{bits - 1}:0] {name}_out"]
        read = f"{name}_out <= {name}[{name}_from];"
        body += [f'(* no_rw_check *) reg [{bits - 1}:0] {name} [0:{words - 1}];',
                 f'initial $readmemh("{name}.hex", {name});' if words > 16 else "",
                 f"always @(posedge clk) begin if ({name}_we) {name}[{name}_to] <= {name}_in; "
                 f"{read} end"]
    return "\n".join([
        f"module top(input clk, {', '.join(ports)},",
        "  input signed [17:0] a, b, output reg signed [35:0] product,",
        "  input clear, hold, output reg [23:0] count, output reg [7:0] mixed);", *body,
        "always @(posedge clk) mixed <= a[7:0] & b[7:0] ^ (a[15:8] | {8{hold}});",
        "always @(posedge clk) product <= a * b;",
        "always @(posedge clk) if (clear) count <= 24'd77; else if (!hold) count <= count + b;",
        "endmodule"])


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    """The netlist, and what the memories hold at first."""
    folder, rng = tmp_path_factory.mktemp("netlist"), np.random.default_rng(0)
    contents = {}
    for name, (bits, words) in MEMORIES.items():
        contents[name] = rng.integers(0, 1 << bits, words) * (words > 16)
        (folder / f"{name}.hex").write_text("".join(f"{word:x}\n" for word in contents[name]))
    (folder / "design.v").write_text(verilog())
    return map_text(folder), contents


def map_text(folder):
    """JSON of the netlist of the Verilog in a folder."""
    device = DEVICES["ecp5-25f"]
    map_design(commands(device, "design.v", "top"), device, folder, lambda text: None)
    return (folder / NETLIST).read_text()


def stimulus(rng):
    """Inputs; nothing is read where it is written in the same cycle."""
    inputs = {"a": rng.integers(0, 1 << 18, CYCLES), "b": rng.integers(0, 1 << 18, CYCLES),
              "clear": rng.integers(0, 50, CYCLES) == 0, "hold": rng.integers(0, 2, CYCLES)}
    inputs["clear"][0] = True
    for name, (bits, words) in MEMORIES.items():
        near = min(words, 64)  # words are written and read again
        inputs[f"{name}_to"] = rng.integers(words - near, words, CYCLES)
        inputs[f"{name}_from"] = np.where(rng.integers(0, 2, CYCLES),
                                          rng.integers(0, words, CYCLES),
                                          rng.integers(words - near, words, CYCLES))
        inputs[f"{name}_in"] = rng.integers(0, 1 << bits, CYCLES)
        inputs[f"{name}_we"] = rng.integers(0, 2, CYCLES) & (
            inputs[f"{name}_to"] != inputs[f"{name}_from"])
    return inputs


def expected(inputs, contents):
    """Outputs before each edge, from the second cycle on."""
    found, count = {}, 0
    a, b = (inputs[name] - (inputs[name] >> 17 << 18) for name in "ab")
    a_bits, mask = inputs["a"], -inputs["hold"] & 255
    found["mixed"] = a_bits & inputs["b"] & 255 ^ (a_bits >> 8 & 255 | mask)
    found["product"] = a * b & (1 << 36) - 1
    counts = []
    for clear, hold, step in zip(inputs["clear"], inputs["hold"], inputs["b"], strict=True):
        count = 77 if clear else count if hold else count + step & 0xFFFFFF
        counts.append(count)
    found["count"] = np.array(counts)
    for name in MEMORIES:
        words, out = contents[name].copy(), []
        for cycle in range(CYCLES):
            out.append(words[inputs[f"{name}_from"][cycle]])
            if inputs[f"{name}_we"][cycle]:
                words[inputs[f"{name}_to"][cycle]] = inputs[f"{name}_in"][cycle]
        found[f"{name}_out"] = np.array(out)
    return {name: values[:-1] for name, values in found.items()}


def differing(text, contents, seed):
    inputs = stimulus(np.random.default_rng(seed))
    outputs, wanted = Netlist(text).run(inputs), expected(inputs, contents)
    return sorted(name for name in wanted if (outputs[name][1:] != wanted[name]).any())


def test_cells_do_what_the_verilog_says(mapped):
    text, contents = mapped
    kinds = {cell["type"] for cell in json.loads(text)["modules"]["top"]["cells"].values()}
    assert kinds >= {"LUT4", "CCU2C", "TRELLIS_FF", "TRELLIS_DPR16X4", "MULT18X18D", "DP16KD"}
    assert differing(text, contents, seed=1) == []


def test_other_cells_do_something_else(mapped):
    text, contents = mapped
    for kind, parameter, bit in (("LUT4", "INIT", 0), ("CCU2C", "INIT0", 10),
                                 ("DP16KD", "INITVAL_00", 3)):
        netlist = json.loads(text)
        broken = 0
        for cell in netlist["modules"]["top"]["cells"].values():
            if cell["type"] == kind:
                bits = cell["parameters"][parameter]
                place = len(bits) - 1 - bit
                flipped = "1" if bits[place] == "0" else "0"
                cell["parameters"][parameter] = bits[:place] + flipped + bits[place + 1:]
                broken += 1
        assert broken and differing(json.dumps(netlist), contents, seed=1), kind


def test_cells_without_a_model(mapped):
    netlist = json.loads(mapped[0])
    cells = netlist["modules"]["top"]["cells"]
    next(iter(cells.values()))["type"] = "SB_LUT4"
    with pytest.raises(NetlistError, match="no simulation model of the cell SB_LUT4"):
        Netlist(json.dumps(netlist))


def test_a_line(tmp_path):
    """Bytes that a design sends back as they come, bit by bit and some cycles late."""
    (tmp_path / "design.v").write_text("""
module top(input clk, input uart_rx, output uart_tx);
  reg [99:0] late = ~100'd0;
  always @(posedge clk) late <= {late[98:0], uart_rx};
  assign uart_tx = late[99];
endmodule""")
    port = NetlistPort(map_text(tmp_path), clock_hz=7_000_000, baud=1_000_000)
    sent, found = bytes(range(256)), b""
    port.write(sent[:100])
    port.write(sent[100:])
    while len(found) < len(sent):
        found += port.read(1)
    assert found == sent
    assert port.cycles >= 256 * 10 * 7 + 100
