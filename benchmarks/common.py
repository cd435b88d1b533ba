"""Where results go, and what they were measured on."""

import json
import os
import pathlib
import platform

__all__ = ["RESULTS", "machine", "write"]

RESULTS = pathlib.Path(__file__).parent / "results"


def machine() -> dict:
    """What the figures were measured on."""
    model = platform.processor()
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {"processor": model, "cores": os.cpu_count(), "python": platform.python_version()}


def write(name: str, figures: dict) -> None:
    """Write `figures` to ``benchmarks/results/<name>.json``."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"machine": machine(), **figures}, indent=1)
    (RESULTS / f"{name}.json").write_text(text + "\n")
