"""Where the fields of an instruction lie.

Fields that registers are added to have places of their own, the same in every instruction, and so
have the numbers of their registers: the adders of the sequencer need to know no opcode. An unused
number is zero and adds nothing, whatever lies in its place. Other fields lie behind those places,
and where they do not all find room there, in the places that their instruction does not use.
"""

from amaranth.hdl import Shape
from amaranth.lib import data

__all__ = ["pack"]


def pack(size: int, header: dict, fields: dict, places: dict[str, tuple[int, int, int]],
         numbers: dict[str, int], room: tuple[int, int]) -> data.FlexibleLayout:
    """Layout of an instruction.

    Parameters
    ----------
    size : int
        Bits of the instruction.
    header, fields : dict of str to shape
        The fields of the header from bit 0 on; the others.
    places : dict of str to (int, int, int)
        Of fields with a place of their own: offset, width, and offset of the number of a register.
    numbers : dict of str to int
        Names of the fields with those numbers, in the order of `places`, and their width.
    room : (int, int)
        The other fields lie between these bits, as far as they find room there, else below.
    """
    found, used, end = {}, 0, 0

    def put(name, shape, offset, width):
        nonlocal used
        found[name] = data.Field(shape, offset)
        assert not used >> offset & (1 << width) - 1, f"{name} overlaps another field"
        used |= (1 << width) - 1 << offset

    for name, shape in header.items():
        put(name, shape, end, Shape.cast(shape).width)
        end += Shape.cast(shape).width
    for (name, (offset, width, at)), (number, bits) in zip(places.items(), numbers.items(),
                                                           strict=True):
        put(name, fields[name], offset, width)
        put(number, bits, at, bits)
    for name, shape in fields.items():
        if name not in places:
            width = Shape.cast(shape).width
            put(name, shape, _room(used, width, end, room, name), width)
    return data.FlexibleLayout(size, found)


def _room(used, width, header, room, name):
    """The first free bits in `room`; where there are none, the first behind the header."""
    for start in (room[0], header):
        for offset in range(start, room[1] - width + 1):
            if not used >> offset & (1 << width) - 1:
                return offset
    raise AssertionError(f"an instruction has no room for {name}")
