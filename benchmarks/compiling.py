"""Seconds and peak memory of a compilation, each in its own process; size of the Verilog."""

import pathlib
import re
import subprocess
import sys
import tempfile
import time

from bivit.hw.targets import TARGETS
from bivit.models.digits import CHECKPOINT

__all__ = ["measure"]

_COMPILE = """
import re, resource, sys
from bivit.compiler import compile
compile(*sys.argv[1:])
status = open("/proc/self/status").read()
own = int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1])  # ru_maxrss would count our parent's
yosys = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(max(own, yosys), "torch" in sys.modules)
"""


def measure() -> dict:
    """One row for each target."""
    rows = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in TARGETS:
            folder = pathlib.Path(scratch) / name
            start = time.perf_counter()
            answer = subprocess.run([sys.executable, "-c", _COMPILE, CHECKPOINT, name,
                                     folder], check=True, capture_output=True, text=True).stdout
            seconds = time.perf_counter() - start
            peak, torch = answer.split()[-2:]
            verilog = (folder / "accelerator.v").read_text()
            rows[name] = {
                "seconds": round(seconds, 1),
                "peak_mebibytes": round(int(peak) / 1024),
                "torch_imported": torch == "True",
                "verilog_lines": verilog.count("\n"),
                "verilog_modules": len(re.findall(r"^module ", verilog, re.MULTILINE)),
            }
    return {"targets": rows}
