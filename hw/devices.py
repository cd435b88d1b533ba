"""The devices that flows know: what each has, and how yosys and nextpnr are asked for it.

Counts are those of the device databases of nextpnr, and of the data sheets where there is none.
"""

import dataclasses

__all__ = ["DEVICES", "RESOURCES", "RULES", "ULTRA_RAM_BITS", "Device", "Family",
           "Multiplier", "Route"]

RESOURCES = ("luts", "registers", "block_ram", "multipliers")
"""What is counted of a design and of a device."""

ULTRA_RAM_BITS = 4096 * 72
"""Of a memory of ``Device.ultra_ram``."""

RULES = "rules.v"
"""File by whose rules cells of a netlist are replaced."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Multiplier:
    """A multiplier, and how Yosys makes larger products of several (its ``mul2dsp``).

    Parameters
    ----------
    left, right : int
        Bits of the operands, the larger first.
    part : int
        Bits of the pieces that a larger left operand is cut into.
    least : int
        Operands of fewer bits make a product of LUTs.
    signed : bool
        Whether it has signed operands alone.
    """

    left: int = 18
    right: int = 18
    part: int = 18
    least: int = 2
    signed: bool = False

    def count(self, left: int, right: int, *, signed: bool) -> int:
        """Multipliers of a product of so many bits by so many."""
        if self.signed and not signed:
            left, right = left + 1, right + 1
        left, right = max(left, right), min(left, right)
        if right < self.least:
            return 0
        return len(self._pieces(left, self.left, self.part)) * len(
            self._pieces(right, self.right, self.right))

    def _pieces(self, bits, most, part):
        """Operands that one of so many bits is cut into, without those that LUTs multiply."""
        step = part - self.signed
        whole = -(-max(0, bits - most) // step)
        return [*[part] * whole, *[bits - whole * step] * (bits - whole * step >= self.least)]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Family:
    """Devices with the same cells.

    Parameters
    ----------
    fabric : str
        Of the processing elements that suit it (``Arch.fabric``).
    units : dict of str to str
        Resource to the name of one of it, for people.
    geometries : tuple of (int, int, int)
        Bits and words of a block RAM with a write and a read port, and bits for each enable.
    cells : dict of str to dict of str to int
        Resource to cells of a netlist and how many of it one takes; a name that ends in ``*``
        stands for all that begin so.
    synthesis : str
        Command of Yosys, without the top module.
    apart : str
        What that command gets besides where the core is kept apart from the pins.
    joined : tuple of str
        Commands for the netlist once both are joined.
    rules : str
        Verilog of the file ``RULES``, by which those commands replace cells.
    library : tuple of str
        Commands that read the cells that are put in once blocks are joined.
    lut_rams : tuple of tuple of int
        Words and bits of RAMs made of LUTs, and the LUTs of each. Empty: block RAM is taken
        whatever the size.
    block_cost : float
        What a block RAM costs where a LUT of such a RAM costs 1.
    registers_inside : bool
        Whether registers behind a block RAM are its own.
    multiplier : Multiplier
    """

    fabric: str
    units: dict[str, str]
    geometries: tuple[tuple[int, int, int], ...]
    cells: dict[str, dict[str, int]]
    synthesis: str
    apart: str = ""
    joined: tuple[str, ...] = ()
    rules: str = ""
    library: tuple[str, ...] = ()
    lut_rams: tuple[tuple[int, int, int], ...] = ()
    block_cost: float = 0
    registers_inside: bool = False
    multiplier: Multiplier = Multiplier()

    @property
    def lut_inputs(self) -> int:
        """Of a LUT."""
        return 6 if self.fabric.startswith("lut6") else 4

    def count(self, cells: dict[str, int]) -> dict[str, int]:
        """Resources of so many cells of each kind."""
        return {name: sum(_each(self.cells[name], kind) * count for kind, count in cells.items())
                for name in RESOURCES}


def _each(table, kind):
    found = table.get(kind)
    if found is None:
        found = next((count for name, count in table.items()
                      if name.endswith("*") and kind.startswith(name[:-1])), 0)
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Route:
    """Place and route of a device.

    Parameters
    ----------
    tool : str
        The nextpnr: ``ecp5``, ``nexus``, ``ice40`` or ``himbaechel-gowin``.
    arguments : tuple of str
        Device, package, speed grade, router, how densely cells may be placed.
    megahertz : int
        The clock rate that is asked for: somewhat more than is reached.
    sites : tuple of str
        Pins of the package, for a nextpnr that finds none for the ports itself; a clock's first.
    packer : tuple of str
        What the packer of the family is told of the device.
    """

    tool: str
    arguments: tuple[str, ...]
    megahertz: int
    sites: tuple[str, ...] = ()
    packer: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Device:
    """One device.

    Parameters
    ----------
    title : str
        For people.
    family : Family
    luts, registers, block_ram, multipliers : int
        How many it has.
    ultra_ram : int
        Memories of 4096 words of 72 bits.
    rare : dict of str to int
        Kinds of cells that there are fewer of than LUTs would allow.
    route : Route, optional
        None: synthesis only.
    part : str, optional
        The vendor's name, where the vendor's tool does place and route.
    """

    title: str
    family: Family
    luts: int
    registers: int
    block_ram: int
    multipliers: int
    ultra_ram: int = 0
    rare: dict[str, int] = dataclasses.field(default_factory=dict)
    route: Route | None = None
    part: str | None = None

    @property
    def available(self) -> dict[str, int]:
        """Resources by name."""
        return {name: getattr(self, name) for name in RESOURCES}


def _units(luts, block_ram, multipliers):
    return {"luts": luts, "registers": "flip-flops", "block_ram": block_ram,
            "multipliers": multipliers}


_18_KBIT = ((36, 512, 9), (18, 1024, 9), (9, 2048, 9), (4, 4096, 4), (2, 8192, 2),
            (1, 16384, 1))
_4_KBIT = ((16, 256, 1), (8, 512, 8), (4, 1024, 4), (2, 2048, 2))

_ECP5 = Family(
    fabric="ecp5", units=_units("LUT4", "DP16KD (18 kbit)", "MULT18X18D"),
    geometries=_18_KBIT, lut_rams=((16, 4, 4),), block_cost=128, registers_inside=True,
    synthesis="synth_ecp5 -nowidelut",
    cells={"luts": {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 4}, "registers": {"TRELLIS_FF": 1},
           "block_ram": {"DP16KD": 1, "PDPW16KD": 1}, "multipliers": {"MULT18X18D": 1}})

_NEXUS = Family(
    fabric="nexus", units=_units("LUT4", "EBR (18 kbit)", "MULT18X18"),
    geometries=_18_KBIT, synthesis="synth_nexus -nowidelut",
    cells={"luts": {"LUT4": 1, "CCU2": 2, "WIDEFN9": 2, "DPR16X4": 4, "INV": 1},
           "registers": {"FD1P3*": 1},
           "block_ram": {"DP16K*": 1, "PDP16K*": 1, "PDPSC16K*": 1},
           "multipliers": {"MULT9X9": 1, "MULT18X18": 1, "MULT18X36": 2, "MULT36X36": 4,
                           "MULTPREADD9X9": 1, "MULTPREADD18X18": 1, "MULTADDSUB9X9WIDE": 1,
                           "MULTADDSUB18X18": 1}},
    joined=(*[f"techmap -map {RULES}"] * 2,  # constants, then what they lead to
            "hilomap -singleton -hicell VHI Z -locell VLO Z"),
    rules="""
