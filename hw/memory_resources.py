"""What memories become: block RAM, ultra RAM or LUTs, by the rules of the tools."""

import functools
import math

from bivit.hw.arch import Arch
from bivit.hw.devices import Device, Family
from bivit.hw.memories import MemorySize, constant_memories, memories, write_granularity

__all__ = ["IN_UNITS", "all_memory_resources", "block_ram", "memory_block_ram",
           "memory_places", "memory_resources"]

IN_UNITS = ("score", "sums", "pv")
"""Memories that lie in a unit."""
_PLAIN = ("sums", "pv")
"""Those that are part of a block, and none of their own."""

_READ_PORTS = {"pv": 2, "resid": 2, "vmem": 2}
"""Memories with more than one read port, each a copy."""
_MOVED = ("xmem", "hmem")
"""Memories that moves of rows read too."""

_ROM_BITS = {4: 2048, 6: 8192}
"""Inputs of a LUT to the bits for each block RAM up to which a ROM is made of LUTs."""

_SHORT = 1024
"""Words up to which a memory fills too little of an ultra RAM."""


def block_ram(*, width: int, depth: int, granularity: int, family: Family,
              rom: bool = False) -> int:
    """Block RAMs of a memory with one write and one read port that lies in block RAM.

    A block RAM has an enable for each `lane` of its bits, so that a piece that is written alone
    takes whole lanes. The geometry that takes the fewest is chosen; what is left over at the end
    of a word of a ROM may take another one.
    """
    return _block_rams(width, depth, granularity, family, rom)[0]


@functools.cache
def _block_rams(width, depth, granularity, family, rom):
    """Block RAMs, how many lie one above the other, and the bits of each."""
    found = []
    for bits, words, lane in family.geometries:
        rows = -(-depth // words)
        if granularity < width:
            whole, rest = divmod(width // granularity * -(-granularity // lane), bits // lane)
        else:
            whole, rest = divmod(width, bits)
        last = (min(-(-rest // other) * -(-depth // deep) for other, deep, _ in family.geometries)
                if rom else bool(rest) * rows)
        found.append((whole * rows + last, rows, bits))
    return min(found)


def memory_resources(size: MemorySize, granularity: int, family: Family, *, read_ports: int = 1,
                     rom: bool = False, only_luts: bool = False) -> dict[str, int]:
    """LUTs, registers and block RAMs of a memory, a copy for each read port.

    A ROM of few words has bits that are equal in all of them; noise is counted on, as synthesis
    gets it. A memory is made of LUTs where `Family.lut_rams` says that these cost less. What lies
    one above the other is selected by LUTs, for each bit that is read and, in all copies together,
    each piece that is written.
    """
    width, depth = size
    pieces = width // granularity
    if depth == 1:  # registers, or constants
        return {"luts": 0, "registers": 0 if rom else 3 * width, "block_ram": 0}
    blocks, rows, bits = _block_rams(width, depth, granularity, family, rom)
    if rom and family.lut_rams and width * depth <= _ROM_BITS[family.lut_inputs] * blocks:
        unlike = round(2**depth * (1 - (1 - 0.5**depth) ** width)) if depth <= 16 else width
        return {"luts": round(unlike * _rom_luts(depth, family)), "registers": 2 * unlike,
                "block_ram": 0}
    if family.lut_rams and not rom:
        luts, high = min((luts * high * pieces * -(-granularity // lane), high)
                         for words, lane, luts in family.lut_rams for high in [-(-depth // words)])
        selection = width / 2 * (math.log2(high) if family.lut_inputs == 6 else high - 1)
        if only_luts or luts + selection < family.block_cost * blocks:
            return {"luts": read_ports * (luts + _selection(high, family) * width)
                    + pieces * high * (high > 1),
                    "registers": 2 * width * read_ports, "block_ram": 0}
    blocks *= read_ports
    if rows > 1:
        return {"luts": read_ports * _selection(rows, family) * width + pieces * rows * (not rom),
                "registers": read_ports * (width + (rows - 1).bit_length()), "block_ram": blocks}
    shared = family.lut_inputs == 4 and 18 == bits >= 2 * granularity and not rom
    return {"luts": blocks // read_ports * shared,
            "registers": 0 if family.registers_inside else read_ports * width,
            "block_ram": blocks}


def _rom_luts(depth, family):
    """LUTs for a bit of a ROM."""
    if family.lut_inputs == 6:  # the slice selects between four
        high = 1 << (-(-depth // 64) - 1).bit_length()
        return high + (high // 4 if high > 4 else 0)
    high = -(-depth // 16)
    return 2.1 * high - 0.3 if high > 1 else 1


def _selection(rows, family):
    """LUTs that select a bit of one of so many rows."""
    if family.lut_inputs == 6:
        return -(-rows // 4) if rows > 1 else 0
    return rows - 1 if rows <= 4 else rows * 3 // 4


def _read_ports(arch, memory):
    """Read ports that are used of a memory."""
    return 1 + arch.row_moves if memory in _MOVED else _READ_PORTS.get(memory, 1)


def all_memory_resources(arch: Arch, family: Family) -> dict[str, dict[str, int]]:
    """Resources of every memory; registers of those that lie in a unit are the unit's."""
    parts, found = write_granularity(arch), {}
    roms = constant_memories(arch) if arch.weights == "rom" else ()
    for name, size in memories(arch).items():
        part = arch.count_bits if name == "pv" else parts.get(name, size.width)
        found[name] = memory_resources(
            size, part, family, rom=name in roms, read_ports=_read_ports(arch, name),
            only_luts=name == "pv")  # it is read without a register
        if name in _PLAIN:
            del found[name]["registers"]
    return found


def memory_block_ram(arch: Arch, family: Family) -> dict[str, int]:
    """Block RAMs of each memory between the units."""
    constants = constant_memories(arch)
    return {f"{name}_{'rom' if name in constants and arch.weights == 'rom' else 'ram'}":
            found["block_ram"] for name, found in all_memory_resources(arch, family).items()
            if name not in IN_UNITS}


def memory_places(arch: Arch, device: Device) -> dict[str, int]:
    """Block RAMs and ultra RAMs of the memories between the units, where each lies best.

    Memories of few words are made of LUTs; of the others, those with the most block RAMs become
    ultra RAM, two ports a copy, as long as there is some. ROMs do not: ultra RAM starts empty.
    """
    sizes, found = memories(arch), {"block_ram": 0, "ultra_ram": 0}
    counts = memory_block_ram(arch, device.family)
    for name, count in sorted(counts.items(), key=lambda item: -item[1]):
        memory = name.rsplit("_", 1)[0]
        width, depth = sizes[memory]
        ultra = _read_ports(arch, memory) * -(-width // 72) * -(-depth // 4096)
        room = found["ultra_ram"] + ultra <= device.ultra_ram
        if depth > _SHORT and room and not name.endswith("_rom"):
            found["ultra_ram"] += ultra
        else:
            found["block_ram"] += count
    return found
