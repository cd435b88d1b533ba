# amaranth: UnusedElaboratable=no
"""The whole machine in Amaranth's simulator, through its AXI ports."""

import os
import subprocess
import sys

import numpy as np
import pytest
from amaranth.sim import Simulator

from bivit.compiler.ir import numeric
from bivit.hw.accelerator import Accelerator
from bivit.hw.arch import Arch
from bivit.hw.blocks.checks import ErrorCode, units_of
from bivit.hw.blocks.registers import ADDRESSES, ID
from bivit.hw.encoding import encode
from bivit.hw.isa import AddSource, ASource, NumberSource, Opcode
from bivit.hw.memories import beats_per_word, constant_memories, constant_order
from bivit.sim.cycles import simulate_cycles

TOKENS, PIXELS, CHANNELS, SHIFT = 2, 20, 8, 8


def small_arch(*, weights="rom"):
    return Arch(name="test", rows=2, cols=4, lanes=16, tile_rows=1, tile_cols=2, post_rows=1,
                weights=weights, queue_depth=2, score_tiles=4, program_depth=16, weight_depth=16,
                thr_depth=4, scale_depth=8, norm_depth=4, pos_depth=4, imem_depth=32,
                xmem_depth=8, hmem_depth=8, pmem_depth=4, bmem_depth=8, pv_depth=4, resid_depth=16,
                bend_depth=4, bias_depth=4, kmem_depth=4, vmem_depth=16, sums_depth=4)


class Network:
    """Pixels to numbers, LayerNorm to bits, a binary layer with a bend, a skip and LayerNorm."""

    def __init__(self, arch, *, seed=1):
        rng = np.random.default_rng(seed)
        self.arch = arch
        self.codes = rng.integers(0, 4, (CHANNELS, PIXELS))  # 2 planes: -3, -1, 1, 3
        self.bits = rng.integers(0, 2, (CHANNELS, CHANNELS))
        self.scale = rng.integers(-300, 300, (3, CHANNELS))
        self.bias = rng.integers(-5000, 5000, (3, CHANNELS))
        self.bend = rng.integers(-99, 99, (5, CHANNELS))
        self.limit = rng.integers(-2000, 2000, CHANNELS)
        self.kind = rng.integers(0, 4, CHANNELS)
        self.pixels = rng.integers(0, 256, (TOKENS, PIXELS))

    def logits(self):
        """What NumPy computes."""
        dot = (2 * self.pixels - 255) @ (2 * self.codes - 3).T
        x = numeric.saturate(numeric.rescale(dot, self.scale[0], self.bias[0], SHIFT), 16)
        bits = numeric.normalise_to_bits(x, self.limit, self.kind, 7)
        dot = (2 * bits - 1) @ (2 * self.bits - 1).T
        y = numeric.rescale(dot, self.scale[1], self.bias[1], SHIFT)
        knee, *pieces = self.bend
        y = numeric.bend(numeric.saturate(y, 16), knee, pieces[:2], pieces[2:], SHIFT)
        return numeric.normalise_to_numbers(
            numeric.saturate(y + x, 16), self.scale[2], self.bias[2], SHIFT, 5, 16).tolist()

    def contents(self):
        """Words of the constant memories."""
        tiles, lanes = CHANNELS // self.arch.cols, self.arch.lanes
        weight = []
        for tile in range(tiles):
            for plane in range(2):
                rows = self.codes[tile * self.arch.cols:][:self.arch.cols] >> plane & 1
                rows = np.pad(rows, ((0, 0), (0, 2 * lanes - PIXELS)))
                weight += [_pack(rows[:, k * lanes:][:, :lanes].ravel(), 1) for k in range(2)]
        for tile in range(tiles):
            rows = self.bits[tile * self.arch.cols:][:self.arch.cols]
            weight.append(_pack(np.pad(rows, ((0, 0), (0, lanes - CHANNELS))).ravel(), 1))
        scale = [self._parameters(self.scale[layer], self.bias[layer], tile)
                 for layer in range(2) for tile in range(tiles)]
        norm = [self._parameters(self.limit, self.kind, tile) for tile in range(tiles)]
        norm += [self._parameters(self.scale[2], self.bias[2], tile) for tile in range(tiles)]
        bend = [_pack([_fields(column, (16, 16, 24, 16, 24)) for column in self._tile(
            self.bend.T, tile)], 96) for tile in range(tiles)]
        return {"weight": weight, "scale": scale, "norm": norm, "bend": bend,
                "program": self.program()}

    def _tile(self, numbers, tile):
        return numbers[tile * self.arch.cols:][:self.arch.cols]

    def _parameters(self, low, high, tile):
        pairs = zip(self._tile(low, tile), self._tile(high, tile), strict=True)
        return _pack([_fields(pair, (16, 24)) for pair in pairs], 40)

    def program(self):
        """Three units, each waiting for the one before."""
        common = {"n_tiles": 2, "row_hi": TOKENS, "sat": 16, "shift": 0}
        return [
            encode(Opcode.LOAD, tokens=TOKENS, pixels=PIXELS, k_words=2, last=1),
            encode(Opcode.MM_ACC, wait_load=1, a_src=ASource.IMEM, k_words=2, a_planes=8,
                   b_planes=2, base=PIXELS * 255 * 3, **common),
            encode(Opcode.NORM_BITS, wait_mm=1, n_tiles=2, channels=CHANNELS, span=CHANNELS,
                   groups=self.arch.drain_cycles, eps=7),
            encode(Opcode.MM_ACC, wait_vec=1, a_src=ASource.XMEM, b_addr=8, k_words=1, a_planes=1,
                   b_planes=1, param_addr=2, base=CHANNELS, bend=1, add2_src=AddSource.RESID,
                   dst_addr=8, **common),
            encode(Opcode.NORM_NUMBERS, wait_mm=1, src_addr=8, n_tiles=2, channels=CHANNELS,
                   span=CHANNELS, groups=self.arch.drain_cycles, eps=5, param_addr=2, sat=16),
            *(encode(Opcode.OUTPUT, src=NumberSource.VMEM, row=row, count=CHANNELS)
              for row in range(TOKENS)),
            encode(Opcode.HALT),
        ]

    def beats(self):
        """The input stream: (data, last)."""
        values = self.pixels.astype(np.uint8).view("<u4").ravel().tolist()
        return [(value, index == len(values) - 1) for index, value in enumerate(values)]


