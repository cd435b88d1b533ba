"""Commands that work: one JSON object on stdout, tables for people, exit statuses 0 and 1."""

import gzip
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from bivit.cli import output
from bivit.cli.main import main
from bivit.compiler.ir import checkpoint
from bivit.sim.accounting import CAUSES
from graphs import random_image, random_vit_graph

PROGRESS = re.compile(r"bivit: \d+ of \d+: .+")
"""What may stand on stderr of a command that takes long."""


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A small network for images of 1 x 8 x 8, its build, three images."""
    folder = tmp_path_factory.mktemp("work")
    checkpoint.save(random_vit_graph(2), folder / "net.safetensors")
    np.save(folder / "images.npy", np.stack([random_image(i, (1, 8, 8)) for i in range(3)]))
    with pytest.raises(SystemExit) as exit_:
        main(["compile", str(folder / "net.safetensors"), "-o", str(folder / "build"),
              "--target", "tiny"])
    assert exit_.value.code == 0
    return folder


def answer(capsys, *arguments, status=0):
    """The JSON object that a command prints."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        main([*map(str, arguments), "--json"])
    out, err = capsys.readouterr()
    assert exit_.value.code == status, err
    assert out.count("\n") == 1
    return json.loads(out)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
@pytest.mark.parametrize("more", [(), ("--json",)])
def test_output_that_cannot_be_written(work, more):
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "bivit.cli", "report", work / "build", *more],
                              stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == "bivit: standard output: No space left on device\n"


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_output_that_nobody_reads(work, more):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-m", "bivit.cli", "report", work / "build", *more],
                          stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_compile_and_report(work, capsys, tmp_path):
    compiled = answer(capsys, "compile", work / "net.safetensors", "-o", tmp_path / "build",
                      "--target", "tiny")
    reported = answer(capsys, "report", work / "build")
    assert compiled | {"folder": ""} == reported | {"folder": ""}
    assert reported["target"] == "tiny" and reported["macs_per_cycle"] == 128
    assert set(reported["spent"]) == set(CAUSES)
    assert sum(reported["spent"].values()) == pytest.approx(reported["binary_cycles"])
    assert 0 < reported["utilization"] < 1
    assert {row["name"] for row in reported["layers"]} >= {"blocks.0.mlp.fc2", "head"}
    for memory in reported["memory"].values():
        assert 0 <= memory["peak"] <= memory["words"] <= memory["depth"]


def test_report_writes_what_it_is_asked_for(work, capsys, tmp_path):
    page, trace = tmp_path / "page.html", tmp_path / "trace.json.gz"
    asked = ("report", work / "build", "--html", page, "--trace", trace)
    found = answer(capsys, *asked)
    assert found == answer(capsys, "report", work / "build") | {"html": str(page),
                                                                "trace": str(trace)}
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    assert not list((work / "build").glob("*.html"))
    before = page.stat().st_mtime_ns
    assert "--overwrite" in answer(capsys, *asked, status=2)["error"]
    assert page.stat().st_mtime_ns == before
    assert answer(capsys, *asked, "--overwrite") == found
    assert page.stat().st_mtime_ns > before


def test_compile_takes_a_target_from_a_file(work, capsys, tmp_path):
    (tmp_path / "mine.toml").write_text("rows = 2\ncols = 4\nlanes = 8\n")
    compiled = answer(capsys, "compile", work / "net.safetensors", "-o", tmp_path / "build",
                      "--target", tmp_path / "mine.toml")
    assert compiled["macs_per_cycle"] == 64


def test_simulate(work, capsys):
    result = answer(capsys, "simulate", work / "build", "--engine", "iss", "--check", "--input",
                    work / "images.npy")
    assert result["images"] == result["observed_images"] == 3 and result["mismatches"] == 0
    assert result["checked"] and result["top1"] is None and len(result["classes"]) == 3


def test_simulate_on_digits(work, capsys):
    result = answer(capsys, "simulate", work / "build", "--engine", "iss", "--images", 5)
    assert result["images"] == 5 and not result["checked"] and 0 <= result["top1"] <= 1
    assert result["mismatches"] is None and result["passed"]


def test_a_mismatch_is_exit_status_1(work, capsys, monkeypatch):
    import bivit.sim.demo

    monkeypatch.setattr(bivit.sim.demo, "simulate_build", lambda folder, **options: {
        "mismatches": 1, "first_mismatch": "blocks.0.norm1[0, 0] of image 0"})
    result = answer(capsys, "simulate", work / "build", "--check", status=1)
    assert result["first_mismatch"].startswith("blocks.0.norm1")


def test_models(capsys):
    names = [row["name"] for row in answer(capsys, "models")["models"]]
    assert "bivit_digits" in names


@pytest.mark.parametrize("arguments", [
    ("report", "build"), ("report", "build", "--trace", "for_people.json"),
    ("simulate", "build", "--engine", "iss", "--input", "images.npy"),
    ("models",), ("compile", "net.safetensors", "-o", "again", "--target", "tiny"), ("--help",),
    (), ("compile", "--help"),
], ids=" ".join)
def test_for_people(work, arguments):
    done = subprocess.run([sys.executable, "-m", "bivit.cli", *arguments], cwd=work, text=True,
                          capture_output=True, env=os.environ | {"COLUMNS": "120"})
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert all(PROGRESS.fullmatch(line) for line in done.stderr.splitlines()), done.stderr


def test_progress_without_a_terminal(capsys, monkeypatch):
    with output.Progress(quiet=True) as progress:
        progress(0.5, 3, "too soon")
        monkeypatch.setattr(output, "LINE_SECONDS", 0)
        progress(1.5, 3, "float, loss 1.000")
    assert capsys.readouterr() == ("", "bivit: 1 of 3: float, loss 1.000\n")
