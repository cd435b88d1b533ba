"""The driver against the board's model, on lines that fail: no wrong logits, always an end."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bivit.host.board import Board, ImageRefused, WrongBoard
from bivit.host.faults import FaultyPort
from bivit.host.session import NoAnswer, Refused, Session
from bivit.hw.blocks.registers import ADDRESSES, ID
from bivit.hw.board.identity import target_hash
from bivit.hw.board.protocol import (
    MAX_WORDS,
    FrameReader,
    Kind,
    Status,
    frame_bytes,
)
from bivit.hw.memories import constant_order
from bivit.hw.targets import TARGETS
from board_model import BoardModel, logits_of

ARCH = TARGETS["tiny"]
NETWORK = 0x0123_4567_89AB_CDEF


class ModelPort:
    """A line with the board's model at its end."""

    name, baud = "model", 1_000_000

    def __init__(self, model):
        self.model, self._heard = model, b""

    def write(self, data):
        self._heard += self.model.feed(data)

    def read(self, seconds):
        heard, self._heard = self._heard, b""
        return heard


def connected(model, seed=None, rate=0.0):
    port = ModelPort(model)
    return Board(Session(port if seed is None else FaultyPort(port, seed=seed, rate=rate)))


def signed(values):
    return [value - (value >> 31 << 32) for value in values]


def image(rng, length):
    return bytes(rng.choice((0, 0x7D, 0x7E, 255, rng.randrange(256))) for _ in range(length))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255),
                          st.lists(st.integers(0, 2**32 - 1), max_size=MAX_WORDS))),
       st.randoms(use_true_random=False))
def test_frames_there_and_back_in_pieces(frames, rng):
    data = b"".join(frame_bytes(*frame) for frame in frames)
    reader, found = FrameReader(), []
    while data:
        cut = rng.randrange(1, 40)
        found += reader.feed(data[:cut])
        data = data[cut:]
    assert [tuple(frame) for frame in found] == [
        (kind, sequence, tuple(words)) for kind, sequence, words in frames]


@settings(deadline=None)
@given(st.binary(max_size=60), st.binary(max_size=3000))
def test_in_step_after_garbage(garbage, more):
    reader = FrameReader()
    frame = frame_bytes(Kind.READ, 7, [0x7E7D7E7D])
    assert reader.feed(garbage + b"\x7e" + frame)[-1].words == (0x7E7D7E7D,)
    reader.feed(more)
    assert reader.feed(b"\x7e" + frame)[-1].sequence == 7


@settings(deadline=None)
@given(st.data())
def test_every_damaged_bit_is_seen(data):
    words = data.draw(st.lists(st.integers(0, 2**32 - 1), max_size=5))
    frame = bytearray(frame_bytes(Kind.DATA, 3, words))
    frame[data.draw(st.integers(1, len(frame) - 2))] ^= 1 << data.draw(st.integers(0, 7))
    assert FrameReader().feed(bytes(frame)) == []


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32), rate=st.sampled_from([0.0, 0.001, 0.005, 0.02, 0.1]),
       count=st.sampled_from([1, 10, 120, 121, 300]), slow=st.integers(0, 3),
       fails=st.sets(st.integers(0, 4), max_size=3))
def test_no_wrong_logits_on_a_failing_line(seed, rate, count, slow, fails):
    rng = random.Random(seed)
    model = BoardModel(ARCH, network=NETWORK, count=count, slow=slow, fails=fails)
    board, answered = connected(model, seed, rate), 0
    for _ in range(4):
        data = image(rng, 4 * rng.choice([1, 16, 130]))
        try:
            logits = board.classify(data, count)
        except (ImageRefused, NoAnswer) as reason:
            assert rate > 0 and str(reason)
            continue
        answered += 1
        assert logits == signed(logits_of(data, count))
    assert answered == 4 or rate >= 0.005


def test_moderate_faults_cost_time_and_no_image():
    answered = repeated = 0
    for seed in range(30):
        rng, model = random.Random(seed), BoardModel(ARCH, network=NETWORK)
        port = FaultyPort(ModelPort(model), seed=seed, rate=0.002)
        session = Session(port)
        board = Board(session)
        for _ in range(20):
            data = image(rng, 64)
            assert board.classify(data, 10) == signed(logits_of(data, 10))
            answered += 1
        repeated += session.repeated
        assert port.faults
    assert answered == 600 and repeated


