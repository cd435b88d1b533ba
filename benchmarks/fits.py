"""Which of the named targets with streamed weights hold which network for 224x224 images.

Of each network, the targets from the smallest on until one holds it: cycles behind the default
memory, or what the compiler says and the bits that are missing.
"""

import pathlib
import tempfile

from full_size import NETWORKS, checkpoint_of

from bivit.compiler.ir import checkpoint
from bivit.compiler.structures import CompileError
from bivit.hw.devices import DEVICES
from bivit.hw.isa import INSTR_BITS
from bivit.hw.memories import memories
from bivit.hw.resources import memory_places
from bivit.hw.targets import TARGETS
from bivit.sim.estimate import predict_cycles

__all__ = ["ROWS", "measure"]

ROWS = tuple(NETWORKS)
"""Networks."""
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
        try:
            cost = predict_cycles(graph, arch)
        except CompileError as error:
            sizes = memories(arch)
            missing = {field.removesuffix("_depth"): words for field, words in getattr(
                error, "needed", {}).items()}
            found[name] = {"fits": False, "says": str(error), "missing_bits": {
                memory: (words - sizes[memory].depth) * sizes[memory].width
                for memory, words in missing.items() if memory in sizes}}
            continue
        found[name] = {"fits": True, "cycles": cost.cycles, "utilization": cost.utilization,
                       "instructions": cost.instructions,
                       "program_kbit": cost.instructions * INSTR_BITS / 1024,
                       "words": cost.memory}
        break
    return found


def _target(arch):
    device = DEVICES[arch.name.removesuffix(_KIND)]
    places = memory_places(arch, device)
    return {"device": device.title, "array": f"{arch.rows}x{arch.cols}x{arch.lanes}",
            "post_rows": arch.post_rows, "port_bits": arch.port_bits, **places,
            "device_block_ram": device.block_ram, "device_ultra_ram": device.ultra_ram}
