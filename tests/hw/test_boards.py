"""Boards: pins and constraints, and what is refused before the tools run."""

import dataclasses
import subprocess
import sys
import types

import pytest

from bivit.hw.board.identity import network_hash, target_hash
from bivit.hw.board.protocol import BAUD
from bivit.hw.board_targets import BOARD_TARGETS
from bivit.hw.boards import BOARDS, BoardError, Pin, Pins
from bivit.hw.devices import DEVICES
from bivit.hw.flow.bitstream import (
    _changing,
    _check_memories,
    _too_few,
    finish,
    make_bitstream,
)
from bivit.hw.flow.packing import PACKINGS, _quick
from bivit.hw.flow.synthesis import commands, map_design
from bivit.hw.flow.tools import FlowError
from bivit.hw.targets import TARGETS

PINS = Pins(clk=Pin("A1", {"IO_TYPE": "LVCMOS33"}), clock_hz=25_000_000,
            uart_rx=Pin("B2", {"IO_TYPE": "LVCMOS33", "PULLUP": 1}),
            uart_tx=Pin("C3", {"IO_TYPE": "LVCMOS33"}))
CONSTRAINTS = {
    "ecp5": '''FREQUENCY PORT "clk" 25 MHZ;
LOCATE COMP "clk" SITE "A1";
IOBUF PORT "clk" IO_TYPE=LVCMOS33;
LOCATE COMP "uart_rx" SITE "B2";
IOBUF PORT "uart_rx" IO_TYPE=LVCMOS33 PULLUP=1;
LOCATE COMP "uart_tx" SITE "C3";
IOBUF PORT "uart_tx" IO_TYPE=LVCMOS33;
''',
    "ice40": "set_io clk A1\nset_io -pullup yes uart_rx B2\nset_io uart_tx C3\n",
    "himbaechel-gowin": '''IO_LOC "clk" A1;
IO_PORT "clk" IO_TYPE=LVCMOS33;
IO_LOC "uart_rx" B2;
IO_PORT "uart_rx" IO_TYPE=LVCMOS33 PULLUP=1;
IO_LOC "uart_tx" C3;
IO_PORT "uart_tx" IO_TYPE=LVCMOS33;
''',
}


@pytest.mark.parametrize("kind", PACKINGS)
def test_constraints(kind):
    assert PACKINGS[kind].constraints(PINS) == CONSTRAINTS[kind]


SITES = {"ulx3s-85f": ("G2", "M1", "L4"), "colorlight-i5": ("P3", "H18", "J17"),
         "icebreaker": ("35", "6", "9"), "tang-primer-20k": ("H11", "T13", "M11"),
         "tang-mega-138k": ("P16", "P15", "N16")}


@pytest.mark.parametrize("name", BOARDS)
def test_boards(name):
    board = BOARDS[name]
    assert DEVICES[board.device].route.tool in PACKINGS
    assert tuple(pin.site for pin in board.pins.ports.values()) == SITES[name]
    assert board.pins.clock_hz % BAUD == 0


def test_pins_without_amaranth_boards(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "amaranth_boards.ulx3s", None)
    with pytest.raises(BoardError, match="amaranth-boards, which is not installed"):
        print(BOARDS["ulx3s-85f"].pins)


def test_refusals(tmp_path):
    with pytest.raises(FlowError, match="^there is no board 'x'; take one of ulx3s-85f, "):
        make_bitstream(TARGETS["tiny"], {}, "x", tmp_path / "net")
    with pytest.raises(FlowError, match=r"^1BitSquared iCEBreaker: .* is too small for the target "
                                        r"tiny, whose deep memories take [\d,]+ EBR \(4 "
                                        r"kbit\) of 30, [\d,]+ too many; take"):
        make_bitstream(TARGETS["tiny"], {}, "icebreaker", tmp_path / "net")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("target", BOARD_TARGETS)
def test_memories_of_targets(target):
    """Whatever the network, they fit."""
    board = BOARDS[target.removesuffix("-digits")]
    _check_memories(BOARD_TARGETS[target], {}, board, DEVICES[board.device])


def test_cells_that_are_rare():
    device = DEVICES["gw2a-18"]
    cells = {"": {"RAM16SDP4": 600}, "post": {"RAM16SDP4": 142, "LUT4": 5000}}
    assert _too_few(TARGETS["tiny"], device, {"": {"RAM16SDP4": 648}}) is None
    assert _too_few(TARGETS["tiny"], device, cells).endswith(
        "the target tiny, which needs 742 RAM16SDP4 of 648 (memories made of LUTs); take a target "
        "with smaller memories")


def test_bits_of_a_rom_that_count():
    assert _changing([0b1010, 0b1011, 0b1110]) == 2
    assert _changing([5, 5]) == 1


def test_hashes_change_with_what_they_are_of():
    arch = TARGETS["tiny"]
    other = dataclasses.replace(arch, weights="loaded")
    memories = {"program": [1, 2], "weight": [3]}
    assert target_hash(arch) != target_hash(other)
    assert len({network_hash(arch, memories), network_hash(other, memories),
                network_hash(arch, {"program": [1], "weight": [2, 3]}),
                network_hash(arch, {"program": [1, 2], "weight": [0x13]})}) == 4
    assert max(target_hash(arch), network_hash(arch, memories)) < 1 << 64


def test_wires_of_gowin_and_the_tiles_they_are_looked_for_in():
    """All tiles for those of the clock network, for others no tile but their own."""
    calls = []
    database = types.SimpleNamespace(rows=5, cols=7, grid="grid", hclk_pips={(0, 3): {"H": {}}})
    names = types.SimpleNamespace(clknumbers={"SPINE1": 1, "GT00": 2})
    pips = [(1, 2, "A", "B"), (1, 2, "SPINE1", "GT00"), (1, 2, "SPINE1", "CLK0"),
            (3, 4, "LEFT_PLL_TOP", "X"), (3, 4, "A", "H"), (9, 9, "B", "A")]
    _quick(lambda *call: calls.append(call), names)(database, "tiles", pips)
    (far, *_), (own, *_) = calls
    assert far is database and (own.rows, own.cols, own.grid) == (0, 0, "grid")
    assert [call[2] for call in calls] == [[pips[1], pips[3], pips[4]],
                                           [pips[0], pips[2], pips[5]]]
    assert {call[1] for call in calls} == {"tiles"}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOARDS)
def test_from_verilog_to_a_bitstream(name, tmp_path):
    """A small top instead of a network's: all tools, with what they are told of the board."""
    (tmp_path / "design.v").write_text("""
module board_top(input clk, input uart_rx, output uart_tx);
  reg [31:0] count = 0, mixed = 0;
  always @(posedge clk) begin
    count <= count + {31'd1, uart_rx};
    if (count[3]) mixed <= mixed ^ (count * 5);
  end
  assign uart_tx = mixed[31];
endmodule
""")
    device = DEVICES[BOARDS[name].device]
    map_design(commands(device, "design.v", "board_top"), device, tmp_path, lambda text: None)
    fmax, placed = finish(BOARDS[name], 1, tmp_path, lambda *step: None)
    assert fmax >= BOARDS[name].pins.clock_hz / 1e6 and placed
    assert (tmp_path / "bitstream").stat().st_size > 10_000
    if device.route.tool == "himbaechel-gowin":  # ours goes through fewer tiles
        subprocess.run([sys.executable, "-c", "from apycula import gowin_pack; gowin_pack.main()",
                        *device.route.packer, "-o", "theirs", "routed"], cwd=tmp_path, check=True)
        assert (tmp_path / "bitstream").read_bytes() == (tmp_path / "theirs").read_bytes()
