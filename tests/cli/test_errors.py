"""Bad input: exit status 2, one sentence, no traceback, nothing written."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from bivit.cli.main import main
from bivit.compiler.ir import checkpoint
from bivit.compiler.ir.ops import OPS
from graphs import random_vit_graph


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A small checkpoint, a build of it, images for it."""
    folder = tmp_path_factory.mktemp("good")
    checkpoint.save(random_vit_graph(1), folder / "net.safetensors")
    assert run("compile", folder / "net.safetensors", "-o", folder / "build", "--target",
               "tiny") == 0
    shape = tuple(random_vit_graph(1).input_shape)
    np.save(folder / "images.npy", np.zeros((2, *shape), np.uint8))
    return folder


def run(*arguments):
    """Exit status of the command line."""
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return exit_.value.code


def refused(capsys, *arguments, status=2):
    """Run, check that it was refused in one sentence with and without --json; the sentence."""
    capsys.readouterr()
    assert run(*arguments) == status
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("bivit: "), err
    assert "internal error" not in lines[0] and "Traceback" not in err
    assert run(*arguments, "--json") == status
    out, _ = capsys.readouterr()
    assert set(json.loads(out)) == {"error"}
    return lines[0]


def rewrite(path, *, version=None, tensors=None):
    """Change the metadata of a checkpoint, or add tensors, without mending the hash."""
    with safetensors.safe_open(path, "np") as file:
        content = json.loads(file.metadata()["bivit"])
        held = {name: file.get_tensor(name) for name in file.keys()}
    if version is not None:
        content["version"] = version
    safetensors.numpy.save_file(held | (tensors or {}), path, {"bivit": json.dumps(
        content, sort_keys=True, separators=(",", ":"))})


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    data = bytearray(path.read_bytes())
    data[-50] ^= 4
    path.write_bytes(data)


def nan(path):
    rewrite(path, tensors={"x/weight": np.array([1.0, np.nan], np.float32)})


def no_checkpoint(path):
    safetensors.numpy.save_file({"x": np.zeros(3, np.int8)}, path)


@pytest.mark.parametrize(("damage", "says"), [
    (truncate, "damaged"), (flip, "damaged"), (nan, "NaN"), (no_checkpoint, "no bivit checkpoint"),
    (lambda path: rewrite(path, version=7), "version 7"),
    (lambda path: path.unlink(), "No such file"),
    (lambda path: path.write_bytes(b""), "damaged"),
    (lambda path: path.write_text("not a checkpoint, only some text"), "damaged"),
], ids=["truncated", "flipped", "nan", "foreign", "version", "missing", "empty", "text"])
def test_checkpoint(good, tmp_path, capsys, damage, says):
    path = tmp_path / "net.safetensors"
    shutil.copy(good / "net.safetensors", path)
    damage(path)
    line = refused(capsys, "compile", path, "-o", tmp_path / "build", "--target", "tiny")
    assert says in line and str(path) in line
    assert not (tmp_path / "build").exists()


def test_unsupported_layer(tmp_path, capsys, monkeypatch):
    graph = random_vit_graph(1)
    nodes = [dataclasses.replace(node, op="pick") if node.op == "select" else node
             for node in graph.nodes]
    with monkeypatch.context() as patch:
        patch.setitem(OPS, "pick", OPS["select"])
        checkpoint.save(dataclasses.replace(graph, nodes=tuple(nodes)), tmp_path / "net")
    line = refused(capsys, "compile", tmp_path / "net", "-o", tmp_path / "build")
    assert "layer select (pick)" in line
    assert not (tmp_path / "build").exists()


@pytest.mark.parametrize(("parameters", "says"), [
    ("hmem_depth = 1", "hmem_depth"), ("count_bits = 2", "count_bits"),
    ("rows = 99", "rows"), ("rows = 'many'", "rows"), ("speed = 9", "speed"),
    ("rows = ", "toml"), ("rows = true", "rows"), ("name = 5", "name"),
    ("program_depth = 65537", "program_depth"), ("weight_depth = 100_000_000", "weight_depth"),
    ("resid_depth = 65537", "resid_depth"), ("pv_depth = 4097", "pv_depth"),
    ("score_tiles = 4096", "score_tiles"), ("lanes = 1_000_000_000", "lanes"),
    ("count_bits = 200", "count_bits"), ("acc_bits = 200", "acc_bits"),
    ("pop_stages = 1000", "pop_stages"), ("queue_depth = 100_000", "queue_depth"),
])
def test_target(good, tmp_path, capsys, parameters, says):
    target = tmp_path / "small.toml"
    lines = ["rows = 2", "cols = 4", "lanes = 16"]
    kept = [line for line in lines if line.split()[0] != parameters.split()[0]]
    target.write_text("\n".join([*kept, parameters]) + "\n")
    line = refused(capsys, "compile", good / "net.safetensors", "-o", tmp_path / "build",
                   "--target", target)
    assert says in line
    assert not (tmp_path / "build").exists()


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_stall_seed(good, capsys, seed):
    assert run("simulate", good / "build", "--stall-seed", seed) == 2
    assert "--stall-seed" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["nonsense", "missing.toml", ""])
def test_unknown_target(good, tmp_path, capsys, target):
    line = refused(capsys, "compile", good / "net.safetensors", "-o", tmp_path / "build",
                   "--target", target)
    assert target in line
    assert not (tmp_path / "build").exists()


