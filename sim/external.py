"""External memories to simulate with: as options say them, and traces of stalls from a seed."""

import numpy as np

from bivit.compiler.ir.errors import UserError
from bivit.hw.blocks.fetch import MemoryTiming

__all__ = ["memory_timing", "stall_trace"]

_LENGTHS = 1009, 127  # beats and addresses until a trace starts again
_LONGEST_STALL = 40


def stall_trace(seed: int) -> dict[str, tuple[int, ...]]:
    """Stalls of beats and of addresses: one in eight has one, of up to 40 cycles."""
    rng = np.random.default_rng(seed)
    traces = (rng.integers(1, _LONGEST_STALL, length) * (rng.random(length) < 1 / 8)
              for length in _LENGTHS)
    return dict(zip(("beats", "addresses"), (tuple(trace.tolist()) for trace in traces),
                    strict=True))


def memory_timing(text: str) -> MemoryTiming:
    """The memory that ``latency=N,interval=N,write_latency=N,stalls=SEED`` describes, each part
    optional.

    Raises
    ------
    UserError
    """
    given, least = {}, {"latency": 1, "interval": 1, "write_latency": 1, "stalls": 0}
    for part in text.split(","):
        name, _, number = part.partition("=")
        if name not in least or not number.isdecimal() or int(number) < least[name]:
            raise UserError(f"{part!r} says nothing about a memory; write for example "
                            "latency=40,interval=2,write_latency=20,stalls=1, all but the last "
                            "at least 1")
        given[name] = int(number)
    if "stalls" in given:
        given |= stall_trace(given.pop("stalls"))
    return MemoryTiming(**given)
