"""Random programs for the vector unit, and the comparison with the model, bit for bit and cycle
for cycle."""

import copy

import numpy as np

from bivit.hw.arch import Arch
from bivit.hw.blocks.vector import settling, timing
from bivit.hw.isa import FORMATS, LEVELS, Opcode
from bivit.hw.memories import memories
from vector_bench import FIRST_TAG, run
from vector_model import VectorModel

NORMS = (Opcode.NORM_BITS, Opcode.NORM_CODES, Opcode.NORM_NUMBERS)

_DEPTHS = dict(resid_depth=64, vmem_depth=64, norm_depth=32, xmem_depth=64, hmem_depth=32,
               kmem_depth=32, sums_depth=256)
ARCHS = (
    Arch(name="odd", rows=3, cols=5, lanes=24, post_rows=2, **_DEPTHS),
    Arch(name="wide", rows=2, cols=5, lanes=12, post_rows=1, **_DEPTHS),
    Arch(name="square", rows=4, cols=4, lanes=16, post_rows=4, **_DEPTHS),
    Arch(name="narrow", rows=1, cols=3, lanes=4, resid_bits=6, **_DEPTHS),
)
"""Small machines whose memories have powers of two for depths, so that any address is legal."""
HIGH = Arch(name="high", rows=7, cols=8, lanes=32, post_rows=5, resid_bits=8, **_DEPTHS)
"""One with many rows, for those that are taken together."""


