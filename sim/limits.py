"""What each part of the machine is needed for, and which of them is the limit."""

from bivit.hw.blocks.matmul import drain_of, passes_of
from bivit.hw.isa import Opcode, Unit
from bivit.sim.accounting import WAITS
from bivit.sim.frame import Frame

__all__ = ["ARRAY", "LANES", "demands", "limit_text"]

ARRAY, LANES = "array", "arithmetic lanes"
"""Names of the parts of the matrix unit."""


def demands(frame: Frame, window: tuple[int, int]) -> dict[str, int]:
    """Cycles that each part has to work for what begins in a part of the frame.

    No order of instructions makes it shorter than the greatest of them, which so is the limit.

    Parameters
    ----------
    window : tuple of int
        First and last matrix step.
    """
    begin, end = (frame.matrix[number] for number in window)
    found = {ARRAY: 0, LANES: 0}
    for step in frame.steps:
        if not begin.pop <= step.pop <= end.pop:
            continue
        if step.unit is not Unit.MM:
            name = WAITS[step.unit]
            found[name] = found.get(name, 0) + step.occupancy
            continue
        passes = passes_of(step.opcode, step.fields)
        found[ARRAY] += passes * step.fields["k_words"]
        if step.opcode is Opcode.MM_ACC:
            found[LANES] += passes * drain_of(frame.arch, step.opcode, step.fields)
    return found


def limit_text(figures: dict) -> str:
    """In words: the limit of the binary layers, and how near each part is to it.

    Parameters
    ----------
    figures : dict
        What :func:`bivit.sim.report.analyse` gives.
    """
    shares = {name: 100 * cycles / figures["binary_cycles"]
              for name, cycles in figures["demands"].items()}
    limit = figures["limit"]
    others = ", ".join(f"{name} {share:.1f} %" for name, share in sorted(
        shares.items(), key=lambda item: -item[1]) if name != limit and share)
    return (f"limit of the binary layers: {limit}, needed in {shares[limit]:.1f} % of their cycles"
            + (f"; {others}" if others else ""))
