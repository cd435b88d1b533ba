"""The frame as a trace that Perfetto (ui.perfetto.dev) and chrome://tracing open.

The format is the JSON of the Trace Event Format. Its unit of time is the microsecond, and one cycle
is written as one: 1 ms on the screen is 1,000 cycles.
"""

import gzip
import json

from bivit.hw.isa import FORMATS, AddSource, ASource, BSource, Destination, SoftmaxMode, Unit
from bivit.sim.accounting import WAITS, useful_shares
from bivit.sim.report import Report

__all__ = ["trace_bytes", "trace_events"]

_PROCESS = 1
_TRACKS = {unit: 2 * number + 2 for number, unit in enumerate(Unit)}
"""Track (thread) of a unit; what it waits for is on the next one."""
_WINDOWS = 1000
"""Points of the curve of utilisation, at most."""
_NAMES = {"a_src": ASource, "b_src": BSource, "dst": Destination, "add_src": AddSource,
          "add2_src": AddSource, "mode": SoftmaxMode}


def trace_events(report: Report) -> dict:
    """The trace as an object: ``traceEvents`` and what is known about the whole."""
    figures = report.figures
    return {
        "traceEvents": [*_names(figures), *_slices(report.frame), *_flows(report.frame),
                        *_curve(report)],
        "displayTimeUnit": "ms",
        "otherData": {"unit": "1 cycle is written as 1 us", "target": figures["target"],
                      "cycles_per_image": str(figures["cycles_per_image"])},
    }


def trace_bytes(report: Report, *, compress: bool) -> bytes:
    """The trace as a file, gzip if `compress`; equal builds give equal bytes."""
    text = json.dumps(trace_events(report), separators=(",", ":")).encode()
    return gzip.compress(text, mtime=0) if compress else text


def _names(figures):
    yield _about("process_name", 0, name=f"bivit on {figures['target']}")
    for name in figures["units"]:
        track = _TRACKS[Unit[name]]
        yield _about("thread_name", track, name=name)
        yield _about("thread_sort_index", track, sort_index=track)
        yield _about("thread_name", track + 1, name=f"{name} waits for")
        yield _about("thread_sort_index", track + 1, sort_index=track + 1)


def _about(kind, track, **arguments):
    return {"ph": "M", "name": kind, "pid": _PROCESS, "tid": track, "args": arguments}


def _slices(frame):
    for number, step in enumerate(frame.steps):
        track, layer = _TRACKS[step.unit], frame.layers[step.layer]
        if step.wait:
            source = step.wait.source
            yield {"ph": "X", "pid": _PROCESS, "tid": track + 1, "cat": "wait",
                   "name": "dispatch" if source is None else WAITS[frame.steps[source].unit],
                   "ts": step.pop - step.wait.cycles, "dur": step.wait.cycles,
                   "args": {"layer": layer["name"]}}
        yield {"ph": "X", "pid": _PROCESS, "tid": track, "cat": step.opcode.name,
               "name": layer["name"], "ts": step.pop, "dur": step.occupancy,
               "args": {"step": number, "position": step.counter,
                        "opcode": step.opcode.name, "dispatch": step.dispatch,
                        "done": step.done} | _fields(step)}


def _fields(step):
    """Fields that are not 0, choices by name."""
    return {name: _NAMES[name](step.fields[name]).name if name in _NAMES else step.fields[name]
            for name in FORMATS[step.opcode]
            if step.fields[name]}


def _flows(frame):
    """An arrow from the step that was waited for to the one that waited."""
    for number, step in enumerate(frame.steps):
        if step.wait and step.wait.source is not None:
            source = frame.steps[step.wait.source]
            about = {"pid": _PROCESS, "cat": "wait", "name": "waited for", "id": number}
            yield about | {"ph": "s", "tid": _TRACKS[source.unit], "ts": source.end - 1}
            yield about | {"ph": "f", "bp": "e", "tid": _TRACKS[step.unit], "ts": step.pop}


def _curve(report):
    """Share of the array's bits that are useful, over the frame."""
    width = max(1, -(-report.frame.cycles // _WINDOWS))
    for window, share in enumerate(useful_shares(report.frame, report.products, width)):
        yield {"ph": "C", "pid": _PROCESS, "tid": 0, "name": "array utilisation",
               "ts": window * width, "args": {"useful %": round(100 * share, 2)}}
