"""Dot-product unit as plain sums, which every tool reads."""

from bivit.hw.fabric.netlist import Delay, Unit

__all__ = ["counting", "sums"]


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
