"""Records as JSON and CSV, and a target as TOML."""

import csv
import json
from pathlib import Path

from bivit.explore.space import Space
from bivit.hw.devices import RESOURCES

__all__ = ["COLUMNS", "target_toml", "write_csv", "write_json"]

COLUMNS = ("number", "status", "broken", "cycles", "interval", "latency_ms", "fps", "utilization",
           "bound", "accuracy", *RESOURCES, "array_luts", "memory_block_ram",
           "ultra_ram", "memory_kbit", "device_share", "instructions", "seconds")
"""Columns of the CSV in front of the design's parameters."""


def write_json(path: Path, content: dict) -> None:
    """One object, indented."""
    path.write_text(json.dumps(content, indent=1) + "\n")


def write_csv(path: Path, records: list[dict], space: Space) -> None:
    """A line for each design; what is not known is empty."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, *space.parameters])
        for record in records:
            row = record | {"broken": "; ".join(broken["constraint"]
                                                for broken in record["broken"])}
            writer.writerow(["" if row.get(name) is None else row[name] for name in COLUMNS]
                            + [record["design"][name] for name in space.parameters])


def target_toml(record: dict, about: str) -> str:
    """A target file for ``bivit compile --target``."""
    lines = [f"# {line}" for line in about.splitlines()]
    for name, value in record["target"].items():
        lines.append(f"{name} = {json.dumps(value)}")  # texts, numbers, true and false as in TOML
    return "\n".join(lines) + "\n"