def _fields(numbers, widths):
    """Signed numbers of different widths behind each other."""
    word, position = 0, 0
    for number, width in zip(numbers, widths, strict=True):
        word |= int(number) % (1 << width) << position
        position += width
    return word


def _pack(numbers, bits):
    return sum(int(number) << index * bits for index, number in enumerate(numbers))


class Host:
    """What a processor does with the ports, in an Amaranth testbench."""

    def __init__(self, ctx, dut):
        self.ctx, self.dut = ctx, dut

    async def write(self, name, value):
        ctx, dut = self.ctx, self.dut
        for port, number in (("awaddr", ADDRESSES[name]), ("wdata", value), ("wstrb", 15),
                             ("awvalid", 1), ("wvalid", 1), ("bready", 1)):
            ctx.set(getattr(dut, f"s_axil_{port}"), number)
        await ctx.tick().until(dut.s_axil_awready & dut.s_axil_wready)
        ctx.set(dut.s_axil_awvalid, 0)
        ctx.set(dut.s_axil_wvalid, 0)
        await ctx.tick().until(dut.s_axil_bvalid)

    async def read(self, name):
        ctx, dut = self.ctx, self.dut
        ctx.set(dut.s_axil_araddr, ADDRESSES[name])
        ctx.set(dut.s_axil_arvalid, 1)
        ctx.set(dut.s_axil_rready, 1)
        await ctx.tick().until(dut.s_axil_arready)
        ctx.set(dut.s_axil_arvalid, 0)
        value, = await ctx.tick().sample(dut.s_axil_rdata).until(dut.s_axil_rvalid)
        return value

    async def finish(self, *, limit=3000):
        """Wait until the machine is not busy; the status."""
        for _ in range(limit):
            if not (status := await self.read("STATUS")) & 1:
                return status
        raise AssertionError("the machine is still busy")

    async def send(self, beats):
        """Run as a testbench of its own: offer the beats, always valid."""
        for value, last in beats:
            self.ctx.set(self.dut.s_axis_tdata, value)
            self.ctx.set(self.dut.s_axis_tlast, last)
            self.ctx.set(self.dut.s_axis_tvalid, 1)
            ready = False
            while not ready:
                _, _, ready = await self.ctx.tick().sample(self.dut.s_axis_tready)
            self.ctx.set(self.dut.s_axis_tvalid, 0)


def simulate(dut, script, beats):
    """Run `script(host)` while `beats` are offered and the output is collected."""
    received = []

    async def sender(ctx):
        await Host(ctx, dut).send(beats)

    async def receiver(ctx):
        ctx.set(dut.m_axis_tready, 1)
        async for _, _, valid, value, last in ctx.tick().sample(
                dut.m_axis_tvalid, dut.m_axis_tdata, dut.m_axis_tlast):
            if valid:
                received.append((value - (value >> 31 << 32), last))

    async def host(ctx):
        await script(Host(ctx, dut))

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(sender, background=True)
    simulator.add_testbench(receiver, background=True)
    simulator.add_testbench(host)
    simulator.run()
    return received


def expected_output(network):
    return [(value, index == CHANNELS - 1) for row in network.logits()
            for index, value in enumerate(row)]


async def check_run(host, network):
    """Start, wait, compare the counters with the cycle model."""
    await host.write("CTRL", 1)
    assert await host.finish() == 2
    assert await host.read("ERROR") == 0
    report = simulate_cycles(network.arch, network.program())
    assert await host.read("CYCLES") == report.cycles
    for unit in units_of(network.arch):
        counts = [await host.read(f"{unit.name}_{counter}") for counter in ("RUN", "STALL", "IDLE")]
        assert counts[0] == report.busy[unit]
        assert sum(counts) == report.cycles