class Deaf(ModelPort):
    """A line that loses everything the board says after some answers."""

    def __init__(self, model, answers):
        super().__init__(model)
        self.answers = answers

    def read(self, seconds):
        heard = super().read(seconds)
        self.answers -= bool(heard)
        return heard if self.answers >= 0 else b""


def test_a_board_that_falls_silent():
    session = Session(Deaf(BoardModel(ARCH, network=NETWORK), 3), attempts=3)
    board = Board(session)
    board.identify()
    with pytest.raises(NoAnswer, match="the board does not answer IDENTIFY, sent 3 times"):
        board.classify(bytes(64), 10)
    assert session.repeated == 4


def test_lost_answers_do_not_repeat_requests():
    class Lossy(ModelPort):
        lost = 0

        def read(self, seconds):
            heard = super().read(seconds)
            self.lost += 1
            return b"" if heard and self.lost % 2 else heard

    model = BoardModel(ARCH, network=NETWORK)
    board, data = Board(Session(Lossy(model))), bytes(range(64))
    board.identify()
    assert board.classify(data, 10) == signed(logits_of(data, 10))
    assert model.runs == 1


def test_errors_of_the_machine_and_a_power_cycle():
    model = BoardModel(ARCH, network=NETWORK, fails={0, 1})
    board, data = connected(model), bytes(8)
    board.identify()
    assert board.classify(data, 10) == signed(logits_of(data, 10)) and model.runs == 3
    model.synced = False
    assert board.classify(data, 10) == signed(logits_of(data, 10))
    model.fails = set(range(100))
    with pytest.raises(ImageRefused, match=r"^the board refused RESULT: the accelerator stopped "
                                           r"with an error \(code 1 at instruction 0\)$"):
        board.classify(data, 10)
    assert model.runs == 4 + 8


@pytest.mark.parametrize("position", [1, 2, 3])
def test_logits_of_something_else_are_refused(position):
    class Liar(BoardModel):
        def result(self, number):
            words = super().result(number)
            words[position] ^= 1
            return words

    board = connected(Liar(ARCH, network=NETWORK))
    board.identify()
    with pytest.raises(ImageRefused, match="names another image than the one that was sent"):
        board.classify(bytes(8), 10)


def test_data_that_arrive_changed_are_refused():
    class Liar(BoardModel):
        def data(self, position, *words):
            return super().data(position, words[0] ^ 1, *words[1:])

    board = connected(Liar(ARCH, network=NETWORK))
    board.identify()
    with pytest.raises(ImageRefused, match="has taken other data than were sent"):
        board.classify(bytes(8), 10)


def test_another_count_of_logits_is_refused():
    board = connected(BoardModel(ARCH, network=NETWORK, count=9))
    board.identify()
    with pytest.raises(ImageRefused, match="gives 9 logits and the network has 10"):
        board.classify(bytes(8), 10)


@pytest.mark.parametrize("seed", range(5))
def test_loading(seed):
    rng, arch = random.Random(seed), TARGETS["odd"]
    model = BoardModel(arch)
    board = connected(model, seed, 0.001)
    assert board.identify().target == target_hash(arch)
    with pytest.raises(ImageRefused, match="no network is loaded"):
        board.classify(bytes(8), 10)
    memories = [image(rng, 4 * rng.choice([0, 1, 128, 300])) for _ in constant_order]
    board.load(memories, NETWORK)
    assert model.memories == {name: data for name, data in
                              zip(constant_order, memories, strict=True) if data}
    assert board.identify().network == NETWORK
    assert board.classify(bytes(8), 10) == signed(logits_of(bytes(8), 10))
    assert board.read(ADDRESSES["ID"]) == ID


def test_fixed_weights_and_other_protocols():
    model = BoardModel(ARCH, network=NETWORK)
    board = connected(model)
    board.identify()
    with pytest.raises(Refused, match="refused MEMORY: its weights are in the bitstream") as error:
        board.load([bytes(4)], 1)
    assert error.value.status == Status.FIXED
    model.identify = lambda: [Status.OK, 2]
    with pytest.raises(WrongBoard, match="version 2 of the protocol and this bivit version 1"):
        board.identify()
