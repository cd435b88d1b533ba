"""A netlist of Yosys for ECP5 or Gowin, simulated cell by cell: what is placed and routed, bit for
bit."""

import heapq
import json

import numpy as np

from bivit.compiler.ir.errors import UserError
from bivit.sim.netlist_gowin import as_ecp5, is_gowin
from bivit.sim.netlist_kernel import CARRY, LUT, MULTIPLIER, RAM, run

__all__ = ["Netlist", "NetlistError"]

_PIECES = 2048
"""Of 9 bits in a block RAM; words of up to 4 bits use 8 bits of a piece."""


class NetlistError(UserError):
    """A netlist that cannot be simulated; the message is one sentence."""


class Netlist:
    """The top module of a netlist, at its ports. All registers have one clock, the port ``clk``.

    Models of the cells are our own, written from the meaning of the cells in Yosys: LUT4, CCU2C,
    TRELLIS_FF, TRELLIS_DPR16X4 and, without their registers for inputs, MULT18X18D and DP16KD;
    cells of Gowin are made of these (:mod:`bivit.sim.netlist_gowin`).

    Parameters
    ----------
    text : str
        JSON of Yosys.
    """

    def __init__(self, text: str):
        top = next(module for module in json.loads(text)["modules"].values()
                   if int(module.get("attributes", {}).get("top", "0"), 2))
        self._numbers = {"0": 0, "1": 1, "x": 0, "z": 0}
        cells, clock = as_ecp5(top) if is_gowin(top) else (top["cells"],
                                                           top["ports"]["clk"]["bits"])
        self._ports = {name: (port["direction"], [self._net(bit) for bit in port["bits"]])
                       for name, port in top["ports"].items() if name != "clk"}
        found = {kind: [] for kind in _READERS}
        for name, cell in cells.items():
            if cell["type"] not in _READERS:
                raise NetlistError(f"there is no simulation model of the cell {cell['type']}, "
                                   f"which {name} is; take a board with an ECP5 or a GW5A")
            pins = _Pins(name, cell, self._net, clock)
            found[cell["type"]].append(_READERS[cell["type"]](pins))
        self._cells = {kind: _table([row for row, *_ in rows]) for kind, rows in found.items()}
        self._memories = {kind: [extra for _, *extra in found[kind]]
                          for kind in ("TRELLIS_FF", "TRELLIS_DPR16X4", "DP16KD")}
        self._order = self._sorted()
        self.reset()

    def reset(self) -> None:
        """As after configuration."""
        self._nets = np.zeros(max(2, *self._numbers.values()) + 1, np.uint8)
        self._nets[1] = 1
        registers, rams, blocks = (self._memories[kind] for kind in
                                   ("TRELLIS_FF", "TRELLIS_DPR16X4", "DP16KD"))
        for row, (value,) in zip(self._cells["TRELLIS_FF"], registers, strict=True):
            self._nets[row[3]] = value
        self._ram_words = np.array([words for words, in rams], np.uint8).reshape(-1, 16)
        self._pieces = np.array([pieces for pieces, in blocks], np.int64).reshape(-1, _PIECES)
        self._words = np.zeros((len(blocks), 2, 2), np.int64)

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run a cycle for each element of the inputs; outputs are those just before the edge.

        Parameters
        ----------
        inputs : dict of str to array of int
            Every input of the top but the clock.
        """
        taken = {name: bits for name, (way, bits) in self._ports.items() if way == "input"}
        given = {name: bits for name, (way, bits) in self._ports.items() if way == "output"}
        columns = [np.asarray(inputs[name]) >> bit & 1
                   for name, bits in taken.items() for bit in range(len(bits))]
        rows = np.ascontiguousarray(np.stack(columns, axis=1), np.uint8)
        outputs = np.zeros((len(rows), sum(map(len, given.values()))), np.uint8)
        cells = self._cells
        run(self._nets, self._order, cells["LUT4"], cells["CCU2C"], cells["TRELLIS_DPR16X4"],
            self._ram_words, cells["MULT18X18D"], cells["TRELLIS_FF"], cells["DP16KD"],
            self._pieces, self._words, rows, _flat(taken), _flat(given), outputs)
        result, first = {}, 0
        for name, bits in given.items():
            result[name] = sum(outputs[:, first + bit].astype(np.int64) << bit
                               for bit in range(len(bits)))
            first += len(bits)
        return result

    def _net(self, bit):
        """Number of a bit of the netlist."""
        return self._numbers.setdefault(bit, len(self._numbers) - 2)

    def _sorted(self):
        """Combinational cells, each behind those that it reads."""
        makers, cells = {}, []
        for kind, name, taken, given in _COMBINATIONAL:
            for index, row in enumerate(self._cells[name]):
                for net in row[list(given)]:
                    makers[int(net)] = len(cells)
                cells.append((kind, index, row[list(taken)]))
        makers.pop(0, None)
        needs = [{makers[int(net)] for net in taken if int(net) in makers}
                 for _, _, taken in cells]
        readers = [[] for _ in cells]
        for cell, sources in enumerate(needs):
            for source in sources:
                readers[source].append(cell)
        left = [len(sources) for sources in needs]
        ready, order = [cell for cell, count in enumerate(left) if not count], []
        heapq.heapify(ready)
        while ready:
            cell = heapq.heappop(ready)
            order.append(cells[cell][:2])
            for reader in readers[cell]:
                left[reader] -= 1
                if not left[reader]:
                    heapq.heappush(ready, reader)
        if len(order) != len(cells):
            raise NetlistError("the netlist has a loop without a register")
        return _table(order)


class _Pins:
    """Connections and parameters of a cell."""

    def __init__(self, name, cell, net, clock):
        self.name, self._cell, self._net, self._clock = name, cell, net, clock

    def __call__(self, port: str, bit: int = 0) -> int:
        """Net of a bit of a port; what is not connected is 0."""
        bits = self._cell["connections"].get(port, [])
        return self._net(bits[bit]) if bit < len(bits) else 0

    def bus(self, prefix: str, width: int) -> list[int]:
        """Nets of ports that are numbered."""
        return [self(f"{prefix}{bit}") for bit in range(width)]

    def text(self, name: str, default: str) -> str:
        """A parameter that is a text."""
        return self._cell["parameters"].get(name, default).strip()

    def number(self, name: str) -> int:
        """A parameter that is a number; bits that are open are 0."""
        return int(self._cell["parameters"].get(name, "0").replace("x", "0"), 2)

    def need(self, condition: bool) -> None:
        """Refuse a use of the cell that has no model."""
        if not condition:
            raise NetlistError(f"{self.name} uses its cell {self._cell['type']} in a way that "
                               "there is no simulation model of")

    def need_clock(self, port: str) -> None:
        """The one clock, at its rising edge."""
        self.need(self._cell["connections"][port] == self._clock
                  and self.text(f"{port}MUX", port) == port)


def _lut(pins):
    return [*(pins(port) for port in "ABCD"), pins.number("INIT"), pins("Z")],


def _carry(pins):
    halves = [[*(pins(f"{port}{half}") for port in "ABCD"), pins.number(f"INIT{half}")]
              for half in range(2)]
    gates = sum((pins.text(f"INJECT1_{half}", "YES") == "YES") << half for half in range(2))
    return [pins("CIN"), *halves[0], *halves[1], gates, pins("S0"), pins("S1"), pins("COUT")],


def _register(pins):
    pins.need_clock("CLK")
    reset, enable = pins("LSR"), pins("CE")
    pins.need(reset == 0 or pins.text("SRMODE", "") == "LSR_OVER_CE")
    mux = pins.text("CEMUX", "1")
    enable = {"1": 1, "0": 0}.get(mux, enable)
    inverted = (pins.text("LSRMUX", "LSR") == "INV") | (mux == "INV") << 1
    value = int(pins.text("REGSET", "RESET") == "SET")
    return [reset, enable, pins("DI"), pins("Q"), inverted, value], value


def _ram(pins):
    pins.need_clock("WCK")
    words = [pins.number("INITVAL") >> 4 * index & 15 for index in range(16)]
    buses = [pins(port, bit) for port in ("RAD", "WAD", "DI") for bit in range(4)]
    mux = pins.text("WREMUX", "WRE")
    pins.need(mux in ("WRE", "INV"))
    return [*buses, pins("WRE"), *(pins("DO", bit) for bit in range(4)), int(mux == "INV")], words


def _multiplier(pins):
    return [*pins.bus("A", 18), *pins.bus("B", 18), pins("SIGNEDA"), pins("SIGNEDB"),
            *pins.bus("P", 36)],


def _block(pins):
    """Words of 36 bits are written at A and read at B; of data and outputs those of A are low."""
    widths = [pins.number(f"DATA_WIDTH_{side}") for side in "AB"]
    wide = 36 in widths
    late = [int(pins.text(f"REGMODE_{side}", "NOREG") == "OUTREG") for side in "AB"]
    outputs = {side: pins.bus(f"DO{side}", 18) for side in "AB"}
    for side in "AB":
        if pins(f"CE{side}"):
            pins.need_clock(f"CLK{side}")
        pins.need(pins(f"RST{side}") == 0 and not any(pins.bus(f"CS{side}", 3)))
    pins.need(not wide or widths == [36, 36] and pins("WEB") == 0)
    nothing = [0] * 18
    read = ([*nothing, *nothing, *outputs["A"], *outputs["B"]] if wide else
            [*outputs["A"], *nothing, *outputs["B"], *nothing])
    contents = [pins.number(f"INITVAL_{index:02X}") for index in range(64)]
    pieces = [contents[piece // 32] >> 20 * (piece // 2 % 16) + 9 * (piece % 2) & 511
              for piece in range(_PIECES)]
    return [*widths, pins("CEA"), pins("CEB"), 0, 0, *late, *pins.bus("ADA", 14),
            *pins.bus("ADB", 14), pins("WEA"), pins("WEB"), pins("OCEA"), pins("OCEB"),
            *pins.bus("DIA", 18), *pins.bus("DIB", 18), 0, 0, 0, 0, *read], pieces


_READERS = {"LUT4": _lut, "CCU2C": _carry, "TRELLIS_FF": _register, "TRELLIS_DPR16X4": _ram,
            "MULT18X18D": _multiplier, "DP16KD": _block}
"""Kind of cell to what makes its row for the kernel, and its contents."""

_COMBINATIONAL = (
    (LUT, "LUT4", range(4), (5,)),
    (CARRY, "CCU2C", (*range(5), *range(6, 10)), (12, 13, 14)),
    (RAM, "TRELLIS_DPR16X4", range(4), range(13, 17)),
    (MULTIPLIER, "MULT18X18D", range(38), range(38, 74)),
)
"""Kind, cell, and in its rows what it reads and what it makes."""


def _table(rows):
    return np.array(rows, np.int32).reshape(len(rows), -1) if rows else np.zeros((0, 1), np.int32)


def _flat(ports):
    return np.array([net for bits in ports.values() for net in bits], np.int64)