def test_rom_target_runs_twice():
    network = Network(small_arch())

    async def script(host):
        assert await host.read("ID") == ID
        assert await host.read("VERSION") == 1
        assert await host.read("STATUS") == 0
        await check_run(host, network)
        await check_run(host, network)

    received = simulate(Accelerator(network.arch, network.contents()), script,
                        network.beats() * 2)
    assert received == expected_output(network) * 2


def packets_of(network):
    """Beats of the packet of each constant memory, by its number."""
    contents, packets = network.contents(), {}
    for name, (width, _) in constant_memories(network.arch).items():
        beats = [word >> 32 * beat & 0xFFFFFFFF for word in contents.get(name, [0])
                 for beat in range(beats_per_word(width))]
        packets[constant_order.index(name)] = [
            (beat, index == len(beats) - 1) for index, beat in enumerate(beats)]
    return packets


async def load(host, number, beats):
    """Have a packet taken."""
    await host.write("LOAD_SELECT", beats << 4 | number)
    for _ in range(500):
        if not await host.read("LOAD_SELECT") >> 31:
            return
    raise AssertionError("the packet was not taken")


def test_loaded_target():
    network = Network(small_arch(weights="loaded"))
    packets = packets_of(network)

    async def script(host):
        for number, packet in packets.items():
            await load(host, number, len(packet))
        await check_run(host, network)

    received = simulate(Accelerator(network.arch), script,
                        sum(packets.values(), []) + network.beats())
    assert received == expected_output(network)


@pytest.mark.parametrize("announced, beats, code", [
    (30, 29, ErrorCode.STREAM_SHORT), (30, 31, ErrorCode.STREAM_LONG)])
def test_packets_of_another_length(announced, beats, code):
    """An error, nothing starts and nothing is loaded until a reset; then all is as ever."""
    network = Network(small_arch(weights="loaded"))
    packets = packets_of(network)
    taken = min(announced, beats)  # the rest of it is not
    broken = [(index, index == beats - 1) for index in range(taken)]

    async def script(host):
        await load(host, 1, announced)
        assert await host.read("STATUS") == 4
        assert await host.read("ERROR") == code.value
        await host.write("CTRL", 1)
        await load(host, 1, announced)
        assert await host.read("STATUS") == 4
        await host.write("CTRL", 2)
        assert await host.read("STATUS") == 0
        for number, packet in packets.items():
            await load(host, number, len(packet))
        await check_run(host, network)

    received = simulate(Accelerator(network.arch), script,
                        broken + sum(packets.values(), []) + network.beats())
    assert received == expected_output(network)


@pytest.mark.parametrize("change, code", [("early", ErrorCode.STREAM_SHORT),
                                          ("late", ErrorCode.STREAM_LONG)])
def test_stream_errors_and_reset(change, code):
    """After a broken frame and a reset, the next frame runs as if nothing had been."""
    network = Network(small_arch())
    broken = network.beats()
    if change == "early":
        broken = [*broken[:3], (broken[3][0], True)]
    else:
        broken = [*broken[:-1], (broken[-1][0], False)]

    async def script(host):
        await host.write("CTRL", 1)
        assert await host.finish() == 4
        assert await host.read("ERROR") == code.value
        await host.write("CTRL", 1)
        assert await host.read("STATUS") == 4
        await host.write("CTRL", 2)
        assert await host.read("STATUS") == 0
        assert await host.read("ERROR") == 0
        await check_run(host, network)

    received = simulate(Accelerator(network.arch, network.contents()), script,
                        broken + network.beats())
    assert received == expected_output(network)


def test_program_error_has_its_counter():
    network = Network(small_arch())
    contents = network.contents() | {"program": [*network.program()[:2], 0]}

    async def script(host):
        await host.write("CTRL", 1)
        assert await host.finish() == 4
        assert await host.read("ERROR") == 2 << 16 | ErrorCode.OPCODE.value

    simulate(Accelerator(network.arch, contents), script, network.beats())


def test_verilog_depends_on_the_target_alone():
    """Nor on the order of sets, which differs between processes."""
    for arch in (small_arch(weights="streamed"), small_arch()):
        program = (f"from bivit.hw.accelerator import accelerator_verilog\n"
                   f"from bivit.hw.arch import Arch\nprint(accelerator_verilog({arch!r}))")
        first, second = (subprocess.run(
            [sys.executable, "-c", program], text=True, check=True, capture_output=True,
            env=os.environ | {"PYTHONHASHSEED": seed}).stdout for seed in ("1", "2"))
        assert first == second
    assert "module accelerator(" in first
    for name in ("obs_post_tag", "obs_mm_pop", "obs_vec_done", "obs_load_pop_tag", "hmem_we",
                 "bmem_addr", "resid_data", "pmem_we", "xmem_data", "vmem_addr", "kmem_we"):
        assert f" {name};" in first
