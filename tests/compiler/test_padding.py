"""Padding bits of the constant memories are found when they change."""

import pytest

from bivit.compiler.padding import find_changed_padding
from bivit.compiler.passes import lower
from bivit.hw.memories import memories
from bivit.hw.targets import TARGETS
from graphs import random_vit_graph
from network_graphs import random_headwise_graph, random_pyramid_graph, random_window_graph


def _changed(words, index, bit):
    return [word ^ (1 << bit if at == index else 0) for at, word in enumerate(words)]


@pytest.fixture(scope="module", params=["tiny", "odd"])
def build(request):
    arch = TARGETS[request.param]
    graph = random_vit_graph(3, embed_dim=14, num_heads=2, mlp_dim=11)
    return graph, arch, lower(graph, arch).constants


def test_a_build_has_its_padding(build):
    assert find_changed_padding(*build) is None


@pytest.mark.parametrize("make", (random_pyramid_graph, random_window_graph,
                                  random_headwise_graph))
def test_other_networks_have_their_padding(make):
    graph, arch = make(5, width=6, heads=2), TARGETS["odd"]
    constants = lower(graph, arch).constants
    assert find_changed_padding(graph, arch, constants) is None
    for memory in ("thr", "scale", "bend", "norm"):
        top = 1 << (memories(arch)[memory].width - 1)  # in column 4; a head has 3 channels
        changed = constants | {memory: [word ^ top for word in constants[memory]]}
        if constants[memory] != [0]:
            assert find_changed_padding(graph, arch, changed)[0] == memory


def test_every_bit_of_a_weight_word_is_parameter_or_padding(build):
    graph, arch, constants = build
    index = len(constants["weight"]) - 1  # of the head: 10 classes, 14 channels
    found = []
    for bit in range(arch.cols * arch.lanes):
        words = constants | {"weight": _changed(constants["weight"], index, bit)}
        found.append(find_changed_padding(graph, arch, words) == ("weight", index))
    columns = 10 % arch.cols or arch.cols
    last = 14 % (arch.chunks_per_word * arch.cols) or arch.chunks_per_word * arch.cols
    assert found == [column >= columns or lane >= last
                     for column in range(arch.cols) for lane in range(arch.lanes)]


def test_words_past_the_end(build):
    graph, arch, constants = build
    for memory, words in constants.items():
        longer = constants | {memory: [*words, 0, 4]}
        assert find_changed_padding(graph, arch, longer) == (memory, len(words) + 1)
        if words == [0]:
            continue
        shorter = constants | {memory: words[:-1]}
        assert find_changed_padding(graph, arch, shorter) == (memory, len(words) - 1)
