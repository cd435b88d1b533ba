"""Issue of matrix products: operand words and records, with random pauses."""

import random

import cocotb
from bench import Memory, instructions, send, start
from test_matmul import expected_pairs, memory_word
from units import ARCH

from bivit.hw.blocks.lanes import pass_layout
from bivit.hw.encoding import decode, encode
from bivit.hw.isa import ASource, BSource
from products import PRODUCTS, random_product, records_of

WIDTHS = {"a": ARCH.rows * ARCH.lanes, "b": ARCH.cols * ARCH.lanes}
SOURCES = {"a": ASource, "b": BSource}


@cocotb.test(timeout_time=300, timeout_unit="us")
@cocotb.parametrize(p_valid=[1.0, 0.1])
async def loops_and_records(dut, p_valid):
    rng = random.Random(8)
    opcodes = [rng.choice(PRODUCTS) for _ in range(60)]
    program = [decode(encode(opcode, **random_product(rng, ARCH, opcode))) for opcode in opcodes]
    ports = await start(dut, "issue__", instr__valid=0)

    def word(side, source, address):
        return memory_word(source, address) % (1 << WIDTHS[side])

    for side, sources in SOURCES.items():
        for source in range(len(sources)):
            Memory(ports, lambda address, side=side, source=source: word(side, source, address),
                   [(f"{side}_addr", f"{side}_data__{source}")])
    cocotb.start_soon(send(ports, "instr__", instructions(program), p_valid))
    pairs = [(word("a", fields["a_src"], a), word("b", fields["b_src"], b), first, last)
             for _, fields in program for a, b, first, last in expected_pairs(fields)]
    records = [record for tag, (opcode, fields) in enumerate(program)
               for record in records_of(ARCH, opcode, fields, tag)]
    got_pairs, got_records = [], []
    while len(got_pairs) < len(pairs) or len(got_records) < len(records):
        await ports.edge()
        if ports.get("valid"):
            got_pairs.append(tuple(ports.get(name) for name in ("a", "b", "first", "last")))
        if ports.get("pass_valid"):
            got = pass_layout(ARCH).from_bits(ports.get("pass_"))
            got_records.append({name: int(got[name]) for name in records[len(got_records)]})
    assert got_pairs == pairs
    assert got_records == [{name: int(value) for name, value in record.items()}
                           for record in records]
