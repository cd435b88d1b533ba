"""Cells of Gowin in terms of those of ECP5, for :mod:`bivit.sim.netlist`."""

__all__ = ["as_ecp5", "is_gowin"]

_TABLES = {kind: bits for bits, kind in enumerate(("LUT1", "LUT2", "LUT3", "LUT4"), 1)}
_REGISTERS = {"DFF": (None, None), "DFFE": (None, "CE"), "DFFR": ("RESET", None),
              "DFFRE": ("RESET", "CE"), "DFFS": ("SET", None), "DFFSE": ("SET", "CE")}
"""Kind to the port that sets or resets, and to the one that enables."""
_ADD_OR_SUBTRACT = 2
_PIECES = 32  # of 9 bits in a parameter of a block RAM's contents


def is_gowin(top: dict) -> bool:
    """Whether a top module of Yosys is made of cells of Gowin: its clock comes through a pad."""
    return any(cell["type"] == "IBUF" for cell in top["cells"].values())


def as_ecp5(top: dict) -> tuple[dict, list]:
    """The cells of a netlist of Gowin as cells of ECP5, and the net of the clock.

    What a cell is made of follows from its model in Yosys, for block RAM from how Yosys uses it.
    Cells, and uses of them, that there is no model of stay as they are.

    Parameters
    ----------
    top : dict
        A top module of Yosys, with a port ``clk``.
    """
    constants = {cell["connections"][port][0]: bit for cell in top["cells"].values()
                 for kind, port, bit in (("GND", "G", "0"), ("VCC", "V", "1"))
                 if cell["type"] == kind}
    clock, cells = top["ports"]["clk"]["bits"], {}
    for name, cell in top["cells"].items():
        nets = {port: [constants.get(bit, bit) for bit in bits]
                for port, bits in cell["connections"].items()}
        if cell["type"] == "IBUF" and nets["I"] == top["ports"]["clk"]["bits"]:
            clock = nets["O"]
        elif cell["type"] not in ("GND", "VCC"):
            cells |= _translated(name, cell, nets)
    return cells, clock


def _translated(name, cell, nets):
    kind, parameters = cell["type"], cell["parameters"]
    if kind in _TABLES:
        return {name: _table(nets, _number(parameters, "INIT"), _TABLES[kind])}
    if kind in ("IBUF", "OBUF"):
        return {name: _lut([nets["I"]], nets["O"], 0b10)}
    if kind == "ALU" and _number(parameters, "ALU_MODE") == _ADD_OR_SUBTRACT:
        return _adder(name, nets)
    if kind in _REGISTERS:
        return {name: _register(nets, *_REGISTERS[kind])}
    if kind == "RAM16SDP4":
        return {name: _ram(nets, parameters)}
    if kind in ("SPX9", "SDPX9B") and _plain(nets, parameters):
        return {name: _block(nets, parameters, kind == "SDPX9B")}
    return {name: cell}


def _number(parameters, name):
    return int(str(parameters.get(name, "0")).replace("x", "0"), 2)


def _lut(taken, given, table):
    """A LUT of as many inputs as there are; its table is repeated for those that are open."""
    size = 1 << len(taken)
    whole = sum(table << size * place for place in range(16 // size))
    return {"type": "LUT4", "parameters": {"INIT": f"{whole:016b}"},
            "connections": {**dict(zip("ABCD", taken, strict=False)), "Z": given}}


def _table(nets, table, bits):
    return _lut([nets[f"I{bit}"] for bit in range(bits)], nets["F"], table)


def _adder(name, nets):
    """I0 + I1, or I0 - I1 where I3 is 0: a sum and a carry."""
    taken = [nets[port] for port in ("I0", "I1", "I3", "CIN")]
    total = carry = 0
    for index in range(16):
        first, second, add, carried = (index >> bit & 1 for bit in range(4))
        differs = first ^ second ^ 1 ^ add
        total |= (differs ^ carried) << index
        carry |= (carried if differs else first) << index
    return {f"{name} {port}": _lut(taken, nets[port], table)
            for port, table in (("SUM", total), ("COUT", carry)) if port in nets}


def _register(nets, reset, enable):
    return {"type": "TRELLIS_FF",
            "parameters": {"SRMODE": "LSR_OVER_CE", "CEMUX": "CE" if enable else "1",
                           "REGSET": "SET" if reset == "SET" else "RESET"},
            "connections": {"CLK": nets["CLK"], "DI": nets["D"], "Q": nets["Q"],
                            "LSR": nets[reset] if reset else ["0"],
                            "CE": nets[enable] if enable else ["1"]}}


def _ram(nets, parameters):
    columns = [_number(parameters, f"INIT_{bit}") for bit in range(4)]
    words = sum((columns[bit] >> word & 1) << 4 * word + bit
                for word in range(16) for bit in range(4))
    return {"type": "TRELLIS_DPR16X4", "parameters": {"INITVAL": f"{words:064b}"},
            "connections": {"WCK": nets["CLK"], **{
                port: nets[port] for port in ("RAD", "WAD", "DI", "DO", "WRE")}}}


def _plain(nets, parameters):
    """Whether a block RAM is used as Yosys does, and not written at the port that reads."""
    widths = {_number(parameters, name) for name in parameters if name.startswith("BIT_WIDTH")}
    still = [bit for port in ("RESET", "WRE", "BLKSEL", "BLKSELA", "BLKSELB")
             for bit in nets.get(port, ())]
    known = {36} if "BIT_WIDTH_0" in parameters else {9, 18, 36}
    return (len(widths) == 1 and widths <= known and set(still) <= {"0"}
            and not _number(parameters, "READ_MODE"))


def _block(nets, parameters, written):
    """Written at A, if at all, and read at B."""
    width = _number(parameters, "BIT_WIDTH_0" if written else "BIT_WIDTH")
    address, enable, clock = ("ADB", "CEB", "CLKB") if written else ("AD", "CE", "CLK")
    pins = {"CLKB": nets[clock], "CEB": nets[enable], **_numbered("ADB", nets[address])}
    if written:
        pins |= {"CLKA": nets["CLKA"], "CEA": nets["CEA"], "WEA": nets["CEA"],
                 **_numbered("ADA", nets["ADA"]), **_halves("DI", nets["DI"])}
    pins |= (_halves("DO", nets["DO"]) if width == 36 else _numbered("DOB", nets["DO"][:width]))
    contents = {f"INITVAL_{index:02X}": _spaced(_number(parameters, f"INIT_RAM_{index:02X}"))
                for index in range(64)}
    return {"type": "DP16KD", "connections": pins,
            "parameters": {"DATA_WIDTH_A": f"{width:b}", "DATA_WIDTH_B": f"{width:b}", **contents}}


def _numbered(prefix, bits):
    return {f"{prefix}{index}": [bit] for index, bit in enumerate(bits)}


def _halves(prefix, bits):
    return _numbered(f"{prefix}A", bits[:18]) | _numbered(f"{prefix}B", bits[18:])


def _spaced(contents):
    """Pieces of 9 bits as ECP5 has them: two in each 20 bits."""
    return format(sum((contents >> 9 * piece & 511) << 20 * (piece // 2) + 9 * (piece % 2)
                      for piece in range(_PIECES)), "b")
