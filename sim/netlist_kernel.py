"""Cycles of a netlist of ECP5: plain loops over arrays, made fast by Numba."""

import numba
import numpy as np

__all__ = ["CARRY", "LUT", "MULTIPLIER", "RAM", "run"]

LUT, CARRY, RAM, MULTIPLIER = range(4)
"""Kinds of combinational cells; of distributed RAM the read."""


@numba.njit(cache=True)
def run(nets, order, luts, carries, rams, ram_words, multipliers, registers, blocks, pieces, words,
        inputs, input_nets, output_nets, outputs):
    """Run as many cycles as `inputs` has rows; `nets` and the contents of memories stay behind.

    Arrays are those of :class:`bivit.sim.netlist.Netlist`; nets 0 and 1 are the constants.
    """
    fresh, scratch = nets[:registers.shape[0]].copy(), np.zeros((3, 2), np.int64)
    for cycle in range(inputs.shape[0]):
        for port in range(input_nets.shape[0]):
            nets[input_nets[port]] = inputs[cycle, port]
        _settle(nets, order, luts, carries, rams, ram_words, multipliers)
        for port in range(output_nets.shape[0]):
            outputs[cycle, port] = nets[output_nets[port]]
        for index in range(registers.shape[0]):  # set, enable, data, output, inversions, value
            row = registers[index]
            if nets[row[0]] ^ (row[4] & 1):
                fresh[index] = row[5]
            elif nets[row[1]] ^ (row[4] >> 1):
                fresh[index] = nets[row[2]]
            else:
                fresh[index] = nets[row[3]]
        for index in range(rams.shape[0]):  # read address, write address, data, enable, outputs
            row = rams[index]
            if nets[row[12]] ^ row[17]:
                ram_words[index, _number(nets, row, 4, 4)] = _number(nets, row, 8, 4)
        for index in range(blocks.shape[0]):
            _block(nets, blocks[index], pieces[index], words[index], scratch)
        for index in range(registers.shape[0]):
            nets[registers[index, 3]] = fresh[index]
        for index in range(blocks.shape[0]):
            row = blocks[index]
            for side in range(2):
                word = words[index, side, row[6 + side]]
                for bit in range(36):
                    nets[row[80 + 36 * side + bit]] = word >> bit & 1
        nets[0], nets[1] = 0, 1  # outputs that nobody reads go to net 0


@numba.njit(cache=True)
def _number(nets, row, first, bits):
    found = 0
    for bit in range(bits):
        found |= int(nets[row[first + bit]]) << bit
    return found


@numba.njit(cache=True)
def _settle(nets, order, luts, carries, rams, ram_words, multipliers):
    """All combinational cells, each behind those that it reads."""
    for place in range(order.shape[0]):
        kind, index = order[place, 0], order[place, 1]
        if kind == LUT:  # inputs, table, output
            row = luts[index]
            nets[row[5]] = row[4] >> (nets[row[0]] | nets[row[1]] << 1 | nets[row[2]] << 2
                                      | nets[row[3]] << 3) & 1
        elif kind == CARRY:  # carry in, twice four inputs and table, gates, outputs
            row = carries[index]
            carry = nets[row[0]]
            for half in range(2):
                first = 1 + 5 * half
                low = nets[row[first]] | nets[row[first + 1]] << 1
                table, gated = row[first + 4], row[11] >> half & 1
                whole = table >> (low | nets[row[first + 2]] << 2 | nets[row[first + 3]] << 3) & 1
                nets[row[12 + half]] = whole ^ (0 if gated else carry)
                carry = carry if whole else (0 if gated else table >> low & 1)
            nets[row[14]] = carry
        elif kind == RAM:
            row = rams[index]
            word = ram_words[index, _number(nets, row, 0, 4)]
            for bit in range(4):
                nets[row[13 + bit]] = word >> bit & 1
        else:  # A, B, whether they are signed, product
            row = multipliers[index]
            a, b = _number(nets, row, 0, 18), _number(nets, row, 18, 18)
            if nets[row[36]] and a >> 17:
                a -= 1 << 18
            if nets[row[37]] and b >> 17:
                b -= 1 << 18
            product = a * b
            for bit in range(36):
                nets[row[38 + bit]] = product >> bit & 1
        nets[0], nets[1] = 0, 1


@numba.njit(cache=True)
def _block(nets, row, pieces, words, scratch):
    """A cycle of a block RAM: `words` are what each port has read, and its output register.

    The device leaves open what one port reads of bits that the other one writes in the same cycle:
    it is the complement here.

    `row`: of A and of B each width, enable, nothing, output register; 14 bits of address of A, of
    B; write enables, output enables; 18 bits of data of A, of B; 4 unused; 36 bits of output each.
    """
    first, count, write = scratch
    for side in range(2):
        write[side] = 0
        width, address = row[side], _number(nets, row, 8 + 14 * side, 14)
        count[side] = 4 if width == 36 else 2 if width == 18 else 1
        first[side] = address >> 3 & ~(count[side] - 1)
        if nets[row[2 + side]] and nets[row[36 + side]]:
            write[side] = address & (1 << count[side]) - 1 if width >= 18 else 1
        words[side, 1] = words[side, 0] if nets[row[38 + side]] else words[side, 1]
    for side in range(2):
        if not nets[row[2 + side]]:
            continue
        word, other = 0, 1 - side
        for piece in range(count[side]):
            at = first[side] + piece
            value = pieces[at]
            if 0 <= at - first[other] < 4 and write[other] >> (at - first[other]) & 1:
                value ^= _written(nets, row, other)
            word |= value << 9 * piece
        if row[side] < 9:
            word >>= _number(nets, row, 8 + 14 * side, 3) & ~(row[side] - 1)
        words[side, 0] = word
    for side in range(2):
        for piece in range(count[side]):
            if not write[side] >> piece & 1:
                continue
            source = 40 + 18 * side + 9 * piece  # the data of B follow those of A
            value, at = _number(nets, row, source, 9), first[side] + piece
            if row[side] < 9:
                low = _number(nets, row, 8 + 14 * side, 3) & ~(row[side] - 1)
                mask = _written(nets, row, side)
                value = pieces[at] & ~mask | value << low & mask
            pieces[at] = value


@numba.njit(cache=True)
def _written(nets, row, side):
    """Bits of a piece that a port writes."""
    width = row[side]
    if width >= 9:
        return 511
    return (1 << width) - 1 << (_number(nets, row, 8 + 14 * side, 3) & ~(width - 1))
