"""A search: nothing is lost, nothing is done twice, refused designs say why."""

import csv
import dataclasses
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import types

import psutil
import pytest

from bivit.cli.main import main
from bivit.compiler import build
from bivit.explore.front import front_of, spread
from bivit.explore.hardware import arch_of
from bivit.explore.search import search
from bivit.explore.space import Search, Space
from bivit.explore.space_file import load_space
from bivit.explore.store import Store
from bivit.explore.workers import Here, workers_of
from bivit.hw.devices import RESOURCES
from bivit.hw.targets import TARGETS
from bivit.sim.cycles import simulate_cycles


def explored(capsys, file, folder, *more, status=0):
    """Result of ``bivit explore --json``, and all records."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        main(["explore", str(file), "-o", str(folder), "--workers", "0", "--json", *more])
    out, err = capsys.readouterr()
    assert exit_.value.code == status, err
    return json.loads(out), json.loads((folder / "explore.json").read_text())["records"]


def without_time(records):
    return [{key: value for key, value in record.items() if key != "seconds"}
            for record in records]


def test_every_design_has_figures_or_a_reason(space_file, capsys, tmp_path):
    file, folder = space_file(16, "grid"), tmp_path / "out"
    result, records = explored(capsys, file, folder)
    assert len(records) == 16 and len({record["key"] for record in records}) == 16
    assert [record["number"] for record in records] == sorted(
        record["number"] for record in records)
    refused = [record for record in records if record["status"] == "refused"]
    assert len(refused) == result["refused"] == 4  # 3 rows, 2 columns
    for record in refused:
        assert record["broken"][0]["constraint"] == "architecture"
        assert "rows must be at most cols" in record["broken"][0]["text"]
    for record in records:
        if record["status"] == "done":
            assert sum(record["bounds"].values()) == pytest.approx(1)
            assert record["bounds"][record["bound"]] == max(record["bounds"].values())
            assert record["not_modelled"] is None and all(record[name] > 0 for name in RESOURCES)
            assert record["luts"] > record["array_luts"]
            assert record["block_ram"] >= record["memory_block_ram"]
    with (folder / "explore.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["number"] for row in rows] == [str(record["number"]) for record in records]


def test_the_target_is_the_record(space_file, capsys, tmp_path, network, monkeypatch):
    """What ``bivit compile`` makes of the target file takes the cycles of the record."""
    monkeypatch.setattr(build, "_verilog", lambda arch: "")
    folder = tmp_path / "out"
    result, records = explored(capsys, space_file(6), folder)
    chosen = next(record for record in records if record["number"] == result["chosen"])
    build.compile(network, folder / "target.toml", tmp_path / "build")
    made = build.load_build(tmp_path / "build")
    assert simulate_cycles(made.arch, made.words).cycles == chosen["cycles"]
    assert len(made.words) == chosen["instructions"]


def test_the_same_search_again(space_file, capsys, tmp_path):
    """Equal seeds find equal designs; a finished run is not repeated, another space refused."""
    file = space_file(10)
    first, records = explored(capsys, file, tmp_path / "one")
    second, again = explored(capsys, file, tmp_path / "two")
    assert without_time(records) == without_time(again)
    assert first["front"] and [record["number"] for record in first["front"]] == [
        record["number"] for record in second["front"]]
    _, same = explored(capsys, file, tmp_path / "one")
    assert same == records  # with its seconds: nothing was evaluated
    file.write_text(file.read_text().replace("seed = 3", "seed = 4"))
    with pytest.raises(SystemExit) as exit_:
        main(["explore", str(file), "-o", str(tmp_path / "one"), "--workers", "0"])
    assert exit_.value.code == 2 and "another space or seed" in capsys.readouterr().err


def finished(folder):
    """Keys and seconds of the designs in the storage."""
    try:
        with sqlite3.connect(f"file:{folder / 'explore.db'}?mode=ro", uri=True) as connection:
            rows = connection.execute("select value_json from trial_user_attributes").fetchall()
    except sqlite3.OperationalError:  # not there yet
        return {}
    records = [json.loads(json.loads(text)) for text, in rows]
    return {record["key"]: record["seconds"] for record in records}


def test_killed_and_resumed(space_file, capsys, tmp_path):
    file = space_file(10)
    undisturbed, records = explored(capsys, file, tmp_path / "one")
    killed = tmp_path / "two"
    process = subprocess.Popen(
        [sys.executable, "-m", "bivit.cli", "explore", file, "-o", killed, "--workers", "0"],
        stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=os.environ)
    while process.poll() is None and len(finished(killed)) < 2:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = finished(killed)
    assert 2 <= len(before) < len(records)
    result, resumed = explored(capsys, file, killed)
    assert without_time(resumed) == without_time(records)
    assert [record["number"] for record in result["front"]] == [
        record["number"] for record in undisturbed["front"]]
    after = {record["key"]: record["seconds"] for record in resumed}
    assert before.items() <= after.items()  # the same seconds: not evaluated again
    assert finished(killed) == after


def test_a_killed_worker(space_file, tmp_path):
    """SIGKILL to the only worker: another one goes on, and what was finished stays as it was."""
    space = load_space(space_file(10))
    alone = search(space, Store(f"sqlite:///{tmp_path / 'one.db'}", space), Here(space),
                   lambda *_: None)
    before = {}

    def kill(done, total, records):
        if len(records) >= 2 and not before:
            before.update((record["key"], record["seconds"]) for record in records)
            [worker] = [child for child in psutil.Process().children(recursive=True)
                        if "spawn_main" in " ".join(child.cmdline())]
            worker.send_signal(signal.SIGKILL)

    with workers_of(space, 1) as pool:
        records = search(space, Store(f"sqlite:///{tmp_path / 'two.db'}", space), pool, kill)
    assert without_time(records) == without_time(alone)
    after = {record["key"]: record["seconds"] for record in records}
    assert 2 <= len(before) < len(after) and before.items() <= after.items()


def test_limits_of_a_space(space_file, capsys, tmp_path):
    """Designs that break a limit are there and not on the front; a sentence if all do."""
    file = space_file(6, "grid")
    text = file.read_text()
    _, records = explored(capsys, file, tmp_path / "one")
    rates = sorted(record["fps"] for record in records if record["status"] == "done")
    limit = (rates[-1] + rates[-2]) / 2 if rates[-1] > rates[-2] else rates[-1]
    file.write_text(text.replace("[search]", f"[constraints]\nfps = {limit}\n[search]"))
    result, records = explored(capsys, file, tmp_path / "two")
    assert all(record["fps"] >= limit for record in result["front"])
    assert any(one["constraint"] == "fps" for record in records for one in record["broken"])
    file.write_text(text.replace("[search]", f"[constraints]\nfps = {9 * limit}\n[search]"))
    result, _ = explored(capsys, file, tmp_path / "three", status=1)
    assert not result["front"] and result["chosen"] is None
    assert f"must be at least {9 * limit:,.6g}" in result["verdict"]
    assert "what binds is the " in result["verdict"]


def test_front(space_file):
    space = load_space(space_file())
    records = [{"number": number, "status": "done", "broken": [], "interval": interval,
                "device_share": share} for number, (interval, share) in enumerate(
                    [(9, 1), (5, 5), (5, 5), (6, 6), (1, 9), (5, 6), (0, 0)])]
    records[-1]["broken"] = [{"constraint": "fps"}]
    front = front_of([*records, {"number": 7, "status": "refused", "broken": []}], space)
    assert [record["number"] for record in front] == [4, 1, 0]
    assert [record["number"] for record in spread(front, 2)] == [4, 0]
    assert spread(front, 5) == front and spread(front, 1) == front[:1]


def test_named_targets_come_first():
    """A search begins at the named targets of the device that are in the space, depths and all, and
    then at the arrays of named targets."""
    space = Space(hardware={"device": ("k26",), "clock": (100.0,), "rows": (4, 8), "cols": (8, 16),
                            "lanes": (32, 64), "post_rows": (2, 4), "weights": ("rom", "streamed")},
                  network={"name": ("digits",)}, search=Search(designs=5))
    asked = []

    def refuse(jobs):
        for key, (design, _) in jobs.items():
            asked.append(design)
            yield key, {"design": design, "status": "refused", "broken": []}

    store = types.SimpleNamespace(records={}, add=lambda record: None)
    search(space, store, types.SimpleNamespace(run=refuse), lambda *_: None)
    whole = ("k26-streamed", "zcu102-streamed")
    for design, name in zip(asked, (*whole, "zynq-7020-streamed", *whole), strict=True):
        assert all(design[field] == getattr(TARGETS[name], field) for field in (
            "rows", "cols", "lanes", "post_rows", "weights"))
    for design, name in zip(asked, whole, strict=False):
        assert arch_of(design) == dataclasses.replace(TARGETS[name], name="design")
    assert not any("resid_depth" in design for design in asked[len(whole):])
