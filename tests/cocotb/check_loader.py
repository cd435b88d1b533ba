"""The loader of the constant memories: packets of all lengths with random gaps."""

import random

import cocotb
from bench import send, start
from units import ARCH

from bivit.hw.blocks.load import ENDED_EARLY, ENDED_LATE
from bivit.hw.memories import beats_per_word, constant_memories

IDLE = {"select_valid": 0, "s_axis__valid": 0, "clear": 0}


class Loader:
    """Sends packets and keeps what is written."""

    def __init__(self, ports):
        self.ports, self.memories = ports, {name: {} for name in constant_memories(ARCH)}
        cocotb.start_soon(self._watch())

    async def _watch(self):
        while True:
            await self.ports.edge()
            for name, size in constant_memories(ARCH).items():
                if mask := self.ports.get(f"{name}_we"):
                    assert mask == (1 << size.width) - 1
                    self.memories[name][self.ports.get(f"{name}_addr")] = self.ports.get(
                        f"{name}_data")

    async def select(self, index, beats):
        """Give an index and a length; whether the loader is busy then."""
        self.ports.set(select_valid=1, select_index=index, select_beats=beats)
        await self.ports.edge()
        self.ports.set(select_valid=0)
        await self.ports.edge()
        return self.ports.get("busy")

    async def packet(self, index, beats, p_valid=1.0, announced=None):
        """Send one packet, and wait until it is in the memory."""
        assert await self.select(index, len(beats) if announced is None else announced)
        await send(self.ports, "s_axis__", [
            {"payload": beat | int(number == len(beats) - 1) << 32}
            for number, beat in enumerate(beats)], p_valid)
        while self.ports.get("busy"):
            await self.ports.edge()

    async def clear(self):
        """Back to idle."""
        self.ports.set(clear=1)
        await self.ports.edge()
        self.ports.set(clear=0)
        await self.ports.edge()


@cocotb.test(timeout_time=200, timeout_unit="us")
@cocotb.parametrize(p_valid=[1.0, 0.4])
async def words_reach_their_memories(dut, p_valid):
    loader = Loader(await start(dut, "loader__", **IDLE))
    expected = {}
    for index, (name, size) in reversed(list(enumerate(constant_memories(ARCH).items()))):
        words = [random.getrandbits(size.width) for _ in range(min(size.depth, 16))]
        beats = [word >> 32 * beat & 0xFFFFFFFF for word in words
                 for beat in range(beats_per_word(size.width))]
        await loader.packet(index, beats, p_valid)
        expected[name] = dict(enumerate(words))
    assert loader.memories == expected


@cocotb.test(timeout_time=200, timeout_unit="us")
async def incomplete_words_and_words_past_the_end_are_dropped(dut):
    loader = Loader(await start(dut, "loader__", **IDLE))
    size = constant_memories(ARCH)["weight"]
    assert beats_per_word(size.width) == 2
    await loader.packet(1, list(range(2 * size.depth + 3)))
    assert loader.memories["weight"] == {
        address: (2 * address + 1 << 32 | 2 * address) & (1 << size.width) - 1
        for address in range(size.depth)}
    await loader.packet(1, [5, 6, 7])
    assert [loader.memories["weight"][address] for address in (0, 1)] == [6 << 32 | 5, 3 << 32 | 2]


@cocotb.test(timeout_time=50, timeout_unit="us")
async def clear_drops_the_packet(dut):
    loader = Loader(await start(dut, "loader__", **IDLE))
    assert await loader.select(1, 2)
    await send(loader.ports, "s_axis__", [{"payload": 1}])
    await loader.clear()
    assert not loader.ports.get("busy")
    await loader.packet(1, [8, 9])
    assert loader.memories["weight"] == {0: 9 << 32 | 8}


@cocotb.test(timeout_time=50, timeout_unit="us")
@cocotb.parametrize(sent=[1, 3], announced=[0, 4])
async def packets_that_end_early_are_errors(dut, sent, announced):
    loader = Loader(await start(dut, "loader__", **IDLE))
    await loader.packet(1, list(range(sent)), announced=announced)
    assert loader.ports.get("error") == ENDED_EARLY
    assert not await loader.select(1, 2)
    await loader.clear()
    assert not loader.ports.get("error")
    await loader.packet(1, [8, 9])
    assert loader.memories["weight"][0] == 9 << 32 | 8


@cocotb.test(timeout_time=50, timeout_unit="us")
async def packets_that_end_late_are_errors(dut):
    loader = Loader(await start(dut, "loader__", **IDLE))
    assert await loader.select(1, 2)
    await send(loader.ports, "s_axis__", [{"payload": 1}, {"payload": 2}])
    await loader.ports.edge()
    assert loader.ports.get("error") == ENDED_LATE
    assert not loader.ports.get("s_axis__ready") and not await loader.select(1, 2)
    await loader.clear()
    await loader.packet(1, [8, 9])
    assert loader.memories["weight"] == {0: 9 << 32 | 8}