def test_folder_that_holds_something_else(good, tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("years of work")
    for more in ((), ("--overwrite",)):
        line = refused(capsys, "compile", good / "net.safetensors", "-o", tmp_path, "--target",
                       "tiny", *more)
        assert str(tmp_path) in line
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_folder_is_a_file(good, tmp_path, capsys):
    (tmp_path / "build").write_text("a file")
    refused(capsys, "compile", good / "net.safetensors", "-o", tmp_path / "build")
    assert (tmp_path / "build").read_text() == "a file"


@pytest.mark.parametrize("name", ["accelerator.v", "program.bin", "checkpoint.safetensors",
                                  "manifest.json"])
@pytest.mark.parametrize("command", ["report", "simulate"])
def test_changed_build(good, tmp_path, capsys, command, name):
    shutil.copytree(good / "build", tmp_path / "build")
    flip(tmp_path / "build" / name)
    arguments = () if command == "report" else ("--engine", "iss", "--input", good / "images.npy")
    line = refused(capsys, command, tmp_path / "build", *arguments)
    assert name in line


@pytest.mark.parametrize("command", ["report", "simulate"])
def test_no_build(tmp_path, capsys, command):
    assert "absent" in refused(capsys, command, tmp_path / "absent")
    refused(capsys, command, tmp_path)


@pytest.mark.parametrize(("images", "says"), [
    (np.zeros((2, 1, 8, 8), np.float32), "float32"), (np.zeros((2, 1, 9, 8), np.uint8), "9"),
    (np.zeros((1, 8, 8), np.uint8), "(1, 8, 8)"), (np.zeros((0, 1, 8, 8), np.uint8), "no images"),
    (None, "No such file"), (b"some text", "npy"),
], ids=["type", "shape", "dimensions", "none", "missing", "text"])
def test_images(good, tmp_path, capsys, images, says):
    path = tmp_path / "images.npy"
    if isinstance(images, bytes):
        path.write_bytes(images)
    elif images is not None:
        np.save(path, images)
    line = refused(capsys, "simulate", good / "build", "--engine", "iss", "--input", path)
    assert says in line and str(path) in line


def test_more_images_than_there_are(good, capsys):
    refused(capsys, "simulate", good / "build", "--engine", "iss", "--images", "361")


def test_no_compiler(good, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    line = refused(capsys, "simulate", good / "build", "--input", good / "images.npy")
    assert "compiler" in line


@pytest.mark.parametrize("arguments", [
    ("compile",), ("compile", "x"), ("simulate", "x", "--engine", "fpga"), ("bogus",),
    ("simulate", "x", "--images", "0"), ("report", "x", "--frobnicate"),
    ("train", "mnist", "-o", "x"),
])
def test_usage(capsys, arguments):
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("bivit: ") and len(err.splitlines()) == 1


def test_defect_is_no_traceback(good, capsys, monkeypatch):
    import bivit.sim.report

    def fail(folder):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(bivit.sim.report, "report", fail)
    assert run("report", good / "build") == 3
    out, err = capsys.readouterr()
    assert out == "" and "ZeroDivisionError" in err and "--debug" in err and "Traceback" not in err
    with pytest.raises(ZeroDivisionError):
        main(["report", str(good / "build"), "--debug"])


@pytest.mark.parametrize("option, name, words", [
    ("--html", "missing/page.html", ("missing", "is no folder")),
    ("--html", ".", ("is a folder",)),
    ("--html", "build/page.html", ("build folder", "elsewhere")),
    ("--trace", "trace.txt", ("trace.txt", ".json.gz"))])
def test_files_of_a_report(good, capsys, option, name, words):
    line = refused(capsys, "report", good / "build", option, good / name)
    assert all(word in line for word in words)


def test_one_file_cannot_be_two(good, capsys):
    line = refused(capsys, "report", good / "build", "--html", good / "x.json", "--trace",
                   good / "x.json")
    assert "both" in line and not (good / "x.json").exists()


def test_a_folder_that_is_no_build(tmp_path, capsys):
    line = refused(capsys, "simulate", tmp_path, "--engine", "iss")
    assert "is no build folder" in line and "manifest.json" in line


def test_interrupted(good, capsys, monkeypatch):
    import bivit.sim.report

    def interrupt(folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(bivit.sim.report, "report", interrupt)
    capsys.readouterr()
    assert run("report", good / "build") == 130
    out, err = capsys.readouterr()
    assert out == "" and err.strip() == "bivit: stopped"


@pytest.mark.parametrize("text, said", [
    ("latency=0", "'latency=0' says nothing"), ("speed=3", "'speed=3' says nothing"),
    ("latency=9", "has no external memory")])
def test_memory(good, capsys, text, said):
    assert run("simulate", good / "build", "--memory", text) == 2
    assert said in capsys.readouterr().err


def test_synth_refuses_devices_and_builds(capsys, good, tmp_path):
    sentence = refused(capsys, "synth", good / "build", "--device", "xc9000")
    assert "there is no device 'xc9000'; take one of ecp5-25f, " in sentence
    sentence = refused(capsys, "synth", tmp_path, "--device", "ecp5-85f")
    assert "is no build folder" in sentence
    sentence = refused(capsys, "synth", good / "build", "--device", "ecp5-85f", "--vivado",
                       tmp_path / "vivado")
    assert "Vivado does not know the device 'ecp5-85f'; take one of zynq-7020, k26" in sentence
    assert not (tmp_path / "vivado").exists()
