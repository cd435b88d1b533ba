"""Post-processing: memories, scores and minima after each instruction, with random pauses."""

import random

import cocotb
import numpy as np
from bench import Memory, apply_write, start
from test_post import count_range, needs_wait, packed_record
from units import ARCH

from bivit.hw.blocks.matmul import drain_of
from bivit.hw.blocks.post import PARAM_LEAD
from bivit.hw.isa import Opcode
from bivit.hw.memories import score_shape
from post_model import READ_PORTS, Memories, pack
from products import PRODUCTS, plain, random_product, records_of

IDLE = None, None
NUMBERS = ARCH.rows * ARCH.cols


class Feeder:
    """Passes of random instructions, and what has become of them."""

    def __init__(self):
        rng = random.Random(5)
        self.program, self.most, slots = [], [], 0
        for _ in range(120):
            opcode = rng.choice(PRODUCTS)
            fields = random_product(rng, ARCH, opcode)
            if opcode is Opcode.MM_SCORE:
                slots += 1
                fields["slot"] = slots % ARCH.score_slots
            self.program.append((opcode, fields))
            self.most.append(count_range(ARCH, opcode, fields, rng)["most"])
        self.counts, self.finished = [], 0

    def cycles(self):
        """For each cycle a record, or None, and the counts that belong to it."""
        rng = np.random.default_rng(6)
        for index, (opcode, fields) in enumerate(self.program):
            waits = needs_wait(ARCH, fields) or any(
                "slot" in fields and fields["slot"] == other.get("slot")
                for _, other in self.program[self.finished:index])
            while waits and self.finished < index:
                yield IDLE
            self.counts.append([])
            for record in records_of(ARCH, opcode, fields, index):
                counts = rng.integers(0, self.most[index] + 1, (ARCH.rows, ARCH.cols))
                self.counts[-1].append(counts)
                yield packed_record(ARCH, record, rng), counts
                idle = drain_of(ARCH, opcode, plain(fields)) - 1 + random.choice((0, 0, 1, 5))
                for _ in range(idle):
                    yield IDLE
        while True:
            yield IDLE


@cocotb.test(timeout_time=200, timeout_unit="us")
async def instructions_change_memories(dut):
    feeder, counts_later = Feeder(), [None] * PARAM_LEAD
    memories, model = (Memories(ARCH, np.random.default_rng(7)) for _ in range(2))
    ports = await start(dut, "post__", pass_valid=0)
    for name in READ_PORTS:
        Memory(ports, lambda address, name=name: memories.word(
            name, min(address, memories.depth(name) - 1)),
               [(f"{name}_addr", f"{name}_data")])
    cycles, score_slot = feeder.cycles(), None
    while feeder.finished < len(feeder.program) or score_slot is not None:
        record, counts = next(cycles)
        counts_later.append(counts)
        counts = counts_later.pop(0)
        noise = np.random.randint(0, 1 << ARCH.count_bits, NUMBERS)
        ports.set(pass_valid=record is not None,
                  counts=pack(noise if counts is None else counts.ravel(), ARCH.count_bits))
        if record is not None:
            ports.set(pass_=record)
        await ports.edge()
        if score_slot is not None:
            width = ARCH.rows * score_shape(ARCH).width
            minima = ports.get("minima") >> score_slot * width & (1 << width) - 1
            assert minima == pack(model.minima[score_slot], score_shape(ARCH).width)
            score_slot = None
        wrote = [apply_write(ports, memories.hmem, "hmem_we", "hmem_addr", "hmem_data"),
                 apply_write(ports, memories.bmem, "bmem_we", "bmem_addr", "bmem_data"),
                 apply_write(ports, memories.resid, "resid_we", "resid_write_addr",
                             "resid_write_data", ARCH.resid_bits)]
        assert not any(wrote) or ports.get("tag") == feeder.finished
        if ports.get("done"):
            opcode, fields = feeder.program[feeder.finished]
            model.run(opcode, fields, feeder.counts[feeder.finished])
            for name in ("hmem", "bmem", "resid"):
                assert np.array_equal(getattr(model, name), getattr(memories, name)), fields
            if opcode is Opcode.MM_SCORE:
                score_slot = fields["slot"]
            feeder.finished += 1
    for (slot, tile), expected in model.scores.items():
        ports.set(score_addr=slot * ARCH.score_tiles + tile)
        for _ in range(3):
            await ports.edge()
        assert ports.get("score_data") == pack(expected.ravel(), score_shape(ARCH).width)
