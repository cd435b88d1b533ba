"""Inside the simulator: clock and reset, drivers, monitors and memories for the ports of a unit.

After a rising edge, reads give the cycle that ends, and writes count for the one that begins.
"""

import random

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

from bivit.hw.blocks.registers import ADDRESSES
from bivit.hw.encoding import encode
from bivit.hw.isa import INSTR_BITS
from post_model import unpack

__all__ = ["AxiLite", "Memory", "Ports", "apply_write", "collect", "instructions", "masked", "send",
           "start"]

OKAY = 0


class Ports:
    """The ports of the top that begin with `prefix`, by the rest of their names.

    Parameters
    ----------
    dut : handle of the top
    prefix : str
    """

    def __init__(self, dut, prefix=""):
        self._dut, self._prefix, self._handles = dut, prefix, {}
        self.clk = dut.clk

    def __getitem__(self, name):
        if name not in self._handles:
            self._handles[name] = getattr(self._dut, self._prefix + name)
        return self._handles[name]

    def get(self, name) -> int:
        """Value of a port."""
        return int(self[name].value)

    def set(self, **values):
        """Drive ports."""
        for name, value in values.items():
            self[name].value = int(value)

    async def edge(self):
        """Wait for the end of the cycle."""
        await RisingEdge(self.clk)


async def start(dut, prefix="", **values) -> Ports:
    """Start the clock, drive `values`, reset for two cycles."""
    Clock(dut.clk, 10, unit="ns").start()
    ports = Ports(dut, prefix)
    ports.set(**values)
    dut.rst.value = 1
    await ports.edge()
    await ports.edge()
    dut.rst.value = 0
    await ports.edge()
    return ports


def apply_write(ports, memory, mask, address, word, width=1) -> bool:
    """Apply a write port to an array of words, each an array of numbers of `width` bits.

    Numbers of more than one bit are signed. Returns whether there was a write.
    """
    enables = ports.get(mask)
    if enables:
        old = memory[ports.get(address)]
        chosen, numbers = (unpack(value, old.size, width).reshape(old.shape)
                           for value in (enables, ports.get(word)))
        assert set(chosen.ravel()) <= {0, (1 << width) - 1}
        if width > 1:
            numbers -= numbers >> (width - 1) << width
        old[:] = np.where(chosen > 0, numbers, old)
    return enables != 0


def masked(old, mask, word):
    """`old` after a write of `word` under a bit mask."""
    return old & ~mask | word & mask


class Memory:
    """A memory with one write port and reads of latency 2; a read sees no write of its cycle.

    Parameters
    ----------
    ports : Ports
    words : callable (address) or dict
        Contents; a dict is written to and reads 0 where it has no word.
    reads : list of (address port, data port)
    write : tuple (mask port, address port, data port), optional
    """

    def __init__(self, ports, words, reads, write=None):
        self._ports, self._reads, self._write = ports, reads, write
        self._words = words
        self._word = words if callable(words) else lambda address: words.get(address, 0)
        cocotb.start_soon(self._serve())

    async def _serve(self):
        ports, arriving = self._ports, [0] * len(self._reads)
        while True:
            await ports.edge()
            for index, (address, data) in enumerate(self._reads):
                ports.set(**{data: arriving[index]})
                arriving[index] = self._word(ports.get(address))
            if self._write and (mask := ports.get(self._write[0])):
                address, word = ports.get(self._write[1]), ports.get(self._write[2])
                self._words[address] = masked(self._words.get(address, 0), mask, word)


async def send(ports, stream, payloads, p_valid=1.0):
    """Offer `payloads` (dicts of port to value, without the stream's name) one after the other."""
    ready, valid = f"{stream}ready", f"{stream}valid"
    for payload in payloads:
        while random.random() >= p_valid:
            await ports.edge()
        ports.set(**{valid: 1}, **{f"{stream}{name}": value for name, value in payload.items()})
        await ports.edge()
        while not ports.get(ready):
            await ports.edge()
        ports.set(**{valid: 0})


def instructions(program, tag=0):
    """Payloads of an instruction stream for (opcode, fields) pairs; tags count from `tag`."""
    return [{"payload": encode(opcode, **fields) | (tag + index) << INSTR_BITS}
            for index, (opcode, fields) in enumerate(program)]


async def collect(ports, stream, received, names=("payload",), p_ready=1.0):
    """Take beats for ever into the list `received`, as tuples of the ports `names`."""
    ready, valid = f"{stream}ready", f"{stream}valid"
    held = None
    while True:
        ports.set(**{ready: random.random() < p_ready})
        await ports.edge()
        if ports.get(valid):
            beat = tuple(ports.get(f"{stream}{name}") for name in names)
            assert held in (None, beat), "a beat changed before it was taken"
            held = beat
            if ports.get(ready):
                received.append(beat)
                held = None
        else:
            assert held is None, "a beat was withdrawn"


class AxiLite:
    """A master whose channels stall at random.

    Parameters
    ----------
    ports : Ports
    p_go : float
        Probability, in each cycle, that a channel goes on.
    """

    def __init__(self, ports, prefix, p_go=1.0):
        self._ports, self._prefix, self._p_go = ports, prefix, p_go

    async def write(self, name, value, strobes=15) -> None:
        """Write a register: address and data in any order."""
        address = cocotb.start_soon(self._hand_over("aw", awaddr=_address(name)))
        data = cocotb.start_soon(self._hand_over("w", wdata=value, wstrb=strobes))
        await address
        await data
        assert await self._take("b", "bresp") == (OKAY,)

    async def read(self, name) -> int:
        """Value of a register, by its name or its byte address."""
        await self._hand_over("ar", araddr=_address(name))
        value, answer = await self._take("r", "rdata", "rresp")
        assert answer == OKAY
        return value

    async def _hand_over(self, channel, **values):
        values = {name.removeprefix(channel): value for name, value in values.items()}
        await send(self._ports, f"{self._prefix}{channel}", [values], self._p_go)

    async def _take(self, channel, *names):
        names = [name.removeprefix(channel) for name in names]
        received = []
        task = cocotb.start_soon(collect(self._ports, f"{self._prefix}{channel}", received,
                                         names, self._p_go))
        while not received:
            await self._ports.edge()
        task.cancel()
        self._ports.set(**{f"{self._prefix}{channel}ready": 0})
        return received[0]


def _address(name):
    return ADDRESSES[name] if isinstance(name, str) else name
