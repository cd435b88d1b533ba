"""The check can fail: one changed bit in any file that the machine reads, or in its Verilog."""

import re
import shutil

import numpy as np
import pytest

from bivit.cli.main import main
from bivit.compiler.build import BuildError, compile
from bivit.compiler.ir import checkpoint
from bivit.hw.isa import INSTR_BITS
from bivit.hw.memories import constant_memories, memories
from bivit.hw.targets import TARGETS
from bivit.sim.simulate import simulate
from graphs import random_image, random_vit_graph
from network_graphs import random_pyramid_graph, random_window_graph

TARGET = "tiny"
IMAGES = 3
ROMS = [f"rom/{name}.hex" for name in constant_memories(TARGETS[TARGET])]


def build_of(graph, folder):
    """A build and images for it."""
    checkpoint.save(graph, folder / "net.safetensors")
    compile(folder / "net.safetensors", TARGET, folder / "build")
    images = np.stack([random_image(i, graph.input_shape) for i in range(IMAGES)])
    np.save(folder / "images.npy", images)
    return folder / "build", images


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A small vision transformer."""
    graph = random_vit_graph(11, depth=1, embed_dim=13, num_heads=2, mlp_dim=21)
    return build_of(graph, tmp_path_factory.mktemp("good"))


OTHERS = {"rom/bend.hex": random_pyramid_graph, "rom/bias.hex": random_window_graph}
"""Networks for the memories that a plain vision transformer does not use."""


def flip(path, word, bit):
    """Flip one bit of a word of a ROM file or of the program."""
    if path.suffix == ".bin":
        data = bytearray(path.read_bytes())
        data[word * (INSTR_BITS // 8) + bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
    else:
        lines = path.read_text().split()
        lines[word] = f"{int(lines[word], 16) ^ 1 << bit:0{len(lines[word])}x}"
        path.write_text("".join(f"{line}\n" for line in lines))


def live_change(build, images, name):
    """Flip a bit of a file that changes what the simulator of instructions computes."""
    path = build / name
    original = path.read_bytes()
    width = memories(TARGETS[TARGET])[path.stem].width
    words = len(original) // (width // 8) if path.suffix == ".bin" else len(original.split())
    random = np.random.default_rng(list(name.encode()))
    for _ in range(200):
        flip(path, int(random.integers(words)), int(random.integers(width)))
        try:
            report = run(build, images, "iss")
        except BuildError as error:
            assert "padding bit" in str(error)
        else:
            if report.mismatches and report.error is None:
                return report
        path.write_bytes(original)
    raise AssertionError(f"no bit of {name} is live")


def run(build, images, engine):
    """Simulate a changed build."""
    return simulate(build, images, engine=engine, observe=len(images), ignore_hashes=True)


@pytest.mark.parametrize("name", ["program.bin", *ROMS])
def test_a_changed_bit_fails_the_check(good, tmp_path, name):
    if name in OTHERS:
        (tmp_path / "good").mkdir()
        good = build_of(OTHERS[name](1), tmp_path / "good")
    build, images = good
    shutil.copytree(build, tmp_path / "build")
    expected = live_change(tmp_path / "build", images, name)
    with pytest.raises(BuildError, match=f"{name} was changed"):
        simulate(tmp_path / "build", images, engine="rtl")
    report = run(tmp_path / "build", images, "rtl")
    assert not report.passed
    points = [entry.split("[")[0] for entry in (report.first_mismatch, expected.first_mismatch)]
    assert points[0] in observation_points(images, build)
    if "program" not in name:  # a changed program may also break its own synchronisation
        assert report.first_mismatch == expected.first_mismatch
        assert report.cycles_per_image == report.predicted_cycles_per_image


def observation_points(images, build):
    """Names that a first mismatch may have."""
    from bivit.compiler.build import load_build

    return [entry["name"] for entry in load_build(build).manifest["observations"]]


def exit_status(*arguments):
    """Of the command line."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return caught.value.code


def test_exit_statuses(good, tmp_path, capsys):
    build, images = good
    command = ["simulate", tmp_path / "build", "--input", build.parent / "images.npy", "--engine",
               "rtl", "--check"]
    shutil.copytree(build, tmp_path / "build")
    assert exit_status(*command) == 0
    expected = live_change(tmp_path / "build", images, "rom/thr.hex")
    assert exit_status(*command) == 2
    capsys.readouterr()
    assert exit_status(*command, "--ignore-hashes") == 1
    assert expected.first_mismatch in capsys.readouterr().out


def replace_in_module(text, module, pattern, replacement):
    """Verilog with the first `pattern` inside a module replaced."""
    start = re.search(rf"^module {module}\(", text, re.M).start()
    end = text.index("endmodule", start)
    body, count = re.subn(pattern, replacement, text[start:end], count=1)
    assert count == 1, f"{module} has no {pattern}"
    return text[:start] + body + text[end:]


@pytest.mark.slow
@pytest.mark.parametrize("module, pattern, replacement", [
    ("bivit_compare_column", r"(assign \S+ = )(.*) <= ", r"\1\2 < "),
    ("bivit_row_minimum", r"\?", "== 0 ?"),
    ("bivit_arithmetic_lane", r" - ", " + "),
])
def test_changed_verilog_fails_the_check(good, tmp_path, module, pattern, replacement):
    build, images = good
    shutil.copytree(build, tmp_path / "build")
    path = tmp_path / "build" / "accelerator.v"
    path.write_text(replace_in_module(path.read_text(), module, pattern, replacement))
    with pytest.raises(BuildError, match="accelerator.v was changed"):
        simulate(tmp_path / "build", images)
    report = run(tmp_path / "build", images, "rtl")
    assert not report.passed
    assert report.first_mismatch.split("[")[0] in observation_points(images, build)
