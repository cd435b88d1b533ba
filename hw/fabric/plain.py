"""Dot-product unit as plain sums, which every tool reads."""

from amaranth.utils import bits_for

from bivit.hw.fabric.netlist import Delay, Unit, concatenation

__all__ = ["carry_save", "counting", "plain_sum", "sums"]


def sums(unit: Unit) -> str:
    """The steps of a unit, each adder a ``+``: what its netlist is proven equal to."""
    lines = [f"  reg [{unit.count_bits - 1}:0] running;"]
    for step in (*unit.steps, unit.total):
        if isinstance(step, Delay):
            lines += [f"  reg [{step.width - 1}:0] {step.name};",
                      f"  always @(posedge clk) {step.name} <= {step.source};"]
        else:
            terms = [*step.terms, *(f"(a[{lane}] ^ b[{lane}])" for lane in step.lanes)]
            if step is unit.total:
                terms.append(f"(first ? {step.width}'d0 : running)")
            lines.append(f"  wire [{step.width - 1}:0] {step.name} = {' + '.join(terms)};")
    lines.append("  always @(posedge clk) if (valid) running <= total;")
    return "\n".join(lines)


def counting(unit: Unit) -> str:
    """A unit with ``$countones``, for fast simulation."""
    width = unit.count_bits
    lines = [f"  reg [{width - 1}:0] running;"]
    before = None
    for stage in range(unit.stages + 1):
        lanes = [lane for lane in reversed(range(unit.lanes)) if unit.late[lane] == stage]
        terms = [] if before is None else [before]
        if lanes:
            bits = _slices(lanes)
            a, b = (", ".join(f"{side}{part}" for part in bits) for side in "ab")
            terms.append(f"{width}'($countones({{{a}}} ^ {{{b}}}))")
        value = " + ".join(terms) or f"{width}'d0"
        if stage < unit.stages:
            before = f"count_{stage}"
            lines += [f"  reg [{width - 1}:0] {before};",
                      f"  always @(posedge clk) {before} <= {value};"]
    lines += [f"  wire [{width - 1}:0] total = {value} + (first ? {width}'d0 : running);",
              "  always @(posedge clk) if (valid) running <= total;"]
    return "\n".join(lines)


def _slices(lanes):
    """Descending lane numbers as part-selects."""
    parts = []
    for lane in lanes:
        if parts and parts[-1][1] == lane + 1:
            parts[-1][1] = lane
        else:
            parts.append([lane, lane])
    return [f"[{high}]" if high == low else f"[{high}:{low}]" for high, low in parts]


def carry_save(unit: Unit) -> str:
    """A unit as a tree of 3:2 compressors with one adder, and its registers behind that."""
    lines = [f"  reg [{unit.count_bits - 1}:0] running;",
             f"  wire [{unit.lanes - 1}:0] differ = a ^ b;"]
    columns = [[f"differ[{lane}]" for lane in range(unit.lanes)]]
    number = 0
    while max(map(len, columns)) > 2:
        following = [[] for _ in range(len(columns) + 1)]
        for weight, column in enumerate(columns):
            whole = len(column) // 3 * 3
            following[weight] += column[whole:]
            for x, y, z in zip(*(column[index:whole:3] for index in range(3)), strict=True):
                lines += [f"  wire s{number} = {x} ^ {y} ^ {z};",
                          f"  wire c{number} = ({x} & {y}) | ({x} & {z}) | ({y} & {z});"]
                following[weight].append(f"s{number}")
                following[weight + 1].append(f"c{number}")
                number += 1
        columns = [column for column in following if column]
    rows = [concatenation([column[row] if row < len(column) else "1'b0" for column in columns])
            for row in range(2)]
    return "\n".join([*lines, *_registered(unit, " + ".join(rows))])


def plain_sum(unit: Unit) -> str:
    """A unit as the sum of its lanes, and its registers behind that."""
    lines = [f"  reg [{unit.count_bits - 1}:0] running;"]
    lanes = " + ".join(f"(a[{lane}] ^ b[{lane}])" for lane in range(unit.lanes))
    return "\n".join([*lines, *_registered(unit, lanes)])


def _registered(unit, value):
    """Accumulator of a value that passes all registers."""
    width, lines = bits_for(unit.lanes), []
    for stage in range(unit.stages):
        lines += [f"  reg [{width - 1}:0] count_{stage};",
                  f"  always @(posedge clk) count_{stage} <= {value};"]
        value = f"count_{stage}"
    return [*lines,
            f"  wire [{unit.count_bits - 1}:0] total = {value} + "
            f"(first ? {unit.count_bits}'d0 : running);",
            "  always @(posedge clk) if (valid) running <= total;"]