// Yosys ties the carry into a chain to 0, and nextpnr wants it open.
module VLO(output Z);
  assign Z = 1'b0;
endmodule
(* techmap_celltype = "CCU2" *)
module first_of_chain(
    input CIN, A0, B0, C0, D0, A1, B1, C1, D1, output S0, S1, COUT);
  parameter INJECT = "YES", INIT0 = "0x0000", INIT1 = "0x1111";
  parameter _TECHMAP_CONSTMSK_CIN_ = 1'b0;
  wire _TECHMAP_FAIL_ = _TECHMAP_CONSTMSK_CIN_ == 1'b0;
  CCU2 #(.INJECT(INJECT), .INIT0(INIT0), .INIT1(INIT1)) _TECHMAP_REPLACE_ (
    .A0(A0), .B0(B0), .C0(C0), .D0(D0), .A1(A1), .B1(B1), .C1(C1), .D1(D1),
    .S0(S0), .S1(S1), .COUT(COUT));
endmodule
""")


def _gowin(family):
    return Family(
        fabric="generic", units=_units("LUT4", "BSRAM (18 kbit)", "multipliers"),
        geometries=_18_KBIT, synthesis=f"synth_gowin -nowidelut -family {family}",
        library=("read_verilog -lib +/gowin/cells_sim.v",
                 f"read_verilog -lib +/gowin/cells_xtra_{family}.v", "blackbox =A:whitebox"),
        apart="-noiopads", joined=("iopadmap -bits -inpad IBUF O:I -outpad OBUF I:O",),
        cells={"luts": {"LUT1": 1, "LUT2": 1, "LUT3": 1, "LUT4": 1, "ALU": 1, "RAM16SDP1": 1,
                        "RAM16SDP2": 2, "RAM16SDP4": 4, "INV": 1},
               "registers": {"DFF*": 1},
               "block_ram": {"SDP*": 1, "DP*": 1, "SP": 1, "SPX9": 1, "pROM*": 1},
               "multipliers": {"MULT9X9": 1, "MULT18X18": 1, "MULT36X36": 4, "MULT12X12": 1,
                               "MULT27X36": 1, "MULTALU*": 1, "MULTADDALU*": 2}})


_ICE40 = Family(
    fabric="generic", units=_units("LUT4", "EBR (4 kbit)", "SB_MAC16"),
    geometries=_4_KBIT, synthesis="synth_ice40 -device u -dsp",
    cells={"luts": {"SB_LUT4": 1}, "registers": {"SB_DFF*": 1},
           "block_ram": {"SB_RAM40_4K*": 1}, "multipliers": {"SB_MAC16": 1}})


def _xilinx(family, fabric, lut_rams, left):
    return Family(
        fabric=fabric, units=_units("LUT6", "RAMB18 (18 kbit)", "DSP48"),
        multiplier=Multiplier(left=left, signed=True),
        geometries=_18_KBIT, lut_rams=lut_rams, block_cost=74,
        synthesis=f"synth_xilinx -family {family} -noiopad -noclkbuf",
        cells={"luts": {"LUT1": 1, "LUT2": 1, "LUT3": 1, "LUT4": 1, "LUT5": 1, "LUT6": 1,
                        "LUT6_2": 1, "INV": 1, "RAM32M": 4, "RAM64M": 4, "RAM32M16": 8,
                        "RAM64M8": 8, "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4,
                        "SRL16E": 1, "SRLC32E": 1},
               "registers": {"FD*": 1},
               "block_ram": {"RAMB18*": 1, "RAMB36*": 2}, "multipliers": {"DSP48*": 1}})


_XC7 = _xilinx("xc7", "lut6-xc7", ((32, 6, 4), (64, 3, 4)), 25)
_XCUP = _xilinx("xcup", "lut6-xcup", ((32, 14, 8), (64, 7, 8), (64, 1, 2)), 27)

DEVICES = {
    "ecp5-25f": Device(
        title="Lattice ECP5 LFE5U-25F, speed grade 6", family=_ECP5,
        luts=24288, registers=24288, block_ram=56, multipliers=28,
        route=Route(tool="ecp5", megahertz=120, arguments=(
            "--25k", "--package", "CABGA381", "--speed", "6", "--router", "router2"))),
    "ecp5-85f": Device(
        title="Lattice ECP5 LFE5U-85F, speed grade 6", family=_ECP5,
        luts=83640, registers=83640, block_ram=208, multipliers=156,
        route=Route(tool="ecp5", megahertz=150, arguments=(
            "--85k", "--package", "CABGA381", "--speed", "6", "--router", "router2"))),
    "lifcl-40": Device(
        title="Lattice CrossLink-NX LIFCL-40, speed grade 9", family=_NEXUS,
        luts=32256, registers=32256, block_ram=84, multipliers=56,
        route=Route(tool="nexus", megahertz=120, arguments=(
            "--device", "LIFCL-40-9BG400C", "--router", "router1"), sites=(
                "L13", "E17", "F13", "G13", "F14", "L16", "L15", "L20", "L19", "R17", "R18",
                "U20", "T20", "W20", "V20", "N14", "M14", "M16", "M15", "N15", "N16"))),
    "gw2a-18": Device(
        title="Gowin GW2A-LV18 (GW2A-18), grade C8/I7", family=_gowin("gw2a"),
        luts=20736, registers=15552, block_ram=46, multipliers=48, rare={"RAM16SDP4": 648},
        route=Route(tool="himbaechel-gowin", megahertz=100, arguments=(
            "--device", "GW2A-LV18PG256C8/I7", "--vopt", "family=GW2A-18"), packer=(
                "-d", "GW2A-18"), sites=(
                "H11", "F12", "F13", "F14", "F15", "F16", "G11", "G12", "G13", "G14", "G15",
                "G16", "H12", "H13", "H14", "H15", "H16", "J14", "J15", "J16", "K11"))),
    "gw5a-25": Device(
        title="Gowin GW5A-LV25 (GW5A-25)", family=_gowin("gw5a"),
        luts=23040, registers=23040, block_ram=56, multipliers=28,
        route=Route(tool="himbaechel-gowin", megahertz=100, arguments=(
            "--device", "GW5A-LV25MG121NC1/I0", "--vopt", "family=GW5A-25A"), packer=(
                "-d", "GW5A-25A"), sites=(
                "F7", "F5", "G5", "G7", "G8", "H7", "H8", "J7", "K6", "K7", "K9", "K10", "K11",
                "L6", "L7", "L8", "L9", "L10", "L11", "D10", "D11"))),
    "gw5ast-138": Device(
        title="Gowin GW5AST-LV138 (GW5AST-138), grade C1/I0", family=_gowin("gw5a"),
        luts=138240, registers=138240, block_ram=340, multipliers=298,
        route=Route(tool="himbaechel-gowin", megahertz=100, arguments=(
            "--device", "GW5AST-LV138FPG676AC1/I0", "--vopt", "family=GW5AST-138C",
            "--placer-heap-beta", "0.25"), packer=(
                "-d", "GW5AST-138C", "--cpu_as_gpio"), sites=(
                "P16", "A17", "A18", "A19", "A20", "B17", "B19", "B20", "B21", "B22", "C17", "C21",
                "C22", "D16", "D21", "D23", "E16", "E21", "E22", "F15", "F17"))),
    "up5k": Device(
        title="Lattice iCE40 UltraPlus UP5K", family=_ICE40,
        luts=5280, registers=5280, block_ram=30, multipliers=8,
        route=Route(tool="ice40", megahertz=30, arguments=("--up5k", "--package", "sg48"))),
    "zynq-7020": Device(
        title="AMD Zynq-7000 XC7Z020", family=_XC7,
        luts=53200, registers=106400, block_ram=280, multipliers=220, part="xc7z020clg400-1"),
    "k26": Device(
        title="AMD Kria K26 (Zynq UltraScale+ XCK26)", family=_XCUP,
        luts=117120, registers=234240, block_ram=288, multipliers=1248, ultra_ram=64,
        part="xck26-sfvc784-2LV-c"),
    "zcu102": Device(
        title="AMD ZCU102 (Zynq UltraScale+ XCZU9EG)", family=_XCUP,
        luts=274080, registers=548160, block_ram=1824, multipliers=2520,
        part="xczu9eg-ffvb1156-2-e"),
    "alveo-u50": Device(
        title="AMD Alveo U50 (Virtex UltraScale+ XCU50)", family=_XCUP,
        luts=871680, registers=1743360, block_ram=2688, multipliers=5952, ultra_ram=640,
        part="xcu50-fsvh2104-2-e"),
}
"""Device name to device."""
