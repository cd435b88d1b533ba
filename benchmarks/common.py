"""Where results go, and what they were measured on."""

import json
import os
import pathlib
import platform

__all__ = ["RESULTS", "load", "machine", "read", "write"]

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


def load() -> float:
    """Processes that ran or waited for a core, in the mean of the last minute: wall times of a
    machine that does something else, too, are no figures of an idle one."""
    return round(os.getloadavg()[0], 2)


def read(name: str) -> dict:
    """What :func:`write` wrote."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def write(name: str, figures: dict) -> None:
    """Write `figures` to ``benchmarks/results/<name>.json``."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"machine": machine(), **figures}, indent=1)
    (RESULTS / f"{name}.json").write_text(text + "\n")
