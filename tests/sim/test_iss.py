"""The instruction-set simulator on programs written by hand."""

import numpy as np
import pytest

from bivit.compiler.ir import numeric
from bivit.hw.encoding import encode
from bivit.hw.isa import ASource, BSource, Opcode
from bivit.hw.targets import TARGETS
from bivit.sim.iss import InstructionSimulator, MachineError
from bivit.sim.stream import image_stream

ARCHS = [TARGETS[name] for name in ("tiny", "odd", "zynq-7020")]
LOAD = {"dst_addr": 0, "row": 0, "tokens": 1, "pixels": 3, "k_words": 1, "last": 1}


def words_of(bits):
    """Bits (words, width), lowest first, to integers."""
    return [int("".join(map(str, word[::-1])), 2) for word in np.asarray(bits)]


def weight_words(arch, weights):
    """Odd weights (outputs, inputs) as planes; inputs fill the lanes of each word in order."""
    outputs, inputs = weights.shape
    tiles, k_words = -(-outputs // arch.cols), -(-inputs // arch.lanes)
    codes = np.zeros((tiles * arch.cols, k_words * arch.lanes), np.int64)
    codes[:outputs, :inputs] = (weights + 255) // 2
    words = []
    for tile in codes.reshape(tiles, arch.cols, k_words, arch.lanes):
        for plane in range(8):
            words += words_of((tile >> plane & 1).transpose(1, 0, 2).reshape(k_words, -1))
    return words


def parameter_words(arch, scale, bias):
    """SCALE words."""
    words = []
    for start in range(0, len(scale), arch.cols):
        word = 0
        for column, (s, b) in enumerate(zip(scale[start:start + arch.cols],
                                            bias[start:start + arch.cols], strict=True)):
            word |= (int(s) & 0xFFFF | (int(b) & 0xFFFFFF) << 16) << 40 * column
        words.append(word)
    return words


@pytest.mark.parametrize("arch", ARCHS, ids=lambda arch: arch.name)
def test_pixels_times_weights(arch):
    random = np.random.default_rng(1)
    inputs, outputs, tokens = arch.lanes + 3, 2 * arch.cols + 1, arch.rows
    weights = 2 * random.integers(0, 256, (outputs, inputs)) - 255
    scale = random.integers(-50, 50, outputs)
    bias = random.integers(-2**15, 2**15, outputs)
    images = random.integers(0, 256, (3, tokens, inputs), dtype=np.uint8)
    constants = {"weight": weight_words(arch, weights),
                 "scale": parameter_words(arch, scale, bias)}
    program = [
        encode(Opcode.LOAD, dst_addr=5, row=0, tokens=tokens, pixels=inputs, k_words=2, last=1),
        encode(Opcode.MM_ACC, a_src=ASource.IMEM, a_addr=5, b_src=BSource.WEIGHT, b_addr=0,
               n_tiles=3, k_words=2, a_planes=8, b_planes=8, row_hi=arch.rows,
               base=inputs * 255 * 255, shift=2, sat=16, dst_addr=7),
        *(encode(Opcode.OUTPUT, src_addr=7, row=row, count=outputs) for row in range(tokens)),
        encode(Opcode.HALT),
    ]
    simulator = InstructionSimulator(arch, program, constants)
    streams = [np.pad(image, ((0, 0), (0, -inputs % 4))).tobytes() for image in images]
    expected = numeric.saturate(
        numeric.rescale(numeric.plane_dot(images, weights), scale, bias, 20), 16)
    result = simulator.run(streams, observe=[1])
    assert np.array_equal(result.logits, expected.reshape(3, -1))
    assert np.array_equal(result.observed[1, "observe"][..., :outputs], expected)
    assert np.array_equal(simulator.run(streams, batch=1).logits, result.logits)


def error_of(program, stream=bytes(4)):
    simulator = InstructionSimulator(TARGETS["tiny"], program, {})
    with pytest.raises(MachineError) as caught:
        simulator.run([stream])
    return caught.value.code, caught.value.program_counter


def test_errors_of_the_machine():
    halt = encode(Opcode.HALT)
    load = encode(Opcode.LOAD, **LOAD)
    assert error_of([load, 0]) == (1, 1)
    assert error_of([load]) == (1, 1)
    assert error_of([halt | 1 << 200]) == (2, 0)
    assert error_of([load, encode(Opcode.END), halt]) == (7, 1)
    assert error_of([encode(Opcode.LOAD, **LOAD, stage=1), halt]) == (8, 0)
    assert error_of([encode(Opcode.LOAD, **LOAD | {"tokens": 0}), halt]) == (4, 0)
    assert error_of([encode(Opcode.LOAD, **LOAD | {"row": 2}), halt]) == (4, 0)
    assert error_of([encode(Opcode.LOAD, **LOAD | {"pixels": 5}), halt]) == (5, 0)
    assert error_of([encode(Opcode.LOAD, **LOAD | {"last": 0}), halt]) == (5, 0)
    assert error_of([load, halt], bytes(8)) == (6, 0)


def test_memories_keep_their_contents_between_images():
    """An image that is not loaded finds the pixels of the one before, if the batch is 1."""
    arch = TARGETS["tiny"]
    weights = np.full((1, 3), 255)
    constants = {"weight": weight_words(arch, weights), "scale": [1]}
    program = [
        encode(Opcode.MM_ACC, a_src=ASource.IMEM, b_src=BSource.WEIGHT, n_tiles=1, k_words=1,
               a_planes=8, b_planes=8, row_hi=1, base=3 * 255 * 255, shift=1, sat=16),
        encode(Opcode.OUTPUT, count=1),
        encode(Opcode.LOAD, **LOAD),
        encode(Opcode.HALT),
    ]
    streams = [bytes([value] * 3 + [0]) for value in (255, 0, 128)]

    def value(pixel):
        return int(numeric.round_shift(3 * 255 * (2 * pixel - 255), 14))

    simulator = InstructionSimulator(arch, program, constants)
    assert simulator.run(streams, batch=1).logits[:, 0].tolist() == [value(0), value(255),
                                                                     value(0)]
    assert simulator.run(streams[:1]).logits[:, 0].tolist() == [value(128)]


def test_image_stream():
    image = np.arange(2 * 2 * 4, dtype=np.uint8).reshape(2, 2, 4)
    assert list(image_stream(image, 1)[:8]) == [0, 8, 0, 0, 1, 9, 0, 0]
    assert list(image_stream(image, 2)) == [0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15]
