"""What the sequencer sends to the units, step by step: loops, calls and registers followed."""

from bivit.hw.isa import (
    FORMATS,
    INDEXED,
    REGISTER_BITS,
    REGISTERS,
    STACK,
    UNIT_OF,
    Opcode,
    decode,
    register_of,
)

__all__ = ["expand"]

_MASK = (1 << REGISTER_BITS) - 1


def expand(words):
    """(line, opcode, fields with waits) of every instruction that is sent; the end is HALT."""
    program = [decode(word) for word in words]
    registers, calls, loops, place = [0] * REGISTERS, [], [], 0
    while True:
        opcode, fields = program[place]
        line, place = place, place + 1
        if opcode is Opcode.HALT:
            assert not calls and not loops
            return
        if opcode is Opcode.SET:
            for k in range(fields["used"]):
                registers[fields[f"reg_{k}"]] = fields[f"value_{k}"] if fields[f"reg_{k}"] else 0
            if fields["call"]:
                calls.append(place)
                place = fields["target"]
        elif opcode is Opcode.RETURN:
            place = calls.pop()
        elif opcode is Opcode.LOOP:
            loops.append([place, 0, fields["count"], fields["tail"]])
        elif opcode is Opcode.END:
            _change(registers, fields)
            loops[-1][1] += 1
            if loops[-1][1] < loops[-1][2]:
                place = loops[-1][0]
            else:
                loops.pop()
        else:
            _, turn, count, tail = loops[-1] if loops else (0, 0, 1, 0)
            stage = fields["stage"]
            if stage <= turn < count - (tail - stage):
                yield line, opcode, _sent(opcode, fields, registers)
        assert len(calls) + len(loops) <= STACK


def _change(registers, fields):
    wrapped = False
    for k in range(fields["used"]):
        number = fields[f"reg_{k}"]
        if fields[f"on_wrap_{k}"] and not wrapped:
            continue
        total = (registers[number] + fields[f"add_{k}"]) & _MASK
        if fields[f"limit_{k}"]:
            wrapped = total == fields[f"limit_{k}"]
            total = 0 if wrapped else total
        registers[number] = total


def _sent(opcode, fields, registers):
    assert opcode in UNIT_OF
    result = {name: value for name, value in fields.items()
              if not name.endswith("_reg") and name != "stage"}
    for name in INDEXED[opcode]:
        shape = FORMATS[opcode][name]
        width = shape if isinstance(shape, int) else shape.as_shape().width
        result[name] = (fields[name] + registers[fields[register_of(name)]]) % (1 << width)
    return result
