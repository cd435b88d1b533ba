"""Which of the named targets with streamed weights hold which network for 224x224 images.

Of each network, the targets from the smallest on until one holds it: cycles behind the default
memory, or what the compiler says and the bits that are missing.
"""

import dataclasses
import pathlib
import tempfile

from full_size import NETWORKS, checkpoint_of

from bivit.compiler.ir import checkpoint
from bivit.compiler.structures import CompileError, TooSmall
from bivit.explore.costs import costs_of
from bivit.hw.devices import DEVICES
from bivit.hw.isa import INSTR_BITS
from bivit.hw.memories import memories
from bivit.hw.memory_resources import memory_places
from bivit.hw.targets import TARGETS
from bivit.sim.estimate import predict_cycles

__all__ = ["ROWS", "measure"]

ROWS = tuple(NETWORKS)
"""Networks."""
_ROUNDS = 8
"""How often the memories of a target that is too small are made larger, to see what is missing."""
_KIND = "-streamed"
"""End of a target's name; before it stands its device."""


def measure(rows=ROWS) -> dict:
    """One row for each network; the memories of the targets."""
    targets = {name: arch for name, arch in TARGETS.items() if name.endswith(_KIND)}
    with tempfile.TemporaryDirectory() as scratch:
        rows = {row: _row(checkpoint.load(checkpoint_of(row, pathlib.Path(scratch))), targets)
                for row in rows}
    return {"targets": {name: _target(arch) for name, arch in targets.items()}, "rows": rows}


def _row(graph, targets):
    found = {}
    for name, arch in targets.items():
        found[name] = _try(graph, arch)
        if found[name]["fits"]:
            break
    return found


def _try(graph, arch):
    """What a target takes; or, of one that is too small, what is missing, round by round."""
    says, larger = None, arch
    for _ in range(_ROUNDS):
        try:
            cost = predict_cycles(graph, larger)
        except TooSmall as error:
            says, larger = says or str(error), dataclasses.replace(larger, **error.needed)
            continue
        except CompileError as error:
            says = says or str(error)
            break
        if not says:
            return {"fits": True, "cycles": cost.cycles, "utilization": cost.utilization,
                    "instructions": cost.instructions,
                    "program_kbit": cost.instructions * INSTR_BITS / 1024, "words": cost.memory}
        break
    sizes = memories(arch)
    return {"fits": False, "says": says, "missing_bits": {
        memory: (size.depth - sizes[memory].depth) * size.width
        for memory, size in memories(larger).items() if size != sizes[memory]}}


def _target(arch):
    device = DEVICES[arch.name.removesuffix(_KIND)]
    used = memory_places(arch, device) | {
        name: costs_of(arch, device)[name] for name in ("luts", "multipliers")}
    return {"device": device.title, "array": f"{arch.rows}x{arch.cols}x{arch.lanes}",
            "post_rows": arch.post_rows, "port_bits": arch.port_bits, **used,
            **{f"device_{name}": getattr(device, name) for name in used}}
