"""The instruction-set simulator against the machine element by element."""

import collections
import random

import numpy as np
import pytest

from bivit.hw.arch import Arch
from bivit.hw.encoding import decode, encode
from bivit.hw.isa import Opcode, RowOperation
from bivit.sim.constants import Constants
from bivit.sim.iss import EXECUTE, InstructionSimulator
from bivit.sim.machine import Machine
from bivit.sim.memory_state import A_MEMORIES, B_MEMORIES
from bivit.sim.observe import RESULT_OPCODES, read_results
from machine_model import MachineModel
from programs import input_stream, random_constants, random_program, unit_opcodes

IMAGES = 2
DEPTHS = {"weight_depth": 512, "bmem_depth": 512, "hmem_depth": 512, "resid_depth": 512,
          "vmem_depth": 512, "pmem_depth": 512, "pos_depth": 512, "pv_depth": 16}
ARCHS = {arch.name: arch for arch in (
    Arch(name="tiny", rows=2, cols=4, lanes=16, post_rows=1, **DEPTHS),
    Arch(name="odd", rows=3, cols=7, lanes=24, post_rows=2, **DEPTHS),
    Arch(name="flat", rows=4, cols=4, lanes=12, post_rows=4, resid_bits=13, score_slots=2,
         count_bits=20, **DEPTHS),
    Arch(name="stem", rows=3, cols=5, lanes=16, post_rows=2, stem_macs=4, smem_depth=512, **DEPTHS),
    Arch(name="stem-simd", rows=3, cols=5, lanes=16, post_rows=2, stem_macs=12, stem_simd=4,
         smem_depth=512, **DEPTHS),
)}


class Comparison:
    """Both machines with the same random memories, one instruction after another."""

    def __init__(self, arch, constants, streams, seed):
        self.machine = Machine(arch, Constants(arch, constants))
        self.machine.start(streams)
        self._fill(np.random.default_rng(seed))
        self.models = [MachineModel(arch, constants, self.machine.state, image, stream)
                       for image, stream in enumerate(streams)]
        self.changes = collections.Counter()

    def _fill(self, random):
        half = 1 << self.machine.arch.resid_bits - 1
        for name, array in self.machine.state.arrays().items():
            limits = {"pv": (0, 40), "sums": (-2**30, 2**30), "smem": (-2**17, 2**17)}
            if name == "imem" and self.machine.arch.stem_macs:
                assert not array.any()
            elif name in (*A_MEMORIES, *B_MEMORIES.values()):
                array[...] = random.integers(0, 2, array.shape)
            else:
                array[...] = random.integers(*limits.get(name, (-half, half)), array.shape)
                array[random.integers(0, 4, array.shape) == 0] = 0

    def run(self, word):
        """Execute an instruction, compare everything."""
        opcode, fields = decode(word)
        before = {name: getattr(self.models[0], name).copy() for name in self.models[0].names}
        EXECUTE[opcode](self.machine, fields)
        for image, model in enumerate(self.models):
            model.run(opcode, fields)
            for name in model.names:
                found = getattr(self.machine.state, name)[image]
                assert np.array_equal(found, getattr(model, name)), (opcode, name, fields)
        self.changes[opcode] += any(not np.array_equal(before[name], getattr(self.models[0], name))
                                    for name in self.models[0].names)
        if opcode in RESULT_OPCODES:
            self._check_results(opcode, fields)

    def _check_results(self, opcode, fields):
        results = read_results(self.machine.arch, opcode, fields, self.machine.state)
        assert ("observe_bits" in results) == bool(fields.get("to_bits"))
        for image, model in enumerate(self.models):
            for key, rectangle in results.items():
                _, rows, columns = rectangle.shape
                for (row, column), value in model.made[key].items():
                    if column < columns:
                        assert rectangle[image, row, column] == value, (key, row, column, fields)
                assert {(row, columns - 1) for row, _ in model.made[key]} <= set(model.made[key])


@pytest.mark.parametrize("name", ARCHS)
def test_random_programs(name):
    arch, changes = ARCHS[name], collections.Counter()
    for seed in range(10):
        rng = random.Random(f"{name}/{seed}")
        program = random_program(rng, arch, length=50)
        streams = [input_stream(rng, program) for _ in range(IMAGES)]
        comparison = Comparison(arch, random_constants(rng, arch), streams, seed)
        for word in program[:-1]:
            comparison.run(word)
        for image, model in enumerate(comparison.models):
            outputs = [part[image] for part in comparison.machine.outputs]
            assert np.concatenate([[], *outputs]).tolist() == model.outputs
        changes += comparison.changes
    silent = {Opcode.MM_SCORE, Opcode.OUTPUT, Opcode.FETCH}
    assert min(changes[opcode] for opcode in set(unit_opcodes(arch)) - silent) > 5


@pytest.mark.parametrize("name", ARCHS)
@pytest.mark.parametrize("opcode", [Opcode.NORM_BITS, Opcode.NORM_CODES, Opcode.NORM_NUMBERS])
def test_normalisation_with_padding_between_channels(name, opcode):
    arch = ARCHS[name]
    comparison = Comparison(arch, random_constants(random.Random(name), arch), [b""], 1)
    padding = slice(arch.cols - 1, None)  # of tiles 0 and 1; the last one has two channels
    words = 2 * arch.drain_cycles
    for numbers in (comparison.machine.state.vmem[0], comparison.models[0].vmem):
        numbers[:words, :, padding] = 0
    fields = {} if opcode is Opcode.NORM_BITS else {"shift": 1}
    comparison.run(encode(
        opcode, src=1, n_tiles=3, channels=2 * arch.cols, span=2 * arch.cols + 2, eps=9,
        groups=arch.drain_cycles, dst_addr=99, param_addr=3, **fields,
        **{"k_words": 2} if opcode is Opcode.NORM_CODES else {},
        **{"sat": 12} if opcode is Opcode.NORM_NUMBERS else {}))
    assert comparison.changes[opcode]


def test_sums_wrap():
    arch = ARCHS["odd"]
    comparison = Comparison(arch, {"norm": [1]}, [b""], 1)
    for start, expected in ((2**39 - 1, -2**39), (-2**39, -2**39 + 1)):
        comparison.machine.state.sums[0, 0, 0, 0] = start
        comparison.machine.state.vmem[0, 0, 0, 0] = 1
        EXECUTE[Opcode.ROWS_ADD](comparison.machine, decode(encode(
            Opcode.ROWS_ADD, src=1, n_tiles=1, sum_tiles=1, operation=RowOperation.ADD,
            count_0=1, count_1=1, count_2=1, count_3=1))[1])
        assert comparison.machine.state.sums[0, 0, 0, 0] == expected


def test_a_batch_is_image_after_image():
    """Images of a batch give what they give alone."""
    arch, rng = ARCHS["tiny"], random.Random(3)
    program = random_program(rng, arch, length=60)
    streams = [input_stream(rng, program) for _ in range(4)]
    constants = random_constants(rng, arch)
    observe = [pc for pc, word in enumerate(program) if decode(word)[0] in RESULT_OPCODES]

    def run(streams):
        return InstructionSimulator(arch, program, constants).run(streams, observe=observe)

    together, alone = run(streams), [run([stream]) for stream in streams]
    assert {pc for pc, _ in together.observed} == set(observe)
    assert {key for _, key in together.observed} == {"observe", "observe_bits"}
    for key, results in together.observed.items():
        assert np.array_equal(results, np.concatenate([one.observed[key] for one in alone]))