def random_walk(arch, words, rng, most=40):
    """Fields of a walk of at most `most` words in all."""
    counts = np.ones(LEVELS, int)
    for level in rng.permutation(LEVELS):
        counts[level] = rng.integers(1, max(2, min(5, most // (words * counts.prod()) + 1)))
    fields = {"src_addr": rng.integers(64), "src_row": rng.integers(arch.rows),
              "src_stride": rng.integers(8)}
    for level in range(LEVELS):
        fields |= {f"count_{level}": counts[level], f"blocks_{level}": rng.integers(4),
                   f"rows_{level}": rng.integers(arch.rows)}
    return fields


def random_run(arch, rng):
    """An innermost loop of rows behind each other, or every other one: to as many sums, to one, or
    one row to many."""
    rows, sums = ((1, 1), (2, 1), (1, 0), (0, 1))[rng.integers(4)]
    return {"count_0": rng.integers(1, 14), "count_1": rng.integers(1, 4), "count_3": 1,
            "blocks_0": 0, "rows_0": min(rows, arch.rows - 1), "sums_0": sums}


def random_destination(limit, rng):
    """Fields of a destination with blocks of `limit` rows."""
    segment = rng.choice([0, rng.integers(1, 9)])
    return {"dst_addr": rng.integers(64), "dst_row": rng.integers(limit),
            "dst_stride": rng.integers(12), "segment": segment,
            "segment_left": rng.integers(1, segment + 1) if segment else 0}


def random_fields(arch, opcode, rng):
    """Any legal instruction."""
    if opcode is Opcode.MOVE:
        words, to_keys = rng.integers(1, 4), rng.integers(2)
        fields = random_walk(arch, words, rng) | {"words": words, "to_keys": to_keys}
        if rng.random() < 0.7:
            fields |= {"count_0": rng.integers(1, 14), "count_1": rng.integers(1, 4),
                       "blocks_0": 0, "rows_0": min(1, arch.rows - 1)}
        fields |= random_destination(arch.keys_per_group if to_keys else arch.rows, rng)
        fields["src"] = rng.integers(2)
    elif opcode is Opcode.ROWS_ADD:
        tiles = rng.integers(1, 6)
        fields = random_walk(arch, tiles, rng) | {
            "src": rng.integers(2), "n_tiles": tiles, "sum_row": rng.integers(16),
            "sum_tiles": rng.integers(tiles, 6), "param_addr": rng.integers(32),
            "operation": rng.integers(3), "gelu": rng.random() < 0.2, "first": rng.integers(2)}
        fields |= {f"sums_{level}": rng.integers(3) for level in range(LEVELS)}
        if rng.random() < 0.7:
            fields |= random_run(arch, rng)
    elif opcode is Opcode.ROWS_OUT:
        fields = random_destination(arch.rows, rng) | {
            "kind": rng.integers(3), "count": rng.integers(1, 14), "sum_row": rng.integers(16),
            "sum_tiles": rng.integers(1, 6), "param_addr": rng.integers(32),
            "shift": rng.integers(4), "sat": rng.integers(1, arch.resid_bits + 1),
            "k_words": rng.integers(4)}
    elif opcode is Opcode.OUTPUT:
        fields = {"src": rng.integers(2), "src_addr": rng.integers(64),
                  "row": rng.integers(arch.rows), "count": rng.integers(1, 14)}
    else:
        tiles = rng.integers(1, 5)
        span = rng.integers((tiles - 1) * arch.cols + 1, tiles * arch.cols + 1)
        fields = {"src": rng.integers(2), "src_addr": rng.integers(64), "n_tiles": tiles,
                  "channels": span, "span": span, "groups": rng.integers(1, arch.drain_cycles + 1),
                  "param_addr": rng.integers(32), "dst_addr": rng.integers(64),
                  "eps": rng.choice([1, 5, 1000, 2**32 - 1])}
        if opcode is not Opcode.NORM_BITS:
            fields["shift"] = rng.integers(4)
        if opcode is Opcode.NORM_CODES:
            fields["k_words"] = rng.integers(4)
        if opcode is Opcode.NORM_NUMBERS:
            fields["sat"] = rng.integers(1, arch.resid_bits + 1)
    return {name: int(value) for name, value in fields.items()}


def random_model(arch, rng):
    """A model whose parameters are worth something for every instruction."""
    model = VectorModel(arch, rng)
    for numbers in (model.resid, model.vmem):
        _vary(numbers, 1 << (arch.resid_bits - 1), rng)
    words = len(model.scale)
    model.scale[::3] = rng.choice([-2**15, 2**15 - 1, 0, 1, 4096, -300], model.scale[::3].shape)
    for chosen in (rng.random(words) < 0.7, rng.random(words) < 0.3):
        model.bias[chosen] = rng.integers(-2**17, 2**17, (chosen.sum(), arch.cols))
        model.scale[chosen] = rng.integers(-300, 300, (chosen.sum(), arch.cols))
    folds = rng.random(words) < 0.8
    model.bias[folds, 0] = (model.bias[folds, 0] & ~0xFF) | rng.integers(0, arch.cols, folds.sum())
    return model


def _vary(numbers, limit, rng):
    """Rows of every kind: saturated, equal, one outlier, small, around where GELU bends."""
    kinds = (
        lambda part: rng.choice([-limit, limit - 1], part.shape),
        lambda part: np.full(part.shape, rng.choice([-limit, limit - 1, 0, 3])),
        lambda part: np.where(np.arange(part.size).reshape(part.shape) == 7, limit - 1, 0),
        lambda part: rng.integers(-2, 3, part.shape),
        lambda part: np.clip(part, -5000, 5000),
    )
    for start in range(0, len(numbers), 16):
        for lane in range(numbers.shape[1]):
            part = numbers[start:start + 16, lane]
            if choice := rng.integers(len(kinds) + 2):
                part[:] = kinds[choice % len(kinds)](part)


def random_program(model, opcodes, rng):
    """An instruction of each opcode that does not read what it writes; which of them must wait.

    The last writes of a LayerNorm overlap with the instruction behind it.
    """
    trial, program, waits, before = copy.deepcopy(model), [], set(), set()
    for index, opcode in enumerate(opcodes):
        while True:
            fields, state = random_fields(model.arch, opcode, rng), copy.deepcopy(trial)
            state.run(opcode, fields)
            if not state.reads & state.writes:
                break
        trial = state
        if before & trial.reads:
            waits.add(index)
        before = trial.writes if opcode in NORMS else set()
        program.append((opcode, fields))
    return program, waits


def check(model, program, *, waits=()):
    """Run unit and model; everything must be equal. Absent fields are 0. Returns the trace."""
    arch = model.arch
    program = [(opcode, dict.fromkeys(FORMATS[opcode], 0) | fields) for opcode, fields in program]
    contents = {name: model.words(name) for name in memories(arch)
                if name in ("resid", "vmem", "norm", "xmem", "hmem", "kmem")}
    trace = run(arch, contents, program, waits=waits)
    times = [timing(arch, opcode, fields) for opcode, fields in program]
    for index, (opcode, fields) in enumerate(program):
        model.run(opcode, fields)
        places = {(name, address) for name, address, _ in model.writes}
        own = [write for write in trace.writes if write[1] == FIRST_TAG + index]
        assert {write[2:] for write in own} == places, f"{index} {opcode}"
        assert not own or own[-1][0] == trace.dones[index]
        assert trace.dones[index] - trace.pops[index] == times[index][1], f"{index} {opcode}"
        if index and index not in waits:
            before = program[index - 1][0]
            assert (trace.pops[index] - trace.pops[index - 1]
                    == times[index - 1][0] + settling(arch, before, opcode)), f"{index} {opcode}"
    assert trace.beats == model.beats
    for name in contents:
        assert trace.words[name] == model.words(name), name
    return trace

