"""Where every cycle of the array goes: one cause for each, and nothing is left over.

Cycles in which words enter the array are divided by products: of the R x C x L bits that a cycle
could multiply, some are wanted, others are rows, columns or lanes without work. So the causes are
counted in *slots* (``macs_per_cycle`` a cycle), integers, and shown as cycles.
"""

from bivit.hw.blocks.matmul import passes_of
from bivit.hw.isa import Unit
from bivit.sim.frame import Frame, Step

__all__ = ["CAUSES", "PRODUCT_CAUSES", "WAITS", "account", "binary_window", "in_cycles",
           "product_slots", "useful_shares"]

CAUSES = {
    "useful": "binary MACs that the network asks for",
    "rows": "rows of the array without a token",
    "columns": "columns without a channel or key",
    "lanes": "bits behind the end of the dot product",
    "repeated": "products made again, or for constants",
    "drain": "results leave too slowly",
    "8-bit layers": "8-bit operands, plane by plane",
    "numbers alone": "additions and bends without a product",
    "load": "array waits for pixels, or a stem engine's products",
    "matrix results": "array waits for its own results",
    "softmax": "array waits for attention bits",
    "vector": "array waits for LayerNorm, sums, moves",
    "fetch": "array waits for constants from outside",
    "dispatch": "array waits for an instruction",
    "start": "before an instruction can start",
    "end": "after the last word: results, output",
}
"""What a cycle of the array can be, and what that means."""

PRODUCT_CAUSES = ("useful", "rows", "columns", "lanes", "repeated")
"""What the cycles are divided into in which words of binary layers enter."""

WAITS = {Unit.LOAD: "load", Unit.MM: "matrix results", Unit.SOFTMAX: "softmax",
         Unit.VEC: "vector", Unit.FETCH: "fetch"}
"""Cause of a wait for a step of a unit."""


def account(frame: Frame, products: list[dict[str, int]],
            window: tuple[int, int] | None = None) -> dict[str, int]:
    """Slots of the array by cause, over the whole frame or a part of it.

    Parameters
    ----------
    products : list of dict
        What :func:`product_slots` gives.
    window : tuple of int, optional
        First and last matrix step: count from the pop of the first to the ``done`` of the last.

    Returns
    -------
    dict
        The causes of :data:`CAUSES`; they sum up to ``macs_per_cycle`` times the cycles.
    """
    slots, per_cycle = dict.fromkeys(CAUSES, 0), frame.arch.macs_per_cycle
    steps = frame.matrix
    if not steps:
        return slots | {"end": frame.cycles * per_cycle}
    begin, free, end = 0, frame.start, frame.cycles
    if window:
        part = slice(window[0], window[1] + 1)
        steps, products = steps[part], products[part]
        begin, free, end = steps[0].pop, steps[0].pop, steps[-1].done + 1
    slots["start"] = (free + 1 - begin) * per_cycle
    for step, product in zip(steps, products, strict=True):
        if step.pop > free:
            slots[_cause(frame, step)] += (step.pop - free) * per_cycle
        for cause, number in product.items():
            slots[cause] += number
        free = step.end
    slots["end"] = (end - free - 1) * per_cycle
    assert sum(slots.values()) == (end - begin) * per_cycle, "a cycle has no cause, or two"
    return slots


def in_cycles(frame: Frame, slots: dict[str, int]) -> dict[str, float]:
    """Slots as cycles."""
    return {cause: number / frame.arch.macs_per_cycle for cause, number in slots.items()}


def binary_window(frame: Frame) -> tuple[int, int] | None:
    """First and last matrix step of a binary layer, None if there is none."""
    binary = [number for number, step in enumerate(frame.matrix)
              if frame.layers[step.layer]["binary"]]
    return (binary[0], binary[-1]) if binary else None


def _cause(frame, step):
    source = step.wait.source
    return "dispatch" if source is None else WAITS[frame.steps[source].unit]


def product_slots(frame: Frame) -> list[dict[str, int]]:
    """For each matrix step, the slots of the cycles that it occupies.

    What the products of a layer make beyond its multiply-accumulates is repeated.
    """
    left = [layer["macs"] if layer["binary"] else 0 for layer in frame.layers]
    found = []
    for step in frame.matrix:
        layer = frame.layers[step.layer]
        if not layer["binary"]:
            kind = "8-bit layers" if layer["macs"] else "numbers alone"
            found.append({kind: step.occupancy * frame.arch.macs_per_cycle})
            continue
        slots = _divide(frame.arch, step)
        useful = min(slots["useful"], left[step.layer])
        left[step.layer] -= useful
        slots["repeated"] += slots["useful"] - useful
        slots["useful"] = useful
        found.append(slots)
    assert not any(left), "useful products are missing"
    return found


def _divide(arch, step: Step) -> dict[str, int]:
    """Slots of a product of bits: rows first, then columns, then lanes."""
    passes, words = passes_of(step.opcode, step.fields), step.fields["k_words"]
    planes = passes // step.fields["n_tiles"]
    slots = dict.fromkeys(PRODUCT_CAUSES, 0)
    slots["drain"] = (step.occupancy - passes * words) * arch.macs_per_cycle
    every = passes * words * arch.macs_per_cycle
    if step.work is None or step.work[2] > words * arch.lanes:
        return slots | {"repeated": every}
    rows, columns, length = step.work
    used_rows = passes * words * rows * arch.cols * arch.lanes
    used_columns = planes * words * rows * columns * arch.lanes
    useful = planes * rows * columns * length
    return slots | {"useful": useful, "rows": every - used_rows,
                    "columns": used_rows - used_columns, "lanes": used_columns - useful}


def useful_shares(frame: Frame, products: list[dict[str, int]], width: int) -> list[float]:
    """Useful slots in each window of `width` cycles, over all slots of that window."""
    useful = [0.0] * -(-frame.cycles // width)
    for step, product in zip(frame.matrix, products, strict=True):
        if not product.get("useful"):
            continue
        rate = product["useful"] / step.occupancy
        low, high = step.pop + 1, step.end + 1
        for window in range(low // width, (high - 1) // width + 1):
            begin, end = max(low, window * width), min(high, (window + 1) * width)
            useful[window] += rate * (end - begin)
    per_cycle = frame.arch.macs_per_cycle
    return [number / per_cycle / min(width, frame.cycles - window * width)
            for window, number in enumerate(useful)]
