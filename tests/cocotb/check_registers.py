"""The registers through AXI4-Lite, with random stalls on every channel."""

import random

import cocotb
from bench import AxiLite, start

from bivit.hw.blocks.registers import ADDRESSES, ID
from bivit.hw.isa import Unit
from bivit.hw.memories import constant_order

CHANNELS = {f"s_axil__{name}": 0 for name in ("awvalid", "wvalid", "bready", "arvalid", "rready")}


async def watch(ports, pulses):
    """Append (name, number) for each pulse to `pulses`."""
    while True:
        await ports.edge()
        for name in ("start", "reset", "load"):
            if ports.get(name):
                values = tuple(map(ports.get, ("load_select", "load_beats")))
                pulses.append((name, values if name == "load" else None))


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(p_go=[1.0, 0.3])
async def registers_show_the_machine(dut, p_go):
    ports = await start(dut, "registers__", **CHANNELS)
    state = {name: random.getrandbits(32) for name in (
        "cycles", *(f"{kind}__{unit}" for kind in ("run", "stall", "idle") for unit in Unit))}
    ports.set(busy=1, finished=0, error_code=6, error_tag=0xABCD, load_busy=1, **state)
    expected = {"ID": ID, "VERSION": 1, "CTRL": 0, "STATUS": 0b101, "ERROR": 0xABCD0006,
                "CYCLES": state["cycles"], "LOAD_SELECT": 1 << 31, "FRAMES": 1,
                "MEMORY_BASE": 0}
    expected |= {f"{unit.name}_{kind.upper()}": state[f"{kind}__{unit}"]
                 for kind in ("run", "stall", "idle") for unit in Unit}
    assert set(expected) == set(ADDRESSES)
    axi = AxiLite(ports, "s_axil__", p_go)
    for name in random.sample(sorted(expected), len(expected)):
        assert await axi.read(name) == expected[name], name
    for address in (0x5C, 0x60, 0xFC):
        assert await axi.read(address) == 0
    ports.set(busy=0, finished=1, error_code=0)
    assert await axi.read("STATUS") == 0b010
    await axi.write("FRAMES", 0x12345)
    assert await axi.read("FRAMES") == ports.get("frames") == 0x2345


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(p_go=[1.0, 0.3])
async def writes_give_pulses_while_reads_go_on(dut, p_go):
    ports = await start(dut, "registers__", load_busy=0, **CHANNELS)
    axi, pulses, expected = AxiLite(ports, "s_axil__", p_go), [], []
    cocotb.start_soon(watch(ports, pulses))

    async def read():
        for _ in range(30):
            assert await axi.read("ID") == ID

    reader = cocotb.start_soon(read())
    for _ in range(30):
        memory = random.choice([*range(len(constant_order)), len(constant_order), 15])
        beats = random.getrandbits(28)
        name, value = random.choice([("CTRL", 1), ("CTRL", 2), ("CTRL", 3), ("ID", 1),
                                     ("LOAD_SELECT", beats << 4 | memory), ("CYCLES", 2)])
        strobes = random.choice([15, 15, 1, 0])
        await axi.write(name, value, strobes)
        if name == "LOAD_SELECT" and strobes and memory < len(constant_order):
            expected.append(("load", (memory, beats)))
        elif name == "CTRL" and value < 3 and strobes:
            expected.append(("start" if value == 1 else "reset", None))
    await reader
    await ports.edge()
    assert pulses == expected
