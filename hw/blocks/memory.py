"""Memories: hand-written Verilog for synthesis and fast simulation, and their Amaranth twins.

Reads take ``MEM_LATENCY`` cycles, array and output register, and are always on. A read in the cycle
of a write to the same address gives anything: in Verilator the complement, in Amaranth's simulator
the old word.
"""

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bivit.hw.emit import Primitive
from bivit.hw.memories import address_bits

__all__ = ["Ram", "Rom"]

RAM_TEXT = """
// Memory with one write port, an enable for each GRANULARITY bits, and READ_PORTS read ports of
// latency 2.
module bivit_ram #(
  parameter WIDTH = 8,
  parameter DEPTH = 16,
  parameter ADDRESS_BITS = 4,
  parameter GRANULARITY = 8,
  parameter READ_PORTS = 1
) (
  input clk,
  input [WIDTH/GRANULARITY-1:0] we,
  input [ADDRESS_BITS-1:0] write_addr,
  input [WIDTH-1:0] write_data,
  input [READ_PORTS*ADDRESS_BITS-1:0] read_addr,
  output [READ_PORTS*WIDTH-1:0] read_data
);
  wire [WIDTH-1:0] mask;
  genvar index;
  genvar port;
  generate
    for (index = 0; index < WIDTH / GRANULARITY; index = index + 1) begin : piece
      assign mask[index*GRANULARITY +: GRANULARITY] = {GRANULARITY{we[index]}};
    end
    for (port = 0; port < READ_PORTS; port = port + 1) begin : copy
      wire [ADDRESS_BITS-1:0] address = read_addr[port*ADDRESS_BITS +: ADDRESS_BITS];
      (* no_rw_check *) reg [WIDTH-1:0] words [0:DEPTH-1];
      reg [WIDTH-1:0] word;
      reg [WIDTH-1:0] out;
`ifdef VERILATOR
      always @(posedge clk) begin
        if (|we) words[write_addr] <= (words[write_addr] & ~mask) | (write_data & mask);
        word <= |we && address == write_addr ? ~words[address] : words[address];
      end
`elsif YOSYS
      // One port, whose enables Yosys finds in the feedback: a port each takes it minutes.
      wire [WIDTH-1:0] before = words[write_addr];
      wire [WIDTH-1:0] after;
      for (index = 0; index < WIDTH; index = index + 1) begin : bit_of
        assign after[index] = mask[index] ? write_data[index] : before[index];
      end
      always @(posedge clk) begin
        words[write_addr] <= after;
        word <= words[address];
      end
`else
      integer part;
      always @(posedge clk) begin
        for (part = 0; part < WIDTH / GRANULARITY; part = part + 1)
          if (we[part])
            words[write_addr][part*GRANULARITY +: GRANULARITY]
              <= write_data[part*GRANULARITY +: GRANULARITY];
        word <= words[address];
      end
`endif
      always @(posedge clk) out <= word;
      assign read_data[port*WIDTH +: WIDTH] = out;
    end
  endgenerate
endmodule
"""

ROM_TEXT = """
// Memory of constants with one read port of latency 2. INIT_FILE holds a word a line, in
// hexadecimal; simulators look for it below the folder of the plusarg bivit_folder.
module bivit_rom #(
  parameter WIDTH = 8,
  parameter DEPTH = 16,
  parameter ADDRESS_BITS = 4,
  parameter INIT_FILE = ""
) (
  input clk,
  input [ADDRESS_BITS-1:0] read_addr,
  output [WIDTH-1:0] read_data
);
  reg [WIDTH-1:0] words [0:DEPTH-1];
  reg [WIDTH-1:0] word;
  reg [WIDTH-1:0] out;
`ifdef SYNTHESIS
  generate
    if (INIT_FILE != "") initial $readmemh(INIT_FILE, words);
  endgenerate
`else
  initial begin : contents
    string folder;
    if ($value$plusargs("bivit_folder=%s", folder)) $readmemh({folder, "/", INIT_FILE}, words);
    else $readmemh(INIT_FILE, words);
  end
`endif
  always @(posedge clk) begin
    word <= words[read_addr];
    out <= word;
  end
  assign read_data = out;
endmodule
"""


class Ram(wiring.Component):
    """Memory with one write port and any number of read ports.

    Parameters
    ----------
    width, depth : int
        Bits of a word, number of words.
    granularity : int
        Bits that are written together; a divisor of `width`.
    read_ports : int

    Members
    -------
    we : ``In(width // granularity)``
        Which parts to write.
    write_addr : ``In(address_bits)``
    write_data : ``In(width)``
    read_addr : ``In(ArrayLayout(address_bits, read_ports))``
    read_data : ``Out(ArrayLayout(width, read_ports))``
        Two cycles after its address.
    """

    def __init__(self, *, width: int, depth: int, granularity: int, read_ports: int = 1):
        self.width, self.depth, self.read_ports = width, depth, read_ports
        self.granularity = granularity
        bits = address_bits(depth)
        super().__init__({
            "we": In(width // granularity),
            "write_addr": In(bits),
            "write_data": In(width),
            "read_addr": In(data.ArrayLayout(unsigned(bits), read_ports)),
            "read_data": Out(data.ArrayLayout(unsigned(width), read_ports)),
        })

    def verilog_primitive(self) -> Primitive:
        """The module ``bivit_ram``."""
        return Primitive(module="bivit_ram", text=RAM_TEXT, parameters={
            "WIDTH": self.width, "DEPTH": self.depth, "ADDRESS_BITS": address_bits(self.depth),
            "GRANULARITY": self.granularity, "READ_PORTS": self.read_ports})

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=unsigned(self.width), depth=self.depth, init=[])
        write = memory.write_port(granularity=self.granularity)
        m.d.comb += [write.en.eq(self.we), write.addr.eq(self.write_addr),
                     write.data.eq(self.write_data)]
        for port in range(self.read_ports):
            read = memory.read_port()
            word = Signal(self.width, name=f"out_{port}", reset_less=True)
            m.d.comb += [read.addr.eq(self.read_addr[port]), self.read_data[port].eq(word)]
            m.d.sync += word.eq(read.data)
        return m


class Rom(wiring.Component):
    """Memory of constants with one read port.

    Parameters
    ----------
    width, depth : int
        Bits of a word, number of words.
    file : str
        File of the contents, relative to the build folder, for Verilog.
    init : sequence of int
        Contents in Amaranth's simulator.

    Members
    -------
    read_addr : ``In(address_bits)``
    read_data : ``Out(width)``
        Two cycles after its address.
    """

    def __init__(self, *, width: int, depth: int, file: str, init=()):
        self.width, self.depth, self.file, self.init = width, depth, file, init
        super().__init__({"read_addr": In(address_bits(depth)), "read_data": Out(width)})

    def verilog_primitive(self) -> Primitive:
        """The module ``bivit_rom``."""
        return Primitive(module="bivit_rom", text=ROM_TEXT, parameters={
            "WIDTH": self.width, "DEPTH": self.depth, "ADDRESS_BITS": address_bits(self.depth),
            "INIT_FILE": self.file})

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=unsigned(self.width), depth=self.depth,
                                              init=self.init)
        read = memory.read_port()
        word = Signal(self.width, name="out", reset_less=True)
        m.d.comb += [read.addr.eq(self.read_addr), self.read_data.eq(word)]
        m.d.sync += word.eq(read.data)
        return m
