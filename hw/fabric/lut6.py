"""Dot-product unit on LUT6 with carry chains: XNOR and full adder of two lanes in one LUT.

See ``docs/popcount.md``. Lanes are counted in blocks, the counts of the blocks are added three or
two at a time. A place of a slice puts out one LUT output and one of carry, sum or the LUT's other
output, so that a carry which leaves a chain takes a place of its own.
"""

import dataclasses
import functools
import itertools

from amaranth.utils import bits_for

from bivit.hw.fabric.netlist import Delay, Netlist, Sum, Unit, concatenation

__all__ = ["XC7", "XCUP", "CarryCell", "netlist", "places", "unit"]

BLOCK = 13
"""Lanes of a block: those whose seven carries a pair of carry cells counts."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CarryCell:
    """A carry cell: its primitive, its places and the port that a chain begins with."""

    kind: str
    places: int


XC7 = CarryCell(kind="CARRY4", places=4)
XCUP = CarryCell(kind="CARRY8", places=8)


# ---- what is added when -----------------------------------------------------------------------


def unit(*, lanes: int, stages: int, count_bits: int, cell: CarryCell) -> Unit:
    """Blocks, then adders; three at a time only where a register follows."""
    sizes = _blocks(lanes)
    levels = _levels(tuple(sizes), stages)
    spare = stages - levels.count(3)
    steps, low, numbers = [], 0, []
    for size in sizes:
        steps.append(Sum(name=f"count_{low}_{size}", width=bits_for(size),
                         lanes=tuple(range(low, low + size))))
        numbers.append((steps[-1].name, size))
        low += size

    def register():
        for index, (name, most) in enumerate(numbers):
            steps.append(Delay(name=f"{name}_later", width=bits_for(most), source=name))
            numbers[index] = (f"{name}_later", most)

    after = _spread(levels, spare)
    for _ in range(after[0]):
        register()
    for level, (terms, registers) in enumerate(zip(levels, after[1:], strict=True)):
        groups, numbers = _groups(numbers, terms), []
        for index, group in enumerate(groups):
            most = sum(each for _, each in group)
            if len(group) > 1:
                steps.append(Sum(name=f"sum_{level}_{index}", width=bits_for(most),
                                 terms=tuple(name for name, _ in group)))
                numbers.append((steps[-1].name, most))
            else:
                numbers += group
        for _ in range(registers + (terms == 3)):
            register()
    total = Sum(name="total", width=count_bits, terms=(numbers[0][0],))
    return Unit(lanes=lanes, stages=stages, count_bits=count_bits, steps=tuple(steps),
                total=total, late=(0,) * lanes)


def _blocks(lanes):
    """Sizes of the blocks, as equal as the number of blocks allows."""
    count = -(-lanes // BLOCK)
    whole = [BLOCK] * (lanes // BLOCK)
    return whole if len(whole) == count else [*whole, lanes - sum(whole)]


def _groups(numbers, terms):
    """Numbers by threes or twos; two that are left are added too."""
    return [numbers[index:index + terms] for index in range(0, len(numbers), terms)]


def _spread(levels, spare):
    """How many of the spare registers follow the blocks and each level."""
    order = [0, *(1 + index for index, terms in enumerate(levels) if terms == 2)]
    after = [0] * (1 + len(levels))
    for _, place in zip(range(spare), itertools.cycle(order), strict=False):
        after[place] += 1
    return after


@functools.cache
def _levels(sizes, stages):
    """How many numbers each level of adders adds at a time, by counting places."""
    if len(sizes) == 1:
        return ()
    return min(_all_levels(len(sizes), stages),
               key=lambda levels: (_adder_places(sizes, levels), len(levels)))


def _all_levels(count, threes):
    if count == 1:
        yield ()
        return
    for terms in (2, 3) if threes else (2,):
        for rest in _all_levels(-(-count // terms), threes - (terms == 3)):
            yield (terms, *rest)


def _adder_places(sizes, levels):
    numbers, total = [(None, size) for size in sizes], 0
    for terms in levels:
        groups = _groups(numbers, terms)
        numbers = [(None, sum(most for _, most in group)) for group in groups]
        total += sum(bits_for(most) for (_, most), group in zip(numbers, groups, strict=True)
                     if len(group) > 1)
    return total


# ---- cells ------------------------------------------------------------------------------------


def table(function, inputs: int) -> int:
    """Truth table of a function of some bits, the first the lowest."""
    return sum(bool(function(*(row >> index & 1 for index in range(inputs)))) << row
               for row in range(1 << inputs))


def _twice(high, low, inputs):
    """Table of a LUT6_2 with `high` at O6 and `low` at O5, of at most five inputs."""
    spread = [sum((one >> (row & (1 << inputs) - 1) & 1) << row for row in range(32))
              for one in (table(high, inputs), table(low, inputs))]
    return spread[0] << 32 | spread[1]


class _Builder:
    """Puts LUTs and chains into a netlist."""

    def __init__(self, cell):
        self.netlist, self.cell, self.idle = Netlist(), cell, 0

    def pair(self, high, low, inputs):
        """A LUT with two outputs, of at most five inputs."""
        outputs = self.netlist.wire(), self.netlist.wire()
        pins = {f"I{index}": bit for index, bit in
                enumerate([*inputs, *["1'b0"] * (5 - len(inputs)), "1'b1"])}
        self.netlist.cell("LUT6_2", {"INIT": f"64'h{_twice(high, low, len(inputs)):016x}"},
                          **pins, O6=outputs[0], O5=outputs[1])
        return outputs

    def one(self, function, inputs):
        """A LUT with one output, of at most six inputs."""
        output, count = self.netlist.wire(), len(inputs)
        self.netlist.cell(f"LUT{count}", {
            "INIT": f"{1 << count}'h{table(function, count):0{max(1, (1 << count) // 4)}x}"},
            **{f"I{index}": bit for index, bit in enumerate(inputs)}, O=output)
        return output

    def chain(self, places, first="1'b0", sums=()):
        """A chain of (propagate, generate) places; returns the sums and the last carry."""
        sums = [*sums] or [self.netlist.wire() for _ in places]
        carry, width = first, self.cell.places
        for low in range(0, len(places), width):
            part = places[low:low + width]
            outputs = sums[low:low + width]
            outputs += [self.netlist.wire() for _ in range(2 * width - len(outputs))]
            fill = ["1'b0"] * (width - len(part))
            generate = concatenation([place[1] for place in part] + fill)
            propagate = concatenation([place[0] for place in part] + fill)
            start = {"CI": carry} if low else {"CI": "1'b0", "CYINIT": carry}
            if self.cell.kind == "CARRY8":
                start = {"CI": carry, "CI_TOP": "1'b0"}
            elif low:
                start["CYINIT"] = "1'b0"
            self.netlist.cell(self.cell.kind, {}, **start, DI=generate, S=propagate,
                              O=concatenation(outputs[:width]), CO=concatenation(outputs[width:]))
            carry = outputs[width + len(part) - 1]
        return sums, carry


def xor(*bits):
    """Odd number of ones."""
    return sum(bits) % 2


def netlist(unit: Unit, cell: CarryCell) -> Netlist:
    """Cells and registers of a unit, from ``a``, ``b``, ``valid`` and ``first`` to ``running``."""
    builder, bits = _Builder(cell), {}
    result = builder.netlist
    for step in unit.steps:
        if isinstance(step, Delay):
            bits[step.name] = result.register(step.name, bits[step.source])
            continue
        if step.lanes:
            bits[step.name] = _block(builder, step)
        else:
            bits[step.name] = _add(builder, [bits[name] for name in step.terms], step.width)
        result.number(step.name, bits[step.name])
    total = [result.wire() for _ in range(unit.count_bits)]
    running = result.register("running", total, enable="valid")
    result.number("total", total)
    addend, places = bits[unit.total.terms[0]], []
    for index, bit in enumerate(running):
        if index < len(addend):
            places.append((builder.one(lambda y, x, first: y ^ (x & ~first),
                                       [addend[index], bit, "first"]), addend[index]))
        else:
            places.append((builder.one(lambda x, first: x & ~first, [bit, "first"]), "1'b0"))
    builder.chain(places, sums=total)
    result.idle = builder.idle
    return result


def places(netlist: Netlist) -> int:
    """LUTs, and places that a carry which leaves its chain takes."""
    return netlist.idle + sum(count for kind, count in netlist.cells.items()
                              if kind.startswith("LUT"))


def _block(builder, step):
    """Mismatches of up to 13 lanes: a parity and carries of weight 2, then a count of those."""
    lanes = [(f"a[{lane}]", f"b[{lane}]") for lane in step.lanes]
    if len(lanes) == 1:
        return [builder.one(xor, lanes[0])]
    if len(lanes) == 3:
        inputs = [bit for lane in lanes for bit in lane]
        return [builder.one(xor, inputs),
                builder.one(lambda *x: (x[0] ^ x[1]) + (x[2] ^ x[3]) + (x[4] ^ x[5]) > 1, inputs)]
    carries = []

    def parity(part):
        total = []
        for index in range(0, len(part), 2):
            total, carry = _full_adder(builder, total, part[index:index + 2])
            carries.append(carry)
        return total

    if len(lanes) % 2 == 0 and len(lanes) <= 8:
        (total,) = parity(lanes)
    else:
        odd = len(lanes) % 2
        half = (len(lanes) - odd + 2) // 4 * 2
        total = parity(lanes[odd:odd + half]) + parity(lanes[odd + half:])
        (total,), carry = _full_adder(builder, total, lanes[:odd])
        carries.append(carry)
    return [total, *_count(builder, carries, step.width - 1)]


def _full_adder(builder, bits, lanes):
    """Sum, as a list, and carry of some bits and lanes, three in all at most."""
    def values(inputs):
        compared = inputs[len(bits):]
        return [*inputs[:len(bits)],
                *(a ^ b for a, b in zip(compared[::2], compared[1::2], strict=True))]
    total, carry = builder.pair(lambda *inputs: xor(*values(inputs)),
                                lambda *inputs: sum(values(inputs)) > 1,
                                [*bits, *(bit for lane in lanes for bit in lane)])
    return [total], carry


def _count(builder, bits, width):
    """Number of ones among up to seven bits."""
    if len(bits) == 1:
        return bits
    if len(bits) <= 3:
        total, carry = _full_adder(builder, bits, [])
        return [*total, carry]
    first, start = bits[:6], bits[6] if len(bits) == 7 else "1'b0"
    generate = first[5] if len(first) == 6 else "1'b0"
    inputs = first[:5]
    upper = builder.pair(lambda *x: sum(x) in (2, 3), lambda *x: sum(x) > 3, inputs)
    chain = [(builder.one(xor, first), generate), upper]
    return _leave(builder, chain, width, first=start)


def _add(builder, terms, width):
    """Sum of two or three numbers."""
    places, kept = [], None
    while True:
        here = [term[len(places)] for term in terms if len(places) < len(term)]
        if not here and kept is None:
            break
        if len(terms) == 2:
            kept = None
            places.append((builder.one(xor, here), here[0] if len(here) == 2 else "1'b0"))
            continue
        inputs, generate = here + ([kept] if kept else []), kept or "1'b0"
        count = len(here)
        if count < 2:
            generate = generate if len(inputs) == 2 else "1'b0"
            kept = None
            places.append((builder.one(xor, inputs), generate))
        else:
            total, kept = builder.pair(xor, lambda *x, count=count: sum(x[:count]) > 1, inputs)
            places.append((total, generate))
    return _leave(builder, places, width)


def _leave(builder, places, width, first="1'b0"):
    """Sums of a chain, and its last carry if `width` asks for it, which takes a place."""
    sums, carry = builder.chain(places, first=first)
    if width > len(sums):
        builder.idle += 1
        sums.append(carry)
    return sums[:width]
