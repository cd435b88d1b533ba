"""A worker and then the whole of ``bivit explore`` killed in the middle, and the same run again."""

import json
import pathlib
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time

import psutil

__all__ = ["killed_row"]

SPACE = """
objectives = ["interval", "device_share"]
[hardware]
device = ["ecp5-25f", "ecp5-85f"]
clock = 100
rows = [2, 3, 4, 6, 8]
cols = [4, 6, 8, 12]
lanes = [16, 24, 32, 64]
post_rows = [1, 2, 3]
[network]
name = "bivit_digits"
embed_dim = [24, 48]
depth = 1
num_heads = 2
[search]
designs = 48
generation = 12
seed = 5
"""
WORKER_AT, RUN_AT = 6, 18
"""Finished designs after which the worker, and then the run, is killed."""


def killed_row() -> dict:
    """What was lost, evaluated twice, or found otherwise: nothing, if all is well."""
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        (scratch / "space.toml").write_text(SPACE)
        _start(scratch, "whole").wait()
        process = _start(scratch, "killed")
        _wait(process, scratch, WORKER_AT)
        _workers(process)[0].send_signal(signal.SIGKILL)
        _wait(process, scratch, RUN_AT)
        process.send_signal(signal.SIGKILL)
        process.wait()
        before = _finished(scratch)
        _start(scratch, "killed").wait()
        after = _finished(scratch)
        whole, killed = (json.loads((scratch / name / "explore.json").read_text())
                         for name in ("whole", "killed"))
    return {"designs": len(whole["records"]), "finished_when_killed": len(before),
            "lost": sum(key not in after for key in before),
            "evaluated_twice": sum(after[key] != seconds for key, seconds in before.items()
                                   if key in after),
            "same_records": list(map(_figures, whole["records"])) == list(
                map(_figures, killed["records"])),
            "same_front": [record["key"] for record in whole["front"]] == [
                record["key"] for record in killed["front"]],
            "front": len(whole["front"])}


def _start(scratch, name):
    return subprocess.Popen(
        [sys.executable, "-m", "bivit.cli", "explore", scratch / "space.toml", "-o",
         scratch / name, "--workers", "2"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _workers(process):
    """Dask's workers among a process's children."""
    return [child for child in psutil.Process(process.pid).children(recursive=True)
            if "spawn_main" in " ".join(child.cmdline())]


def _wait(process, scratch, count):
    while len(_finished(scratch)) < count:
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.02)


def _finished(scratch):
    """Keys and seconds of the designs in the storage; a design that is there twice is an error."""
    path = scratch / "killed" / "explore.db"
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            rows = connection.execute("select value_json from trial_user_attributes").fetchall()
    except sqlite3.OperationalError:  # not there yet
        return {}
    records = [json.loads(json.loads(text)) for text, in rows]
    found = {record["key"]: record["seconds"] for record in records}
    assert len(found) == len(records), "a design is stored twice"
    return found


def _figures(record):
    return {name: value for name, value in record.items() if name != "seconds"}
