"""Blocks become Verilog modules, equal blocks one module."""

import re

import pytest
from amaranth.hdl import C, Cat, Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from bivit.hw.emit import emit, place

PAIR = data.StructLayout({"a": 8, "b": 2})


class Adder(wiring.Component):
    """Adds the two halves of a stream of pairs."""

    def __init__(self, *, width):
        self.width = width
        super().__init__({"i": In(stream.Signature(PAIR)), "o": Out(stream.Signature(width))})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.i.ready.eq(~self.o.valid | self.o.ready)
        with m.If(self.i.ready):
            m.d.sync += self.o.valid.eq(self.i.valid)
            m.d.sync += self.o.payload.eq(self.i.payload.a + self.i.payload.b)
        return m


class Inverter(wiring.Component):
    """Has no clock."""

    i: In(8)
    o: Out(8)

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.o.eq(~self.i)
        return m


class Parent(wiring.Component):
    """Many equal adders, one wider one."""

    def __init__(self, *, count):
        self.count = count
        super().__init__({"i": In(8), "o": Out(8), "restart": In(1)})

    def elaborate(self, platform):
        m = Module()
        total = 0
        for index in range(self.count):
            width = 9 if index == self.count - 1 else 8
            adder = place(m, platform, f"adder{index}", Adder(width=width), reset=self.restart)
            m.d.comb += [adder.i.payload.a.eq(self.i), adder.i.payload.b.eq(index),
                         adder.i.valid.eq(1), adder.o.ready.eq(1)]
            total ^= adder.o.payload
        inverter = place(m, platform, "inverter", Inverter())
        m.d.comb += [inverter.i.eq(total), self.o.eq(inverter.o)]
        return m


class Forgetful(wiring.Component):
    """Does not keep its parameter."""

    def __init__(self, *, width):
        super().__init__({"o": Out(width)})

    def elaborate(self, platform):
        return Module()


class BadParent(wiring.Component):
    """Places a block that cannot be told from others."""

    o: Out(1)

    def elaborate(self, platform):
        m = Module()
        place(m, platform, "bad", Forgetful(width=1))
        return m


def test_equal_blocks_are_one_module():
    text = emit(Parent(count=257), "top")
    assert re.findall(r"(?m)^module (\S+)\(", text) == [
        "top", "bivit_adder", "bivit_adder_2", "bivit_inverter"]
    assert len(re.findall(r"(?m)^  bivit_adder adder\d+ \(", text)) == 256
    assert len(re.findall(r"(?m)^  bivit_adder_2 adder256 \(", text)) == 1


def test_text_is_readable_and_reproducible():
    text = emit(Parent(count=3), "top")
    assert text == emit(Parent(count=3), "top")
    assert ".i__payload(adder0__i__payload)" in text and ".rst(" in text
    assert "// Adder(width=8)\nmodule bivit_adder(" in text
    assert "\\" not in text and "Yosys" not in text and "(*" not in text


def test_parameters_must_be_kept():
    with pytest.raises(TypeError, match="Forgetful must keep its constructor parameter 'width'"):
        emit(BadParent(), "top")


def test_simulates_as_itself():
    parent = Parent(count=2)

    async def bench(ctx):
        ctx.set(parent.i, 5)
        await ctx.tick().repeat(2)
        assert ctx.get(parent.o) == 0xFF ^ 5 ^ 6
        ctx.set(parent.restart, 1)
        await ctx.tick().repeat(1)
        assert ctx.get(parent.o) == 0xFF

    simulator = Simulator(parent)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


class Repeater(wiring.Component):
    """A sign, a mask and a shuffle."""

    i: In(8)
    o: Out(40)

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.o.eq(Cat(self.i[6:8].as_signed().replicate(2), self.i[2], self.i,
                                  self.i[7].replicate(9), self.i[3:5].replicate(2), self.i[1:4],
                                  self.i[0].replicate(3), C(5, 3)))
        return m


def test_repeated_bits_are_replications():
    assert ("assign o = { 8'h05, {3{i[0]}}, i[3:1], i[4:3], i[4:3], {9{i[7]}}, i, i[2], i[7:6], "
            "i[7:6] };") in emit(Repeater(), "top")
