"""Build folders: byte-equal, checked, and never in the place of something else."""

import json

import pytest

from bivit.compiler import build
from bivit.compiler.build import BuildError, compile, load_build, resolve_target
from bivit.compiler.ir import checkpoint
from bivit.compiler.passes import lower
from bivit.hw.targets import TARGETS
from graphs import random_vit_graph


@pytest.fixture(scope="module", autouse=True)
def no_verilog():
    """These tests are not about Verilog, which takes long to generate."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "_verilog", lambda arch: f"// {arch.name}\n")
        yield


@pytest.fixture(scope="module")
def graph():
    return random_vit_graph(1, embed_dim=12)


@pytest.fixture
def path(tmp_path, graph):
    checkpoint.save(graph, tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


@pytest.fixture
def folder(tmp_path, path):
    compile(path, "zynq-7020", tmp_path / "build")
    return tmp_path / "build"


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes()
            for file in folder.rglob("*") if file.is_file()}


def test_a_build_is_what_it_says(folder, graph):
    assert set(contents(folder)) == {
        "accelerator.v", "program.bin", "program.asm", "checkpoint.safetensors", "manifest.json",
        "report.json", *(f"rom/{name}.hex" for name in
                         ("program", "weight", "thr", "scale", "norm", "pos", "bend", "bias"))}
    found, program = load_build(folder), lower(graph, TARGETS["zynq-7020"])
    assert found.words == program.words and found.constants == program.constants
    assert found.arch == TARGETS["zynq-7020"]
    assert found.manifest["input"] == {"shape": [1, 8, 8], "patch_size": 2, "tokens": 16,
                                       "pixels": 4}
    assert found.manifest["output"] == {"count": 10}
    assert len(found.manifest["executed"]) == len(found.words)
    assert json.loads((folder / "report.json").read_text())["cycles_per_image"] > 0
    listing = (folder / "program.asm").read_text()
    assert "MM_SCORE" in listing and "blocks.0.attn.k" in listing


def test_equal_inputs_give_equal_bytes(tmp_path, path, folder):
    compile(path, "zynq-7020", tmp_path / "other")
    assert contents(folder) == contents(tmp_path / "other")


def test_every_changed_file_is_refused(folder):
    for name, data in contents(folder).items():
        (folder / name).write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
        with pytest.raises(BuildError, match=name.replace(".", r"\.")):
            load_build(folder)
        (folder / name).write_bytes(data)
    load_build(folder)


def test_changed_files_on_request(folder):
    weights = (folder / "rom" / "weight.hex").read_text().split("\n")
    weights[0] = f"{int(weights[0], 16) ^ 1:0{len(weights[0])}x}"
    (folder / "rom" / "weight.hex").write_text("\n".join(weights))
    before = load_build(folder, ignore_hashes=True).constants["weight"][0]
    assert before == int(weights[0], 16)


def test_either_copy_of_the_program_counts_when_changed(folder):
    words = load_build(folder).words
    data = (folder / "program.bin").read_bytes()
    (folder / "program.bin").write_bytes(bytes([data[0] ^ 16]) + data[1:])
    assert load_build(folder, ignore_hashes=True).words == [words[0] ^ 16, *words[1:]]
    (folder / "program.bin").write_bytes(data)
    (folder / "rom" / "program.hex").write_text(
        "".join(f"{word:088x}\n" for word in [words[0] ^ 32, *words[1:]]))
    assert load_build(folder, ignore_hashes=True).words == [words[0] ^ 32, *words[1:]]


def test_missing_file(folder):
    (folder / "rom" / "thr.hex").unlink()
    with pytest.raises(BuildError, match=r"thr\.hex"):
        load_build(folder)


def test_no_folder(tmp_path):
    with pytest.raises(BuildError, match="nowhere"):
        load_build(tmp_path / "nowhere")


def test_older_build_is_replaced_only_on_request(path, folder):
    before = contents(folder)
    with pytest.raises(BuildError, match="older build"):
        compile(path, "odd", folder)
    assert contents(folder) == before
    compile(path, "odd", folder, overwrite=True)
    assert load_build(folder).arch.name == "odd"


@pytest.mark.parametrize("overwrite", (False, True))
def test_other_things_stay(path, folder, overwrite, tmp_path):
    (folder / "notes.txt").write_text("mine")
    before = contents(folder)
    with pytest.raises(BuildError, match=r"something else.*notes\.txt"):
        compile(path, "odd", folder, overwrite=overwrite)
    assert contents(folder) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["build", "net.safetensors"]


def test_a_folder_is_looked_through_up_to_the_first_other_file(path, tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "notes.txt").write_text("mine")

    def walk(folder, pattern):
        yield folder / "notes.txt"
        pytest.fail("looked on")

    monkeypatch.setattr(type(tmp_path), "rglob", walk)
    with pytest.raises(BuildError, match=r"something else.*notes\.txt"):
        compile(path, "odd", tmp_path / "disk")


def test_nothing_is_left_after_a_refusal(path, tmp_path):
    arch = resolve_target("odd")
    (tmp_path / "small.toml").write_text(
        f"rows = {arch.rows}\ncols = {arch.cols}\nlanes = {arch.lanes}\nweight_depth = 3\n")
    with pytest.raises(ValueError, match="more than target small has"):
        compile(path, tmp_path / "small.toml", tmp_path / "build")
    assert not (tmp_path / "build").exists()


@pytest.mark.parametrize("text, message", (
    ("rows = 3", "cols"), ("rows = 3\ncols = 2\nlanes = 8", "at most cols"),
    ("rows = 'a'\ncols = 2\nlanes = 8", "rows"), ("wheels = 4", "wheels"), ("rows = ", "target")))
def test_unusable_target_files(tmp_path, text, message):
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(BuildError, match=rf"mine\.toml.*{message}"):
        resolve_target(tmp_path / "mine.toml")


def test_unknown_target():
    with pytest.raises(BuildError, match="no target 'vax'"):
        resolve_target("vax")
