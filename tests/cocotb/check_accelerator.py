"""The whole machine through its AXI ports, as a processor with DMA sees it."""

import os
import random

import cocotb
from bench import AxiLite, collect, send, start
from networks import Network, arch_of

from bivit.hw.blocks.checks import ErrorCode, units_of
from bivit.hw.blocks.registers import ID, LOAD_INDEX_BITS
from bivit.sim.cycles import simulate_cycles

__all__ = ["Host", "NETWORK"]

LOADED = os.environ["BIVIT_WEIGHTS"] == "loaded"
NETWORK = Network.on(arch_of(os.environ["BIVIT_WEIGHTS"]))
PREDICTED = simulate_cycles(NETWORK.program.arch, NETWORK.program.words)
START, RESET = 1, 2
BUSY, DONE, ERROR = 1, 2, 4
IDLE = {f"s_axil_{name}": 0 for name in ("awvalid", "wvalid", "bready", "arvalid", "rready")} | {
    "s_axis_tvalid": 0, "m_axis_tready": 0}


class Host:
    """Registers and streams.

    Parameters
    ----------
    ports : Ports
    p_go : float
        Probability, in each cycle, that a stream goes on; of the registers' channels too.
    """

    def __init__(self, ports, p_go):
        self.ports, self.p_go = ports, p_go
        self.axi = AxiLite(ports, "s_axil_", p_go)
        self.received, self._tasks = [], []

    @classmethod
    async def on(cls, dut, p_go=1.0):
        """Reset the machine; on a `loaded` target fill its memories."""
        host = cls(await start(dut, **IDLE), p_go)
        if LOADED:
            await host.load(NETWORK.packets())
        host.receive()
        return host

    async def load(self, packets):
        """Packets of the constant memories through LOAD_SELECT."""
        for index, packet in enumerate(packets):
            await self.axi.write("LOAD_SELECT", len(packet) << LOAD_INDEX_BITS | index)
            assert await self.axi.read("LOAD_SELECT") == 1 << 31 | index
            await self.offer(packet)
            while await self.axi.read("LOAD_SELECT") >> 31:
                pass

    def offer(self, beats):
        """Begin to offer beats of the input stream."""
        self._tasks.append(cocotb.start_soon(send(self.ports, "s_axis_t", [
            {"data": data, "last": last} for data, last in beats], self.p_go)))
        return self._tasks[-1]

    def receive(self):
        """Begin to take the output stream."""
        self._tasks.append(cocotb.start_soon(collect(
            self.ports, "m_axis_t", self.received, ("data", "last"), self.p_go)))

    def drop_streams(self):
        """Stop both streams where they are."""
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()
        self.received.clear()
        self.ports.set(s_axis_tvalid=0, m_axis_tready=0)

    async def reset(self):
        """Drop what is in flight, and begin again."""
        self.drop_streams()
        await self.axi.write("CTRL", RESET)
        assert await self.axi.read("STATUS") == 0
        assert await self.axi.read("ERROR") == 0
        self.receive()

    async def finish(self):
        """Wait until the machine is not busy; its status."""
        while (status := await self.axi.read("STATUS")) & BUSY:
            pass
        return status

    async def check_frame(self, seed):
        """One image: logits, and cycles against the cycle model."""
        beats, logits = NETWORK.frame(seed)
        sender = self.offer(beats)
        await self.axi.write("CTRL", START)
        assert await self.finish() == DONE
        assert sender.done() and self.received == logits
        self.received.clear()
        cycles = await self.axi.read("CYCLES")
        for unit in units_of(NETWORK.program.arch):
            run, stall, idle = [await self.axi.read(f"{unit.name}_{counter}")
                                for counter in ("RUN", "STALL", "IDLE")]
            assert run + stall + idle == cycles
            assert run >= PREDICTED.busy[unit] and (self.p_go < 1 or run == PREDICTED.busy[unit])
        assert cycles >= PREDICTED.cycles and (self.p_go < 1 or cycles == PREDICTED.cycles)

    async def check_error(self, code, counter=None):
        """The machine stops with `code` (at this program counter), until it is reset."""
        await self.axi.write("CTRL", START)
        assert await self.finish() == ERROR
        error = await self.axi.read("ERROR")
        assert error & 0xFFFF == code.value
        assert counter in (None, error >> 16)
        await self.axi.write("CTRL", START)
        assert await self.axi.read("STATUS") == ERROR
        assert not self.received


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(p_go=[1.0, 0.3, 0.05])
async def frames(dut, p_go):
    host = await Host.on(dut, p_go)
    assert await host.axi.read("ID") == ID
    assert await host.axi.read("VERSION") == 1
    assert await host.axi.read("STATUS") == 0
    for seed in range(2):
        await host.check_frame(seed)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def reset_in_the_middle_of_a_frame(dut):
    host = await Host.on(dut)
    for seed in range(6):
        beats, _ = NETWORK.frame(seed)
        host.offer(beats)
        await host.axi.write("CTRL", START)
        for _ in range(random.randrange(PREDICTED.cycles - 10)):
            await host.ports.edge()
        assert await host.axi.read("STATUS") == BUSY
        await host.reset()
        await host.check_frame(seed + 10)


@cocotb.test(timeout_time=1, timeout_unit="ms")
@cocotb.parametrize(code=[ErrorCode.STREAM_SHORT, ErrorCode.STREAM_LONG], p_go=[1.0, 0.3])
async def frame_of_the_wrong_length(dut, code, p_go):
    host = await Host.on(dut, p_go)
    beats, _ = NETWORK.frame(1)
    if code is ErrorCode.STREAM_SHORT:
        beats = [*beats[:2], (beats[2][0], 1)]
    else:
        beats = [*beats[:-1], (beats[-1][0], 0)]
    host.offer(beats)
    await host.check_error(code)
    await host.reset()
    await host.check_frame(2)
